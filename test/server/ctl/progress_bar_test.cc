#include "server/ctl/progress_bar.h"

#include <doctest/doctest.h>

#include <string>

#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

Progress half_way() {
  Progress progress;
  progress.label = "debian.raw";
  progress.done = 50 * kMiB;
  progress.total = 100 * kMiB;
  progress.bytes_per_second = 10.0 * kMiB;
  progress.elapsed_seconds = 5;
  return progress;
}

TEST_CASE("with a known size: percent, bar, bytes, rate and time left") {
  const std::string line = render_progress(half_way(), 100);
  CHECK(line ==
        "debian.raw   50%  [=================>                ]  "
        "50.0 MiB of 100.0 MiB  10.0 MiB/s  0:05 left");
}

TEST_CASE("a line is never wider than the terminal") {
  Progress progress = half_way();
  progress.label = "a-very-long-name-that-goes-on-and-on-and-on-forever.raw";
  for (size_t width = 0; width < 200; ++width) {
    CAPTURE(width);
    CHECK(display_width(render_progress(progress, width)) <= width);
  }
}

TEST_CASE("a narrow terminal loses the bar, then the label, then the figures") {
  CHECK(render_progress(half_way(), 68).find('[') == std::string::npos);
  CHECK(render_progress(half_way(), 68).find("debian.raw") != std::string::npos);
  CHECK(render_progress(half_way(), 55).find("debian.raw") == std::string::npos);
  CHECK(render_progress(half_way(), 55).find("0:05 left") != std::string::npos);
  CHECK(render_progress(half_way(), 10) == " 50%");
}

TEST_CASE("with an unknown size: bytes, rate and time that has passed") {
  Progress progress = half_way();
  progress.total.reset();
  CHECK(render_progress(progress, 100) == "debian.raw  50.0 MiB  10.0 MiB/s  0:05");
}

TEST_CASE("100% is shown only when all is done, and never more") {
  Progress progress = half_way();
  progress.done = 100 * kMiB - 1;
  CHECK(render_progress(progress, 100).find(" 99%") != std::string::npos);
  progress.done = 100 * kMiB;
  CHECK(render_progress(progress, 100).find("100%") != std::string::npos);
  CHECK(render_progress(progress, 100).find("left") == std::string::npos);
  progress.done = 120 * kMiB;  // the file grew while it was read
  CHECK(render_progress(progress, 100).find("100%") != std::string::npos);
}

TEST_CASE("a transfer that stands still promises no end, and an empty one is done") {
  Progress progress = half_way();
  progress.bytes_per_second = 0;
  CHECK(render_progress(progress, 100).find("left") == std::string::npos);
  progress.total = 0;
  progress.done = 0;
  CHECK(render_progress(progress, 100).find("100%") != std::string::npos);
}

TEST_CASE("the rate is that of the last seconds") {
  const absl::Time start = absl::FromUnixSeconds(1000);
  RateMeter rate;
  CHECK_FALSE(rate.bytes_per_second().has_value());
  rate.add(start, 0);
  rate.add(start + absl::Milliseconds(10), 1000);
  CHECK_FALSE(rate.bytes_per_second().has_value());
  rate.add(start + absl::Seconds(1), 1000);
  CHECK(*rate.bytes_per_second() == doctest::Approx(1000));
  // Fast at first, slow for a long while: the beginning is forgotten.
  uint64_t done = 1'000'000;
  for (int tenth = 20; tenth <= 300; ++tenth) {
    done += 10;
    rate.add(start + absl::Milliseconds(100 * tenth), done);
  }
  CHECK(*rate.bytes_per_second() == doctest::Approx(100).epsilon(0.01));
}

TEST_CASE("one sample every ten seconds still makes a rate") {
  const absl::Time start = absl::FromUnixSeconds(1000);
  RateMeter rate;
  for (int i = 0; i < 10; ++i) {
    rate.add(start + absl::Seconds(10 * i), static_cast<uint64_t>(i) * 1000);
  }
  CHECK(*rate.bytes_per_second() == doctest::Approx(100));
}

TEST_CASE("a disabled bar can be driven and cleared") {
  ProgressBar bar("x", 10, false);
  bar.advance(5);
  bar.set_total(20);
  bar.clear();
  bar.clear();
}

}  // namespace
}  // namespace blobcache::ctl
