// What follows from disks that fail: at each read, write and sync in turn, and for good.

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <memory>

#include "store/page/impl/disk_health.h"
#include "store/page/page_store.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

/// Fails the n-th step of a kind, or all from there on.
class Faults {
 public:
  DiskFault hook() {
    return [this](const DiskStep& step) {
      if (step.kind != kind || !armed.load()) return 0;
      const int number = seen++;
      return number == at || (for_good && number >= at) ? result : 0;
    };
  }
  void arm(DiskStep::Kind which, int number, int with, bool from_there_on = false) {
    kind = which;
    at = number;
    result = with;
    for_good = from_there_on;
    seen = 0;
    armed = true;
  }

  std::atomic<bool> armed{false};
  std::atomic<int> seen{0};
  DiskStep::Kind kind = DiskStep::Kind::kRead;
  int at = 0;
  int result = 0;
  bool for_good = false;
};

/// A source that has the bytes at hand.
class ContentSource final : public Source {
 public:
  explicit ContentSource(std::vector<std::byte> content) : content_(std::move(content)) {}
  std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                               FetchDone done) override {
    std::copy_n(content_.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
    ++fetches;
    done(absl::OkStatus());
    return nullptr;
  }
  std::atomic<int> fetches{0};

 private:
  const std::vector<std::byte> content_;
};

absl::Status put(PageStore& store, absl::Span<const std::byte> content, ObjectSpec& spec) {
  auto writer = store.create(Retention::kKept, 0);
  if (!writer.ok()) return writer.status();
  if (absl::Status status = (*writer)->append(content); !status.ok()) return status;
  const auto sealed = (*writer)->seal(spec.key, "a test");
  if (!sealed.ok()) return sealed.status();
  ObjectWriter* object = writer->get();
  if (absl::Status status = store.sync({&object, 1}); !status.ok()) return status;
  (*writer)->keep();
  spec.incarnation = sealed->incarnation;
  spec.size_bytes = sealed->size_bytes;
  spec.inline_map = sealed->inline_map;
  return absl::OkStatus();
}

}  // namespace

TEST_CASE(
    "disk faults: a put that fails at any write or sync leaves nothing, and the next one goes") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  const auto content = random_bytes(5U << 20, 1);
  int failures = 0;
  for (const auto kind : {DiskStep::Kind::kWrite, DiskStep::Kind::kSync}) {
    for (int at = 0;; ++at) {
      CAPTURE(at);
      faults.arm(kind, at, -EIO);
      ObjectSpec spec;
      const absl::Status status = put(fixture.store(), content, spec);
      faults.armed = false;
      if (faults.seen <= at) {
        // There is no such step: the put went through.
        REQUIRE(status.ok());
        CHECK(reads_whole(*fixture.store().attach(spec), content));
        REQUIRE(fixture.store()
                    .remove(spec.key, spec.incarnation, Retention::kKept, (5U << 20) + 16384)
                    .ok());
        break;
      }
      ++failures;
      CHECK_FALSE(status.ok());
      CHECK_FALSE(absl::IsResourceExhausted(status));
      CHECK(fixture.files_on_disk() == 0);
      CHECK(fixture.store().stats().disk_used_bytes == 0);
    }
  }
  CHECK(failures >= 6);
  CHECK(fixture.store().stats().disk_errors == static_cast<uint64_t>(failures));
}

TEST_CASE("disk faults: reads and writes that move a part at first are finished") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  const auto content = random_bytes(3'000'000, 1);
  faults.arm(DiskStep::Kind::kWrite, 0, static_cast<int>(kPageSize), /*from_there_on=*/true);
  ObjectSpec spec;
  REQUIRE(put(fixture.store(), content, spec).ok());
  faults.arm(DiskStep::Kind::kRead, 0, static_cast<int>(kPageSize), /*from_there_on=*/true);
  CHECK(reads_whole(*fixture.store().attach(spec), content));
  CHECK(faults.seen > 0);
  CHECK(fixture.store().stats().disk_errors == 0);
}

TEST_CASE("disk faults: a failed read is an error where there is nothing else, and passes") {
  Faults faults;
  Fixture fixture(PageStore::kMinMemory, 1U << 30, nullptr, faults.hook());
  const auto content = random_bytes(300'000, 1);
  ObjectSpec spec;
  REQUIRE(put(fixture.store(), content, spec).ok());
  const ObjectRef object = fixture.store().attach(spec);
  faults.arm(DiskStep::Kind::kRead, 0, -EIO);
  CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
  CHECK(reads_whole(*object, content));
}

TEST_CASE("disk faults: what a source has is read on, without the disk while it is out of use") {
  Faults faults;
  Fixture fixture(64U << 20, 1U << 30, nullptr, faults.hook());
  const auto content = random_bytes(16U << 20, 1);
  ObjectSpec spec;
  REQUIRE(put(fixture.store(), content, spec).ok());
  const auto source = std::make_shared<ContentSource>(content);
  spec.source = source;
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(reads_as(*object, content, 0, kPageSize));
  CHECK(source->fetches == 0);
  faults.arm(DiskStep::Kind::kRead, 0, -EIO, /*from_there_on=*/true);
  for (uint64_t extent = 1; extent < 60; ++extent) {
    CHECK(reads_as(*object, content, extent * kExtentSize, kPageSize));
  }
  CHECK(source->fetches == 59);
  CHECK(fixture.store().stats().disk_out);
  // The first errors, and maybe a try or two since.
  CHECK(faults.seen < 2 * static_cast<int>(DiskHealth::kErrorsInARow));
  // A put is refused at once, and all reads of what L0 holds go on.
  ObjectSpec refused;
  CHECK(absl::IsUnavailable(put(fixture.store(), content, refused)));
  CHECK(reads_as(*object, content, 0, kPageSize));

  // The disk comes back: one try finds out.
  faults.armed = false;
  for (uint64_t extent = 0; fixture.store().stats().disk_out; extent = (extent + 1) % 60) {
    fixture.store().evict_memory(*object);
    CHECK(reads_as(*object, content, extent * kExtentSize, kPageSize));
  }
  ObjectSpec again;
  again.key.bytes[0] = 9;
  CHECK(put(fixture.store(), content, again).ok());
}

}  // namespace blobcache::page
