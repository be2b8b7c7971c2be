#include "store/page/object.h"

#include <utility>

#include "absl/synchronization/notification.h"

namespace blobcache::page {

absl::StatusOr<PinnedRange> Object::read_wait(uint64_t offset, uint64_t length) {
  absl::Notification ready;
  absl::StatusOr<PinnedRange> answer = absl::UnknownError("");
  read(offset, length, [&](absl::StatusOr<PinnedRange> result) {
    answer = std::move(result);
    ready.Notify();
  });
  ready.WaitForNotification();
  return answer;
}

}  // namespace blobcache::page
