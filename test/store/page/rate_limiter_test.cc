#include "store/page/rate_limiter.h"

#include <doctest/doctest.h>

#include <cstdint>

namespace blobcache::page {

TEST_CASE("no limit never waits") {
  RateLimiter limiter(0);
  const absl::Time now = absl::FromUnixSeconds(1'000);
  for (int i = 0; i < 100; ++i) CHECK(limiter.take(now, uint64_t{1} << 40) == absl::ZeroDuration());
}

TEST_CASE("who waits as he is told moves the bytes of the rate, and no more") {
  constexpr uint64_t kRate = 100U << 20;
  constexpr uint64_t kStep = 1U << 20;
  RateLimiter limiter(kRate);
  const absl::Time begin = absl::FromUnixSeconds(1'000);
  absl::Time now = begin;
  uint64_t moved = 0;
  for (int i = 0; i < 1'000; ++i) {
    const absl::Duration wait = limiter.take(now, kStep);
    CHECK(wait >= absl::ZeroDuration());
    now += wait;
    moved += kStep;
    const double seconds = absl::ToDoubleSeconds(now - begin + RateLimiter::kSlack);
    CHECK(static_cast<double>(moved) <= seconds * kRate + kStep + 1);
  }
  CHECK(absl::ToDoubleSeconds(now - begin) == doctest::Approx(10).epsilon(0.02));
}

TEST_CASE("a late step catches up by the slack, not by all that it missed") {
  constexpr uint64_t kRate = 1'000'000;
  RateLimiter limiter(kRate);
  absl::Time now = absl::FromUnixSeconds(1'000);
  CHECK(limiter.take(now, kRate) == absl::ZeroDuration());
  now += absl::Hours(1);
  uint64_t at_once = 0;
  while (limiter.take(now, 10'000) == absl::ZeroDuration()) at_once += 10'000;
  CHECK(static_cast<double>(at_once) ==
        doctest::Approx(absl::ToDoubleSeconds(RateLimiter::kSlack) * kRate).epsilon(0.2));
}

TEST_CASE("a step larger than a second's worth is paid for by those after it") {
  RateLimiter limiter(1'000);
  const absl::Time now = absl::FromUnixSeconds(1'000);
  CHECK(limiter.take(now, 60'000) == absl::ZeroDuration());
  const absl::Duration wait = limiter.take(now, 1);
  CHECK(wait > absl::Seconds(59));
  CHECK(wait <= absl::Seconds(60));
}

}  // namespace blobcache::page
