#include "store/page/impl/disk_budget.h"

#include <doctest/doctest.h>

#include <string>

namespace blobcache::page {
namespace {

/// Gives up one cached kilobyte a call, as long as there is one.
class OneKilobyte final : public DiskReclaimer {
 public:
  explicit OneKilobyte(DiskBudget& budget) : budget_(budget) {}
  uint64_t reclaim(uint64_t /*bytes*/) override {
    if (left == 0) return 0;
    --left;
    budget_.release(1024, Retention::kCached);
    return 1024;
  }
  uint64_t reclaim_files(uint64_t /*files*/) override { return 0; }
  int left = 0;

 private:
  DiskBudget& budget_;
};

uint64_t free_bytes() { return DiskBudget("/tmp", 1, 0).usage().free; }

}  // namespace

TEST_CASE("the budget refuses what does not fit and says why") {
  DiskBudget budget("/tmp", 10 * 1024, 0);
  CHECK(budget.reserve(8 * 1024, Retention::kKept).ok());
  const absl::Status refused = budget.reserve(4 * 1024, Retention::kKept);
  CHECK(absl::IsResourceExhausted(refused));
  CHECK(std::string(refused.message()).find("10.0 KiB") != std::string::npos);
  CHECK(budget.usage().used == 8 * 1024);
  budget.release(8 * 1024, Retention::kKept);
  CHECK(budget.reserve(10 * 1024, Retention::kCached).ok());
}

TEST_CASE("the reserve keeps the same share of inodes as of bytes") {
  const FileSystemState half_full{.bytes = 1000, .inodes = 100, .free_inodes = 12};
  CHECK(has_inodes(half_full, 100, 2));
  CHECK_FALSE(has_inodes(half_full, 100, 3));
  CHECK(has_inodes(half_full, 0, 12));
  CHECK_FALSE(has_inodes(half_full, 0, 13));
  // What cannot be kept free is not demanded.
  CHECK_FALSE(has_inodes(half_full, 5000, 1));
}

TEST_CASE("a file system that reports no inodes is not taken for full") {
  CHECK(has_inodes({.bytes = 1000, .inodes = 0, .free_inodes = 0}, 100, 1'000'000));
}

TEST_CASE("cached objects make room, kept ones do not") {
  DiskBudget budget("/tmp", 10 * 1024, 0);
  OneKilobyte reclaimer(budget);
  budget.set_reclaimer(&reclaimer);
  budget.restore(6 * 1024, 4 * 1024);
  reclaimer.left = 4;
  CHECK(budget.reserve(3 * 1024, Retention::kKept).ok());
  CHECK(reclaimer.left == 1);
  CHECK(budget.usage().kept == 9 * 1024);
  CHECK(absl::IsResourceExhausted(budget.reserve(2 * 1024, Retention::kKept)));
  CHECK(budget.usage().kept == 9 * 1024);
  budget.set_reclaimer(nullptr);
}

TEST_CASE("the file system's reserve is respected") {
  DiskBudget budget("/tmp", UINT64_MAX, UINT64_MAX / 2);
  const absl::Status refused = budget.reserve(1, Retention::kCached);
  CHECK(absl::IsResourceExhausted(refused));
  CHECK(std::string(refused.message()).find("/tmp") != std::string::npos);
}

TEST_CASE("what is not on the disk yet counts against the reserve, too") {
  constexpr uint64_t kGiB = uint64_t{1} << 30;
  // Room for two and a half, however much others write meanwhile.
  const uint64_t free = free_bytes();
  REQUIRE(free > 4 * kGiB);
  DiskBudget budget("/tmp", UINT64_MAX, free - 5 * kGiB / 2);
  REQUIRE(budget.reserve(kGiB, Retention::kKept).ok());
  REQUIRE(budget.reserve(kGiB, Retention::kKept).ok());
  CHECK(absl::IsResourceExhausted(budget.reserve(kGiB, Retention::kKept)));
  CHECK(budget.usage().used == 2 * kGiB);
  budget.settled(kGiB);
  CHECK(budget.reserve(kGiB, Retention::kKept).ok());
}

TEST_CASE("retention moves between the accounts") {
  DiskBudget budget("/tmp", 10 * 1024, 0);
  REQUIRE(budget.reserve(4 * 1024, Retention::kKept).ok());
  budget.change(Retention::kKept, Retention::kCached, 4 * 1024);
  CHECK(budget.usage().kept == 0);
  CHECK(budget.usage().used == 4 * 1024);
}

}  // namespace blobcache::page
