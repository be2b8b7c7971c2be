#include "store/volume/boot_id.h"

#include <algorithm>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/hex.h"

namespace blobcache::volume {

namespace {

absl::StatusOr<BootId> read_boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string text;
  file >> text;
  text.erase(std::remove(text.begin(), text.end(), '-'), text.end());
  BootId id;
  if (!base::from_hex(text, absl::MakeSpan(id.bytes))) {
    return absl::UnavailableError("/proc/sys/kernel/random/boot_id: no boot id");
  }
  return id;
}

}  // namespace

absl::StatusOr<BootId> BootId::current() {
  // It stays the same for as long as this process lives, and files are opened by the thousand.
  static const absl::StatusOr<BootId> id = read_boot_id();
  return id;
}

}  // namespace blobcache::volume
