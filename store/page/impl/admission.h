#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::page {

/// Lets reads that miss in only while there are frames for all that they need. A read takes its
/// places at once and holds them until it is answered, so reads never wait for frames that other
/// waiting reads hold: no deadlock however small the memory, and disk queues of bounded length.
///
/// There are lanes, each first come first served. Reads that may wait for a source get three
/// quarters of the places at most, so that a source which does not answer keeps nobody from what
/// the disk has. What nobody has asked for yet has lanes of its own, an eighth of the places each,
/// and is overtaken by all that somebody waits for.
///
/// The lanes are as long as the doors let them grow: each bounds its requests in flight.
/// Thread-safe.
class Admission {
 public:
  enum class Lane : uint8_t {
    kDisk,    ///< its object has no source
    kSource,  ///< it may have to wait for one
    kDiskAhead,
    kSourceAhead,
  };

  /// `places` extents may be held by reads at once; at least the most that one read needs.
  explicit Admission(uint64_t places) : places_(places), free_(places) {
    absl::MutexLock lock(&mutex_);
    line_of(Lane::kDisk).limit = places;
    line_of(Lane::kSource).limit = places * 5 / 8;
    line_of(Lane::kDiskAhead).limit = line_of(Lane::kSourceAhead).limit = places / 8;
  }

  /// A read is on its way: enter() follows.
  void expect() {
    absl::MutexLock lock(&mutex_);
    ++expected_;
    ++under_way_;
  }

  /// Calls `start` when `places` are free: now on this thread, or later on a thread that leaves.
  /// After expect(), once for each.
  void enter(Lane lane, uint64_t places, absl::AnyInvocable<void()> start) {
    {
      absl::MutexLock lock(&mutex_);
      --expected_;
      line_of(lane).waiting.push_back({next_number_++, places, std::move(start)});
    }
    let_in();
  }

  void leave(Lane lane, uint64_t places) {
    {
      absl::MutexLock lock(&mutex_);
      line_of(lane).used -= places;
      free_ += places;
      --under_way_;
    }
    let_in();
  }

  /// Reads that are expected, wait or are in.
  [[nodiscard]] uint64_t under_way() const {
    absl::MutexLock lock(&mutex_);
    return under_way_;
  }

  /// Nobody is in, nobody waits and nobody is on his way.
  [[nodiscard]] bool idle() {
    absl::MutexLock lock(&mutex_);
    return free_ == places_ && expected_ == 0 && !letting_in_ &&
           std::ranges::all_of(lanes_, [](const Line& line) { return line.waiting.empty(); });
  }

 private:
  struct Waiting {
    uint64_t number = 0;  ///< in the order they came, over both lanes
    uint64_t places = 0;
    absl::AnyInvocable<void()> start;
  };
  struct Line {
    uint64_t limit = 0;
    uint64_t used = 0;
    std::deque<Waiting> waiting;

    /// A lane that nobody is in takes any read, so that none waits for ever.
    [[nodiscard]] bool may_enter() const {
      return !waiting.empty() && (used == 0 || used + waiting.front().places <= limit);
    }
  };

  [[nodiscard]] Line& line_of(Lane lane) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return lanes_.at(static_cast<size_t>(lane));
  }

  /// Whose turn it is: nobody overtakes who waits for places, only who waits for his lane's.
  [[nodiscard]] Line* next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    Line* first = nullptr;
    for (Line& line : lanes_) {
      if (&line == &line_of(Lane::kDiskAhead) && first != nullptr) break;
      if (!line.may_enter()) continue;
      if (first == nullptr || line.waiting.front().number < first->waiting.front().number) {
        first = &line;
      }
    }
    return first != nullptr && first->waiting.front().places <= free_ ? first : nullptr;
  }

  /// Starts who is next while there are places. A read that starts may leave at once and come back
  /// here; the thread that is letting in already then goes on for it, so the stack does not grow
  /// with the line.
  void let_in() {
    absl::MutexLock lock(&mutex_);
    if (letting_in_) return;
    letting_in_ = true;
    while (Line* line = next()) {
      const uint64_t places = line->waiting.front().places;
      absl::AnyInvocable<void()> start = std::move(line->waiting.front().start);
      line->waiting.pop_front();
      line->used += places;
      free_ -= places;
      mutex_.Unlock();
      start();
      start = nullptr;
      mutex_.Lock();
    }
    letting_in_ = false;
  }

  const uint64_t places_;
  mutable absl::Mutex mutex_;
  bool letting_in_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t free_ ABSL_GUARDED_BY(mutex_);
  uint64_t expected_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t under_way_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t next_number_ ABSL_GUARDED_BY(mutex_) = 0;
  std::array<Line, 4> lanes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
