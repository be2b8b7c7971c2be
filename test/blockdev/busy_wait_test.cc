#include "blockdev/impl/busy_wait.h"

#include <doctest/doctest.h>

namespace blobcache::blockdev {
namespace {

constexpr auto kNever = [] { return false; };

TEST_CASE("busy wait: a thread spins only after a short sleep, until a spin was for nothing") {
  SpinSlots slots(2);
  BusyWait wait(slots);
  int calls = 0;
  const auto at_third = [&calls] { return ++calls == 3; };
  CHECK_FALSE(wait.spin(at_third));  // cold: the socket is not even looked at
  CHECK(calls == 0);
  // How long a sleep really is belongs to the machine, so try until one is short.
  while (!wait.hot()) {
    wait.before_sleep();
    wait.after_sleep();
  }
  CHECK(wait.spin([] { return true; }));
  CHECK(wait.hot());
  CHECK_FALSE(wait.spin(kNever));
  CHECK_FALSE(wait.hot());
}

TEST_CASE("busy wait: a sleep that was not short ends the spinning") {
  SpinSlots slots(2);
  BusyWait wait(slots);
  wait.before_sleep();
  const auto until = BusyWait::Clock::now() + BusyWait::kShortSleep;
  while (BusyWait::Clock::now() < until) BusyWait::relax();
  wait.after_sleep();
  CHECK_FALSE(wait.hot());
}

TEST_CASE("busy wait: half of the processors may spin, and slots come back") {
  SpinSlots slots(5);
  CHECK(slots.take());
  CHECK(slots.take());
  CHECK_FALSE(slots.take());
  slots.give_back();
  CHECK(slots.take());
  SpinSlots one(1);
  CHECK_FALSE(one.take());
}

}  // namespace
}  // namespace blobcache::blockdev
