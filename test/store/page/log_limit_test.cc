#include "store/page/impl/log_limit.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace blobcache::page {

TEST_CASE("log limit: a line a pause, and the next one tells how many were left out") {
  LogLimit limit;
  absl::Time now = absl::UnixEpoch();
  CHECK(limit.admit(now) == 0);
  for (int i = 0; i < 5; ++i) CHECK(limit.admit(now + absl::Milliseconds(i)) == std::nullopt);
  now += absl::Seconds(1) - absl::Nanoseconds(1);
  CHECK(limit.admit(now) == std::nullopt);
  now += absl::Nanoseconds(1);
  CHECK(limit.admit(now) == 6);
  CHECK(limit.admit(now) == std::nullopt);
  CHECK(limit.admit(now + absl::Hours(1)) == 1);
  CHECK(limit.admit(now + absl::Hours(2)) == 0);
}

TEST_CASE("log limit: a clock that was set back silences nothing") {
  LogLimit limit;
  const absl::Time now = absl::UnixEpoch() + absl::Hours(1000);
  CHECK(limit.admit(now) == 0);
  CHECK(limit.admit(now - absl::Hours(10)) == 0);
  CHECK(limit.admit(now - absl::Hours(10)) == std::nullopt);
}

TEST_CASE("log limit: none of many threads' lines is forgotten") {
  LogLimit limit;
  std::atomic<uint64_t> told{0};
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        const auto left_out = limit.admit(absl::UnixEpoch() + absl::Milliseconds(10 * i));
        if (left_out) told += 1 + *left_out;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  told += limit.admit(absl::InfiniteFuture()).value();
  CHECK(told == 4000);
}

}  // namespace blobcache::page
