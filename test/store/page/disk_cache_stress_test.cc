// What sources bring, on disk: when it goes by age, and under readers, pressure and kills at once.

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <memory>
#include <random>
#include <set>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "store/page/page_map.h"
#include "store/page/page_store.h"
#include "test/store/page/remote.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

/// A clock that moves when it is told to. Thread-safe.
class ManualClock {
 public:
  [[nodiscard]] absl::Time now() const { return absl::FromUnixNanos(now_ns_.load()); }
  void advance(absl::Duration by) { now_ns_.fetch_add(absl::ToInt64Nanoseconds(by)); }

 private:
  std::atomic<int64_t> now_ns_{
      absl::GetCurrentTimeNanos()};  // files found at the start have its times
};

/// Copies a folder each time the n-th write or hole of it is about to be made, for every n of a
/// few: what a kill would leave there. Whoever makes them waits meanwhile, so nothing changes under
/// the copy.
class Snapshots {
 public:
  explicit Snapshots(std::set<int> steps) : steps_(std::move(steps)) {}

  DiskFault hook() {
    return [this](const DiskStep& step) {
      const bool changes =
          step.kind == DiskStep::Kind::kWrite || step.kind == DiskStep::Kind::kPunchHole;
      if (changes && !folder_.empty() && steps_.contains(seen_++)) copy();
      return 0;
    };
  }
  void watch(const std::filesystem::path& folder) { folder_ = folder; }
  /// Whether there is a copy for each step.
  [[nodiscard]] bool complete() const { return made_ == steps_.size(); }
  /// Not while the store works.
  [[nodiscard]] const auto& copies() const { return copies_; }

 private:
  void copy() {
    copies_.push_back(std::make_unique<test::TemporaryDirectory>());
    std::error_code error;
    std::filesystem::copy(folder_, copies_.back()->path() / folder_.filename(),
                          std::filesystem::copy_options::recursive, error);
    made_ += error ? 0 : 1;
  }

  const std::set<int> steps_;
  std::filesystem::path folder_;
  std::atomic<int> seen_{0};
  std::atomic<size_t> made_{0};
  std::vector<std::unique_ptr<test::TemporaryDirectory>> copies_;
};

}  // namespace

TEST_CASE("objects that nobody uses lose their pages when their time is over") {
  ManualClock clock;
  Fixture fixture(kMemory);
  fixture.options().cached_ttl = absl::Hours(2);
  fixture.options().clock = [&clock] { return clock.now(); };
  fixture.reopen();
  const Remote idle(kExtentSize, 1);
  const Remote used(kExtentSize, 2);
  const Remote pinned(kExtentSize, 3);
  fixture.store().pin_cached(pinned.key, true);
  for (const Remote* remote : {&idle, &used, &pinned}) CHECK(remote->read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  const auto pass = [&](absl::Duration time) {
    clock.advance(time);
    // The cache's thread sleeps by the real time: a task makes it look at its clock.
    fixture.store().forget_cached(key_of(4));
    fixture.store().wait_cached();
  };
  // Whoever has just read an object's map may hold the object for a moment more: its files go at a
  // later pass.
  const auto pass_until = [&](absl::Duration time, uint64_t files) {
    pass(time);
    for (int i = 0; i < 30 && Fixture::files_under(fixture.path() / "cache") > files; ++i) {
      absl::SleepFor(absl::Milliseconds(10 * i));
      pass(absl::Minutes(1));  // a sweep
    }
  };
  pass(absl::Hours(1));
  CHECK(Fixture::files_under(fixture.path() / "cache") == 6);
  CHECK(used.read_all(fixture.store()) == 0);
  pass_until(absl::Hours(1) + absl::Seconds(1), 4);
  CHECK_FALSE(std::filesystem::exists(fixture.cached_file_of(idle.key)));
  CHECK(Fixture::files_under(fixture.path() / "cache") == 4);
  CHECK(fixture.store().stats().disk_filled_extents == 2);
  CHECK(fixture.store().stats().disk_used_bytes == Fixture::data_under(fixture.path() / "cache"));

  // What earlier runs left counts from its files' last change.
  fixture.reopen();
  fixture.store().wait_cached();
  pass_until(absl::Hours(3), 0);
  CHECK(Fixture::files_under(fixture.path() / "cache") == 0);
  CHECK(fixture.store().stats().disk_used_bytes == 0);
}

TEST_CASE("many readers, little memory, little disk: every byte right") {
  constexpr uint64_t kBudget = uint64_t{5} << 20;
  Fixture fixture(PageStore::kMinMemory, kBudget);
  std::vector<Remote> remotes;
  for (uint8_t name = 1; name <= 6; ++name) {
    remotes.emplace_back((uint64_t{3} << 20) + 1000 * name, name);
  }
  std::atomic<bool> wrong{false};
  std::atomic<uint64_t> most{0};
  std::vector<std::thread> readers;
  for (uint32_t reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937 random(reader);
      for (int i = 0; i < 600; ++i) {
        const Remote& remote = remotes[random() % remotes.size()];
        const uint64_t offset = random() % remote.content().size();
        const uint64_t length = std::min<uint64_t>(
            1 + random() % (random() % 4 == 0 ? 300000 : 5000), remote.content().size() - offset);
        if (!reads_as(*remote.attach(fixture.store()), remote.content(), offset, length)) {
          wrong = true;
        }
        const uint64_t used = fixture.store().stats().disk_used_bytes;
        if (used > most) most = used;
        if (random() % 50 == 0) fixture.store().evict_memory(*remote.attach(fixture.store()));
        if (random() % 200 == 0) fixture.store().forget_cached(remote.key);
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  CHECK(!wrong);
  CHECK(most <= kBudget);
  CHECK(fixture.store().stats().checksum_errors == 0);
  fixture.store().wait_cached();
  CHECK(fixture.store().stats().disk_used_bytes <= kBudget);
  CHECK(Fixture::data_under(fixture.path() / "cache") <=
        kBudget + 2 * kMapBlockSize * remotes.size());
  fixture.reopen();
  for (const Remote& remote : remotes) CHECK(remote.read_all(fixture.store()) >= 0);
  CHECK(fixture.store().stats().checksum_errors == 0);
}

TEST_CASE("whatever state a kill leaves behind, every byte is right") {
  constexpr uint64_t kBudget = uint64_t{5} << 20;
  // Of the first objects' files, and later, when evictions make holes.
  Snapshots snapshots({1, 2, 3, 4, 5, 50, 100, 101, 102, 103, 200, 300, 301});
  Fixture fixture(PageStore::kMinMemory, kBudget, nullptr, snapshots.hook());
  std::vector<Remote> remotes;
  for (uint8_t name = 1; name <= 4; ++name) remotes.emplace_back(uint64_t{3} << 20, name);
  snapshots.watch(fixture.path() / "cache");
  std::mt19937 random(7);
  for (int reads = 0; reads < 20000 && !snapshots.complete(); ++reads) {
    const Remote& remote = remotes[random() % remotes.size()];
    const uint64_t offset = random() % (remote.content().size() - kExtentSize);
    REQUIRE(remote.read(fixture.store(), offset, kExtentSize) >= 0);
  }
  fixture.close();
  REQUIRE(snapshots.complete());
  int64_t most_kept = 0;
  for (const auto& copy : snapshots.copies()) {
    CHECK(Fixture::files_under(copy->path() / "cache") > 0);
    PageStoreOptions options = fixture.options();
    options.disk_fault = nullptr;
    options.path = copy->path();
    auto store = PageStore::open(options);
    REQUIRE(store.ok());
    (*store)->wait_cached();
    const auto kept = static_cast<int64_t>((*store)->stats().disk_filled_bytes);
    most_kept = std::max(most_kept, kept);
    for (const Remote& remote : remotes) CHECK(remote.read_all(**store) >= 0);
    (*store)->wait_cached();
    CHECK((*store)->stats().checksum_errors == 0);
    CHECK((*store)->stats().disk_used_bytes <= kBudget);
    CHECK(Fixture::data_under(copy->path() / "cache") <=
          kBudget + 2 * kMapBlockSize * remotes.size());
  }
  CHECK(most_kept > static_cast<int64_t>(kBudget / 2));
}

}  // namespace blobcache::page
