#include "store/page/object.h"

#include <utility>

#include "absl/synchronization/notification.h"
#include "store/page/impl/read_operation.h"

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

void PendingRead::cancel() {
  if (const std::shared_ptr<ReadOperation> operation = operation_.lock()) operation->cancel();
}

}  // namespace blobcache::page
