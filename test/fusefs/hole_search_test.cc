#include "fusefs/impl/hole_search.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

namespace blobcache::fusefs {
namespace {

using Kind = Stretch::Kind;

/// A map of one kind after the other, told a few stretches at a time; at once, or by another
/// thread.
struct FakeMap {
  std::vector<Stretch> stretches;
  size_t at_a_time = 1;
  bool by_another_thread = false;

  [[nodiscard]] uint64_t size() const {
    uint64_t out = 0;
    for (const Stretch& stretch : stretches) out += stretch.length;
    return out;
  }

  [[nodiscard]] std::vector<Stretch> from(uint64_t at) const {
    std::vector<Stretch> out;
    uint64_t begin = 0;
    for (const Stretch& stretch : stretches) {
      const uint64_t end = begin + stretch.length;
      if (end > at && out.size() < at_a_time) {
        out.push_back({end - std::max(begin, at), stretch.is_hole});
      }
      begin = end;
    }
    return out;
  }

  /// The offset, or nothing when there is none.
  [[nodiscard]] std::optional<uint64_t> search(Kind wanted, uint64_t begin) const {
    absl::StatusOr<uint64_t> result = absl::UnknownError("never told");
    absl::AnyInvocable<void()> later;
    size_t asked = 0;
    HoleSearch::start(
        wanted, {begin, size()},
        [&](uint64_t at, uint64_t /*length*/, HoleSearch::Told told) {
          absl::AnyInvocable<void()> answer =
              [stretches = from(at), told = std::move(told)]() mutable { told(stretches); };
          if (!by_another_thread) {
            answer();
          } else if (asked++ % 2 == 0) {  // before the call that asked returns
            std::thread(std::move(answer)).join();
          } else {
            later = std::move(answer);
          }
        },
        [&](const absl::StatusOr<uint64_t>& found) { result = found; });
    while (later != nullptr) std::thread(std::exchange(later, nullptr)).join();
    if (result.ok()) return *result;
    CHECK(absl::IsNotFound(result.status()));
    return std::nullopt;
  }
};

TEST_CASE("fusefs hole search: finds the next byte of each kind") {
  for (const size_t at_a_time : {size_t{1}, size_t{2}, size_t{100}}) {
    const FakeMap map{{{10, false}, {5, false}, {20, true}, {1, true}, {4, false}}, at_a_time};
    CHECK(map.search(Kind::kData, 0) == 0);
    CHECK(map.search(Kind::kHole, 0) == 15);
    CHECK(map.search(Kind::kHole, 17) == 17);
    CHECK(map.search(Kind::kData, 17) == 36);
    CHECK(map.search(Kind::kData, 39) == 39);
    CHECK(map.search(Kind::kHole, 36) == 40);  // the end
  }
}

TEST_CASE("fusefs hole search: no data up to the end is not found") {
  const FakeMap map{{{10, false}, {20, true}, {20, true}}};
  CHECK_FALSE(map.search(Kind::kData, 10).has_value());
  CHECK(map.search(Kind::kHole, 29) == 29);
}

TEST_CASE("fusefs hole search: answers that come before or after the call that asked returns") {
  FakeMap map{{{10, false}, {5, false}, {20, true}, {4, false}}};
  map.by_another_thread = true;
  CHECK(map.search(Kind::kHole, 1) == 15);
  CHECK(map.search(Kind::kData, 15) == 35);
}

TEST_CASE("fusefs hole search: a map of very many stretches takes no more stack") {
  FakeMap map;
  map.stretches.assign(2000, Stretch{1, true});
  map.stretches.push_back({1, false});
  CHECK(map.search(Kind::kData, 0) == 2000);
}

TEST_CASE("fusefs hole search: tells what it found when nothing is being asked any more") {
  bool asking = false;
  bool told_meanwhile = true;
  HoleSearch::start(
      Kind::kHole, {0, 10},
      [&](uint64_t, uint64_t, HoleSearch::Told told) {
        asking = true;
        told(std::vector<Stretch>{{10, true}});
        asking = false;
      },
      [&](const absl::StatusOr<uint64_t>& /*found*/) { told_meanwhile = asking; });
  CHECK_FALSE(told_meanwhile);
}

TEST_CASE(
    "fusefs hole search: what the map fails with is told, and a map that tells nothing ends") {
  absl::StatusOr<uint64_t> result = 0;
  const auto keep = [&](const absl::StatusOr<uint64_t>& found) { result = found; };
  HoleSearch::start(
      Kind::kData, {0, 10},
      [](uint64_t, uint64_t, HoleSearch::Told told) { told(absl::DataLossError("map")); }, keep);
  CHECK(absl::IsDataLoss(result.status()));
  HoleSearch::start(
      Kind::kData, {0, 10},
      [](uint64_t, uint64_t, HoleSearch::Told told) { told(std::vector<Stretch>()); }, keep);
  CHECK(absl::IsInternal(result.status()));
}

}  // namespace
}  // namespace blobcache::fusefs
