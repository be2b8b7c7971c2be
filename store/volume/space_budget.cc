#include "store/volume/space_budget.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "base/size.h"

namespace blobcache::volume {

FreeSpace FreeSpace::of(std::filesystem::path path, uint64_t reserve_bytes) {
  return {reserve_bytes, [path = std::move(path)] {
            struct statvfs info{};
            // The write itself will tell.
            if (::statvfs(path.c_str(), &info) != 0) return std::numeric_limits<uint64_t>::max();
            return uint64_t{info.f_bavail} * info.f_frsize;
          }};
}

absl::Status SpaceBudget::take(uint64_t bytes) {
  if (!take_of_limit(bytes)) {
    return absl::ResourceExhaustedError("the volumes' space is used up");
  }
  absl::Status status = take_of_free(bytes);
  if (!status.ok()) give(bytes);
  return status;
}

bool SpaceBudget::take_of_limit(uint64_t bytes) {
  uint64_t used = used_.load(std::memory_order_relaxed);
  for (;;) {
    const uint64_t limit = limit_.load(std::memory_order_relaxed);
    if (used > limit || bytes > limit - used) return false;
    if (used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed)) return true;
  }
}

absl::Status SpaceBudget::take_of_free(uint64_t bytes) {
  const uint64_t reserve = space_.reserve_bytes;
  if (reserve == 0 || !space_.free_bytes) return absl::OkStatus();
  uint64_t seen = seen_free_.load(std::memory_order_relaxed);
  while (seen >= bytes) {
    if (seen_free_.compare_exchange_weak(seen, seen - bytes, std::memory_order_relaxed)) {
      return absl::OkStatus();
    }
  }
  const uint64_t free = space_.free_bytes();
  if (free < reserve || free - reserve < bytes) {
    return absl::ResourceExhaustedError(
        fmt::format("the file system of the volumes is full: {} free, {} of them are reserve",
                    base::format_size(free), base::format_size(reserve)));
  }
  seen_free_.store(std::min(free - reserve - bytes, kBytesALook), std::memory_order_relaxed);
  return absl::OkStatus();
}

}  // namespace blobcache::volume
