#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace blobcache::blockdev {

/// How many connections may spin at once: half of the processors, for the others are their
/// clients'. With one processor nobody spins. Shared by a server's connections; thread-safe.
class SpinSlots {
 public:
  explicit SpinSlots(uint32_t processors) : free_(static_cast<int32_t>(processors / 2)) {}

  [[nodiscard]] bool take() {
    if (free_.load(std::memory_order_relaxed) <= 0) return false;
    if (free_.fetch_sub(1, std::memory_order_relaxed) > 0) return true;
    give_back();
    return false;
  }
  void give_back() { free_.fetch_add(1, std::memory_order_relaxed); }

 private:
  std::atomic<int32_t> free_;
};

/// Decides whether a connection's thread should watch its socket for a moment before it sleeps.
///
/// A sleep costs both sides: the client pays for waking us with each request that it sends, and we
/// come late. So while requests come closer together than kSpin the thread spins, up to kSpin; once
/// one spin was for nothing it sleeps, and spins again only after a sleep that was shorter than
/// kShortSleep. An idle or slow connection thus costs at most one kSpin a sleep, and mostly
/// nothing. (The kernel's KVM polls for halted processors by the same rule.)
///
/// One thread, except where SpinSlots says otherwise.
class BusyWait {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds kSpin{50};
  static constexpr std::chrono::microseconds kShortSleep{100};

  /// `slots` must outlive this.
  explicit BusyWait(SpinSlots& slots) : slots_(slots) {}
  BusyWait(const BusyWait&) = delete;
  BusyWait& operator=(const BusyWait&) = delete;

  [[nodiscard]] bool hot() const { return hot_; }

  /// Calls `came` until it returns true (then true is returned) or the time is over or spinning is
  /// not worth it.
  template <typename Came>
  [[nodiscard]] bool spin(Came came) {
    if (!hot_ || !slots_.take()) return false;
    const Clock::time_point until = Clock::now() + kSpin;
    bool done = came();
    while (!done && Clock::now() < until) {
      relax();
      done = came();
    }
    slots_.give_back();
    hot_ = done;
    return done;
  }

  /// Around a sleep that waits for the client.
  void before_sleep() { slept_at_ = Clock::now(); }
  void after_sleep() { hot_ = Clock::now() - slept_at_ < kShortSleep; }

  /// About a microsecond that leaves the processor's execution units and the socket's lock to
  /// others.
  static void relax() {
    for (int i = 0; i < 32; ++i) {
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#elif defined(__aarch64__)
      asm volatile("yield");
#endif
    }
  }

 private:
  SpinSlots& slots_;
  bool hot_ = false;
  Clock::time_point slept_at_;
};

}  // namespace blobcache::blockdev
