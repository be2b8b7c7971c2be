#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>

#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "store/page/impl/io_ring.h"
#include "store/page/thread_ring.h"

namespace blobcache::page {

/// The io_uring of one thread. What it cannot do with one step, as the kernel moved a part or
/// failed, and what it has no place for, is left to the store's ring.
class ThreadRing::Impl {
 public:
  Impl() = default;
  ~Impl();  ///< nothing is under way
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  /// As IoRing::read(). False when it cannot take it: then `done` is as it was.
  [[nodiscard]] bool read(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed,
                          IoRing::Done& done, IoRing& store_ring);
  [[nodiscard]] bool busy() const { return under_way_ > 0; }
  [[nodiscard]] int wake_fd() const { return event_.get(); }
  void submit();
  void woken();
  void reap();
  void wait();

 private:
  struct Read;
  enum class State : uint8_t { kNew, kReady, kNone };

  static constexpr unsigned kDepth = 128;
  /// The disk is busy while the rest of a batch is handled: with all at once, the client, this
  /// thread and the disk take turns, and a read at depth 32 takes half as long again.
  static constexpr unsigned kSubmitEvery = 2;

  [[nodiscard]] bool is_set_up();

  State state_ = State::kNew;
  io_uring ring_{};
  base::UniqueFd event_;  ///< the kernel writes to it when something has come
  unsigned under_way_ = 0;
};

}  // namespace blobcache::page
