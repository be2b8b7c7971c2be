#include "fusefs/impl/mount_parcel.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "absl/time/time.h"

namespace blobcache::fusefs {

dev_t parse_device(const std::string& text) {
  unsigned major_number = 0;
  unsigned minor_number = 0;
  if (std::sscanf(text.c_str(), "%u:%u", &major_number, &minor_number) != 2) return 0;
  return makedev(major_number, minor_number);
}

void add_options(base::ParcelWriter& parcel, const MountOptions& options) {
  parcel.add_text(options.mountpoint.native());
  parcel.add_flag(options.allow_other);
  parcel.add_number(static_cast<uint64_t>(absl::ToInt64Nanoseconds(options.entry_timeout)));
  parcel.add_number(static_cast<uint64_t>(absl::ToInt64Nanoseconds(options.negative_timeout)));
  parcel.add_number(options.max_background);
  parcel.add_number(options.max_request_bytes);
  parcel.add_flag(options.async_direct);
  parcel.add_flag(options.read_only);
  parcel.add_flag(options.no_exec);
  parcel.add_flag(options.writeback_cache);
  parcel.add_number(static_cast<uint64_t>(options.passthrough));
  parcel.add_text(options.subtree);
}

MountOptions read_options(base::ParcelReader& parcel) {
  MountOptions options;
  options.mountpoint = parcel.text();
  options.allow_other = parcel.flag();
  options.entry_timeout = absl::Nanoseconds(static_cast<int64_t>(parcel.number()));
  options.negative_timeout = absl::Nanoseconds(static_cast<int64_t>(parcel.number()));
  options.max_background = static_cast<uint32_t>(parcel.number());
  options.max_request_bytes = parcel.number();
  options.async_direct = parcel.flag();
  options.read_only = parcel.flag();
  options.no_exec = parcel.flag();
  options.writeback_cache = parcel.flag();
  options.passthrough = static_cast<PassthroughFiles>(
      std::min(parcel.number(), static_cast<uint64_t>(PassthroughFiles::kSettled)));
  options.subtree = parcel.text();
  return options;
}

}  // namespace blobcache::fusefs
