// Every step that the store takes on the disk, failed once: whatever it does, one after the other.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "store/page/descriptions.h"
#include "store/page/page_map.h"
#include "store/page/page_store.h"
#include "test/store/page/content_source.h"
#include "test/store/page/disk_faults.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

using Kind = DiskStep::Kind;

class Patient final : public ScrubControl {
 public:
  bool may_read(uint64_t /*bytes*/) override { return true; }
};

/// A store, what was put into it, a source's object, and the catalog's part: what is known.
class World {
 public:
  World()
      : remote_(std::make_shared<ContentSource>(random_bytes(3 * kExtentSize + 1234, 5))),
        fixture_(uint64_t{16} << 20, 1U << 30, sum_hash(), faults.hook()) {
    small = random_bytes(100'000, 1);
    large = random_bytes(3U << 20, 2);
    REQUIRE(put(small).ok());
    REQUIRE(put(large).ok());
    cached_.key.bytes[0] = 99;
    cached_.size_bytes = remote_->content().size();
    cached_.source = remote_;
  }

  PageStore& store() { return fixture_.store(); }
  Fixture& fixture() { return fixture_; }
  const ObjectSpec& of_small() const { return known_[0].spec; }
  const ObjectSpec& of_large() const { return known_[1].spec; }

  /// As the tree does: what was acknowledged is known.
  absl::Status put(const std::vector<std::byte>& content) {
    ObjectSpec spec;
    spec.key = sum_of(content);
    if (absl::Status status = fixture_.try_put(content, spec); !status.ok()) return status;
    known_.push_back({spec, content, fixture_.disk_bytes});
    return absl::OkStatus();
  }
  /// Removes what was put last; it is unknown whatever comes of it. (The tree's row goes first.)
  absl::Status remove_last() {
    if (removing_.spec.size_bytes == 0) {
      removing_ = known_.back();
      known_.pop_back();
    }
    const ObjectSpec& spec = removing_.spec;
    absl::Status status =
        store().remove(spec.key, spec.incarnation, Retention::kKept, removing_.disk_bytes);
    if (status.ok()) removing_ = {};
    return status;
  }
  size_t known() const { return known_.size(); }

  /// Reads piece by piece, from disk. Bytes that come are right ones; the first error, if any.
  absl::Status read(const ObjectRef& object, absl::Span<const std::byte> content) {
    absl::Status status;
    store().evict_memory(*object);
    for (uint64_t at = 0; at < content.size(); at += kExtentSize) {
      const uint64_t length = std::min<uint64_t>(kExtentSize, content.size() - at);
      const auto range = object->read_wait(at, length);
      status.Update(range.status());
      if (range.ok()) CHECK(same(*range, content.subspan(at, length)));
    }
    return status;
  }
  absl::Status read_large() { return read(store().attach(of_large()), large); }
  absl::Status read_cached() {
    absl::Status status = read(attach_cached(), remote_->content());
    store().wait_cached();
    return status;
  }
  ObjectRef attach_cached() { return store().attach_cached(cached_); }
  void forget_cached() { store().forget_cached(cached_.key); }

  /// Opens the store as the daemon does, which tells it what is known.
  absl::Status reopen() {
    fixture_.close();
    const absl::Status status = fixture_.try_reopen();
    if (!status.ok()) return status;
    removing_ = {};
    uint64_t kept = 0;
    for (const Known& object : known_) kept += object.disk_bytes;
    store().restore_usage(kept, 0);
    return status;
  }

  /// The faults are over: all is as it was acknowledged, at once and after the next start.
  void check_all() {
    check_contents();
    CHECK(fixture_.data_on_disk() <= store().stats().disk_used_bytes);
    REQUIRE(reopen().ok());
    store().wait_cached();
    remove_leftovers();
    check_contents();
    store().wait_cached();
    CHECK(Fixture::data_under(fixture_.path() / "tmp") == 0);
    CHECK(Fixture::data_under(fixture_.path() / "objects") == store().stats().disk_kept_bytes);
    check_cached_account();
    Patient control;
    for (const Known& object : known_) CHECK(store().scrub(object.spec, control)->clean());
  }
  /// The header of a page map that tells of nothing is not counted; its files go with the sweep.
  void check_cached_account() {
    const uint64_t data = Fixture::data_under(fixture_.path() / "cache");
    const uint64_t counted = store().stats().disk_filled_bytes;
    CHECK(data >= counted);
    CHECK(data <= (counted == 0 ? kMapBlockSize : counted));
  }
  /// What the source brought is on disk, so that the source is not asked again.
  void check_is_cached() {
    REQUIRE(read_cached().ok());
    REQUIRE(reopen().ok());
    const uint64_t before = remote_->bytes;
    REQUIRE(read_cached().ok());
    CHECK(remote_->bytes == before);
    CHECK(store().stats().checksum_errors == 0);
  }

  Faults faults;
  std::vector<std::byte> small;
  std::vector<std::byte> large;

 private:
  struct Known {
    ObjectSpec spec;
    std::vector<std::byte> content;
    uint64_t disk_bytes = 0;
  };

  void check_contents() {
    for (const Known& object : known_) {
      CHECK(read(store().attach(object.spec), object.content).ok());
    }
    CHECK(read_cached().ok());
    CHECK(store().stats().flights == 0);
    CHECK(store().stats().memory_pinned_frames == 0);
  }
  void remove_leftovers() {
    const auto is_known = [&](const ObjectKey& key, const Incarnation& incarnation) {
      return std::ranges::any_of(known_, [&](const Known& object) {
        return object.spec.key == key && object.spec.incarnation == incarnation;
      });
    };
    const auto remove = [&](const Leftover& leftover) {
      return store().remove_leftover(leftover).status();
    };
    CHECK(store().for_each_leftover(is_known, remove).ok());
  }

  const std::shared_ptr<ContentSource> remote_;
  CachedSpec cached_;
  Fixture fixture_;
  std::vector<Known> known_;
  Known removing_;
};

/// One thing that the store does. `prepare` and `settle` meet no faults; `act` may.
struct Scenario {
  std::function<void(World&)> prepare;
  std::function<absl::Status(World&)> act;
  std::function<void(World&)> settle;
  /// Whether a step that fails makes it fail; otherwise there is another way.
  bool must_fail = false;
  /// Of more steps of a kind than this only the first and the last are tried.
  int at_most = 40;
};

constexpr std::array kCreates = {Kind::kCreate, Kind::kWrite, Kind::kMakeFolder, Kind::kTruncate,
                                 Kind::kAttribute};

/// One run: the n-th step of a kind ends with `result`. False when there is no such step.
bool run(World& world, const Scenario& scenario, Kind kind, int number, int result) {
  CAPTURE(static_cast<int>(kind));
  CAPTURE(number);
  CAPTURE(result);
  scenario.prepare(world);
  const uint64_t errors = world.store().stats().disk_errors;
  world.faults.arm(kind, number, result);
  const absl::Status status = scenario.act(world);
  world.faults.disarm();
  if (!world.faults.hit()) return false;
  CAPTURE(std::string(status.message()));
  if (result > 0) {
    CHECK(status.ok());
    CHECK(world.store().stats().disk_errors == errors);
  } else if (scenario.must_fail && !(kind == Kind::kAttribute && result == -ENOSPC)) {
    // (What the attribute has no room for is told in a names file.)
    CHECK(!status.ok());
    CHECK(absl::IsResourceExhausted(status) == (result == -ENOSPC));
  }
  if (world.fixture().is_open()) {
    world.store().wait_cached();
    CHECK(Fixture::files_under(world.fixture().path() / "tmp") == 0);
    const uint64_t counted = world.store().stats().disk_used_bytes;
    CHECK(world.fixture().data_on_disk() <= counted + kMapBlockSize);
  }
  // The fault is gone: what it was in the way of is done.
  if (!status.ok()) REQUIRE(scenario.act(world).ok());
  scenario.settle(world);
  world.check_all();
  return true;
}

/// Every step of the scenario in turn, with every result.
class Runs {
 public:
  explicit Runs(const Scenario& scenario) : scenario_(scenario) {
    scenario.prepare(world_);
    for (size_t kind = 0; kind < Faults::kKinds; ++kind) steps_[kind] = -world_.faults.counts[kind];
    REQUIRE(scenario.act(world_).ok());
    for (size_t kind = 0; kind < Faults::kKinds; ++kind) steps_[kind] += world_.faults.counts[kind];
    scenario.settle(world_);
    world_.check_all();
  }

  void run_each(Kind kind, int result) {
    const int steps = steps_.at(static_cast<size_t>(kind));
    int runs = 0;
    for (int number = 0; number < steps; ++number) {
      if (steps > scenario_.at_most && number == scenario_.at_most / 2) number = steps - 1;
      runs += run(world_, scenario_, kind, number, result) ? 1 : 0;
    }
    CHECK(runs >= std::min(steps, 1));
  }

 private:
  const Scenario& scenario_;
  World world_;
  std::array<int, Faults::kKinds> steps_{};
};

void run_all(const Scenario& scenario) {
  Runs runs(scenario);
  for (size_t kind = 0; kind < Faults::kKinds; ++kind) {
    runs.run_each(static_cast<Kind>(kind), -EIO);
  }
  for (const Kind kind : kCreates) runs.run_each(kind, -ENOSPC);
  for (const Kind kind : {Kind::kRead, Kind::kWrite}) {
    runs.run_each(kind, static_cast<int>(kPageSize) - 1);
    runs.run_each(kind, Faults::kHalf);
  }
}

void nothing(World& /*world*/) {}

}  // namespace

TEST_CASE("disk steps: a small put") {
  const auto content = random_bytes(70'000, 10);
  run_all({nothing, [&](World& world) { return world.put(content); },
           [](World& world) { REQUIRE(world.remove_last().ok()); }, /*must_fail=*/true});
}

TEST_CASE("disk steps: a put with a page map of its own") {
  const auto content = random_bytes((3U << 20) + 77, 10);
  run_all({nothing, [&](World& world) { return world.put(content); },
           [](World& world) { REQUIRE(world.remove_last().ok()); }, /*must_fail=*/true});
}

TEST_CASE("disk steps: a read of what memory does not have") {
  run_all({[](World& world) { REQUIRE(world.reopen().ok()); },
           [](World& world) { return world.read_large(); }, nothing});
}

TEST_CASE("disk steps: the repair of a damaged page map") {
  run_all({[](World& world) {
             flip_byte(world.fixture().map_of(world.of_large()), map_block_offset(0) + 50);
             REQUIRE(world.reopen().ok());
           },
           [](World& world) { return world.read_large(); },
           [](World& world) { CHECK(world.store().stats().maps_rebuilt == 1); }});
}

TEST_CASE("disk steps: what a source brings is kept on disk") {
  run_all({[](World& world) { world.forget_cached(); },
           [](World& world) {
             const absl::Status status = world.read_cached();
             CHECK(status.ok());
             return status;
           },
           [](World& world) { world.check_is_cached(); }});
}

TEST_CASE("disk steps: pages on disk that a source has as well") {
  run_all({[](World& world) {
             REQUIRE(world.read_cached().ok());
             REQUIRE(world.reopen().ok());
             world.store().wait_cached();
           },
           [](World& world) {
             const absl::Status status = world.read_cached();
             CHECK(status.ok());
             return status;
           },
           [](World& world) { world.check_is_cached(); }});
}

TEST_CASE("disk steps: the eviction of what a source brought") {
  run_all({[](World& world) { REQUIRE(world.read_cached().ok()); },
           [](World& world) {
             world.forget_cached();
             return absl::OkStatus();
           },
           [](World& world) { world.check_is_cached(); }});
}

TEST_CASE("disk steps: an eviction under a reader, whose files stay, leaves no account wrong") {
  ObjectRef reader;
  run_all({[&](World& world) {
             REQUIRE(world.read_cached().ok());
             reader = world.attach_cached();
           },
           [](World& world) {
             world.forget_cached();
             return absl::OkStatus();
           },
           [&](World& world) {
             reader = nullptr;
             REQUIRE(world.reopen().ok());
             world.store().wait_cached();
             world.check_cached_account();
           }});
}

TEST_CASE("disk steps: the start") {
  run_all({[](World& world) { REQUIRE(world.read_cached().ok()); },
           [](World& world) {
             const absl::Status status = world.reopen();
             if (status.ok()) world.store().wait_cached();
             return status;
           },
           nothing, /*must_fail=*/false, /*at_most=*/6});
}

TEST_CASE("disk steps: a scrub") {
  run_all({nothing,
           [](World& world) {
             Patient control;
             const auto large = world.store().scrub(world.of_large(), control);
             return large.ok() && large->clean() ? absl::OkStatus() : absl::UnknownError("not ok");
           },
           [](World& world) { CHECK(world.store().stats().maps_rebuilt == 0); }});
}

TEST_CASE("disk steps: a removal") {
  const auto content = random_bytes(2U << 20, 10);
  run_all({[&](World& world) { REQUIRE(world.put(content).ok()); },
           [](World& world) { return world.remove_last(); }, nothing, /*must_fail=*/true});
}

TEST_CASE("disk steps: a description in the attribute") {
  int number = 0;
  run_all({[&](World& /*world*/) { ++number; },
           [&](World& world) {
             return world.store().descriptions().replace_attribute(
                 world.of_small().key, world.of_small().incarnation,
                 "text " + std::to_string(number));
           },
           nothing, /*must_fail=*/true});
}

TEST_CASE("disk steps: a description in a names file") {
  const auto describe = [](World& world) -> absl::Status {
    const ObjectSpec& spec = world.of_small();
    Descriptions& files = world.store().descriptions();
    BLOBCACHE_RETURN_IF_ERROR(files.write_file(
        spec.key, spec.incarnation, [](Descriptions::AddRecord add) { return add("first"); }));
    BLOBCACHE_ASSIGN_OR_RETURN(const bool added,
                               files.append(spec.key, spec.incarnation, {{"second"}}));
    CHECK(added);
    return absl::OkStatus();
  };
  const auto settle = [](World& world) {
    const ObjectSpec& spec = world.of_small();
    std::vector<std::string> records;
    const auto visit = [&](std::string_view record) { records.emplace_back(record); };
    Descriptions& files = world.store().descriptions();
    CHECK(files.read_file(spec.key, spec.incarnation, visit).ok());
    CHECK(records == std::vector<std::string>{"first", "second"});
    CHECK(Fixture::files_under(world.fixture().path() / "tmp") == 0);
    // Nobody accounts for it.
    CHECK(files.remove_file(spec.key, spec.incarnation).ok());
  };
  run_all({nothing, describe, settle, /*must_fail=*/true});
}

}  // namespace blobcache::page
