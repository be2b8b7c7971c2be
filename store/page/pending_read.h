#pragma once

#include <memory>
#include <utility>

namespace blobcache::page {

/// Work with a callback that can be ended before it is through.
class PendingWork {
 public:
  PendingWork() = default;
  PendingWork(const PendingWork&) = delete;
  PendingWork& operator=(const PendingWork&) = delete;
  virtual ~PendingWork() = default;

  /// Calls the callback with CANCELLED, on this thread, unless it has been called already.
  /// Thread-safe.
  virtual void cancel() = 0;
};

/// A read that is under way (see Object::read), or a look at the page map (Object::map). Copies
/// refer to the same one. Destroying it changes nothing.
class PendingRead {
 public:
  PendingRead() = default;
  explicit PendingRead(std::weak_ptr<PendingWork> work) : work_(std::move(work)) {}

  /// Ends it early: its callback is called with CANCELLED, unless it has been called already. Other
  /// readers of the same pages are not touched. Thread-safe.
  void cancel() {
    if (const std::shared_ptr<PendingWork> work = work_.lock()) work->cancel();
  }

 private:
  std::weak_ptr<PendingWork> work_;
};

}  // namespace blobcache::page
