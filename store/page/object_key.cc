#include "store/page/object_key.h"

#include <sys/random.h>

#include <cstdlib>

#include "absl/types/span.h"
#include "base/hex.h"

namespace blobcache::page {
std::string ObjectKey::hex() const { return base::to_hex(bytes); }

std::string Incarnation::hex() const { return base::to_hex(bytes); }

namespace {

/// Fills what is no longer than 256 bytes.
void fill_at_random(absl::Span<uint8_t> bytes) {
  // So few come whole or not at all, and only a kernel without the call could refuse them.
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    std::abort();
  }
}

}  // namespace

ObjectKey ObjectKey::random() {
  ObjectKey made;
  fill_at_random(absl::MakeSpan(made.bytes));
  return made;
}

Incarnation Incarnation::random() {
  Incarnation made;
  fill_at_random(absl::MakeSpan(made.bytes));
  return made;
}

}  // namespace blobcache::page
