// Every system call fails in turn: who asked is told, and what was not asked for is as it was, in
// the volume that goes on and in the one that is opened again.

#include <doctest/doctest.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "store/page/page_store.h"
#include "test/store/page/disk_faults.h"
#include "test/store/volume/crash_load.h"
#include "test/store/volume/volume_fixture.h"
#include "test/temporary_directory.h"

namespace blobcache::volume {
namespace {

using StepKind = page::DiskStep::Kind;

constexpr uint64_t kTwoBlocks = 2 * kBlockBytes;

/// Writes to what is its own and what is not, in one block and in two, and gives space back.
const std::vector<Op>& scenario() {
  static const std::vector<Op> ops = {
      {Op::Kind::kWrite, 0, 20 * kPage, 1, false},
      {Op::Kind::kFlush, 0, 0, 0, false},
      {Op::Kind::kWrite, 10 * kPage, 20 * kPage, 2, false},
      {Op::Kind::kWrite, kBlockBytes - 3 * kPage, 6 * kPage, 3, true},
      {Op::Kind::kTrim, 4 * kPage, 9 * kPage, 0, false},
      {Op::Kind::kWrite, 5 * kPage + 512, 1024, 4, false},
      {Op::Kind::kZero, 40 * kPage, 3 * kPage, 0, true},
      {Op::Kind::kFillZero, 60 * kPage, 8 * kPage, 0, false},
      {Op::Kind::kWrite, 61 * kPage, kPage, 5, false},
      {Op::Kind::kFlush, 0, 0, 0, false},
  };
  return ops;
}

absl::Status run_op(Volume& volume, const Op& op) {
  switch (op.kind) {
    case Op::Kind::kWrite:
      return volume.write_wait(op.offset, CrashLoad::bytes_of(op), op.fua);
    case Op::Kind::kZero:
      return volume.write_zeroes_wait(op.offset, op.length, {.fua = op.fua, .no_hole = false});
    case Op::Kind::kFillZero:
      return volume.write_zeroes_wait(op.offset, op.length, {.fua = op.fua, .no_hole = true});
    case Op::Kind::kTrim:
      return volume.trim_wait(op.offset, op.length, op.fua);
    default:
      return volume.flush_wait();
  }
}

struct Outcome {
  bool hit = false;
  absl::Status first_error;
};

/// Runs the scenario with the `number`-th step of the kind failing, and looks at what is left.
Outcome fail_step(StepKind kind, int number, int error, bool with_base) {
  CAPTURE(static_cast<int>(kind));
  CAPTURE(number);
  page::Faults faults;
  TestBase base(random_bytes(kTwoBlocks / 2, 9));
  VolumeFixture fixture(kTwoBlocks, with_base ? &base : nullptr, faults.hook());
  Bytes content(kTwoBlocks);
  if (with_base) std::copy(base.content().begin(), base.content().end(), content.begin());
  SectorModel model(content);
  Outcome outcome;
  faults.arm(kind, number, error);
  for (const Op& op : scenario()) {
    const absl::Status status = run_op(fixture.volume(), op);
    model.apply(op, status.ok());
    if (status.ok()) model.settle(0, kTwoBlocks);
    if (outcome.first_error.ok()) outcome.first_error = status;
  }
  outcome.hit = faults.hit();
  faults.disarm();
  CHECK(model.problem(fixture.read_all()) == "");
  fixture.reopen();
  CHECK(model.problem(fixture.read_all()) == "");
  const uint64_t data_bytes = fixture.volume().stats().data_bytes;
  fixture.close_and_reopen();
  CHECK(model.problem(fixture.read_all()) == "");
  CHECK(fixture.volume().stats().data_bytes == data_bytes);
  return outcome;
}

void fail_all(StepKind kind, int error, absl::StatusCode code) {
  for (const bool with_base : {false, true}) {
    for (int number = 0;; ++number) {
      REQUIRE(number < 200);
      const Outcome outcome = fail_step(kind, number, error, with_base);
      if (!outcome.hit) break;
      CHECK(outcome.first_error.code() == code);
    }
  }
}

}  // namespace

TEST_CASE("a write that finds the disk full") {
  fail_all(StepKind::kWrite, -ENOSPC, absl::StatusCode::kResourceExhausted);
}

TEST_CASE("a punch that fails") {
  fail_all(StepKind::kPunchHole, -ENOSPC, absl::StatusCode::kResourceExhausted);
}

TEST_CASE("a sync that fails stops writes until the volume is opened again, and no reads") {
  fail_all(StepKind::kSync, -EIO, absl::ErrnoToStatus(EIO, "").code());
  page::Faults faults;
  VolumeFixture fixture(kTwoBlocks, nullptr, faults.hook());
  const Bytes bytes = random_bytes(kPage, 1);
  fixture.write(0, bytes);
  faults.arm(StepKind::kSync, 0, -EIO);
  CHECK_FALSE(fixture.volume().flush_wait().ok());
  CHECK(absl::IsUnavailable(fixture.volume().flush_wait()));
  CHECK(absl::IsUnavailable(fixture.volume().write_wait(0, bytes)));
  CHECK(absl::IsUnavailable(fixture.volume().trim_wait(0, kPage)));
  CHECK(absl::IsUnavailable(fixture.volume().grow(kTwoBlocks + 1)));
  CHECK(absl::IsUnavailable(fixture.volume().cut().status()));
  CHECK(fixture.read(0, kPage) == bytes);
  CHECK_FALSE(fixture.volume().close().ok());
  faults.disarm();
  fixture.reopen();
  CHECK(fixture.read(0, kPage) == bytes);
  CHECK(fixture.volume().flush_wait().ok());
}

TEST_CASE("a write that stops half-way") {
  for (int at = 0; at < 12; ++at) {
    int seen = 0;
    bool armed = false;
    const page::DiskFault fault = [&](const page::DiskStep& step) {
      if (!armed || step.kind != StepKind::kWrite || step.bytes < 2 * kPage) return 0;
      const int number = seen++;
      // Half a page more than half of the pages, and then no more.
      if (number == at) return static_cast<int>(step.bytes / 2 / kPage * kPage + kPage / 2);
      return number == at + 1 ? -ENOSPC : 0;
    };
    VolumeFixture fixture(kTwoBlocks, nullptr, fault);
    SectorModel model{Bytes(kTwoBlocks)};
    armed = true;
    for (const Op& op : scenario()) {
      const bool done = run_op(fixture.volume(), op).ok();
      model.apply(op, done);
      if (done) model.settle(0, kTwoBlocks);
    }
    armed = false;
    CHECK(model.problem(fixture.read_all()) == "");
    fixture.close_and_reopen();
    CHECK(model.problem(fixture.read_all()) == "");
  }
}

TEST_CASE("a file system that is full") {
  const test::TemporaryDirectory directory;
  if (::mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=3m") != 0) {
    MESSAGE("SKIP: cannot mount here");
    return;
  }
  SectorModel model{Bytes(kTwoBlocks)};
  {
    Workers workers(2);
    VolumeOptions options;
    options.path = directory.path() / "volume";
    options.workers = &workers;
    auto created = Volume::create(options, kTwoBlocks);
    REQUIRE(created.ok());
    const std::shared_ptr<Volume> volume = *std::move(created);
    bool full = false;
    for (uint64_t at = 0; at < kTwoBlocks; at += 10 * kPage) {
      const Op op{Op::Kind::kWrite, at, 10 * kPage, at, false};
      const absl::Status status = run_op(*volume, op);
      CHECK((status.ok() || absl::IsResourceExhausted(status)));
      full = full || !status.ok();
      model.apply(op, status.ok());
    }
    CHECK(full);
    CHECK(volume->flush_wait().ok());
    for (const Op& op : {Op{Op::Kind::kTrim, 0, 40 * kPage, 0, true},
                         Op{Op::Kind::kWrite, 100 * kPage, 10 * kPage, 1, true}}) {
      CHECK(run_op(*volume, op).ok());
      model.apply(op, true);
    }
    Bytes content(kTwoBlocks);
    CHECK(volume->read_wait(0, absl::MakeSpan(content)).ok());
    CHECK(model.problem(content) == "");
    CHECK(volume->close().ok());
    const auto opened = Volume::open(options);
    REQUIRE(opened.ok());
    CHECK((*opened)->read_wait(0, absl::MakeSpan(content)).ok());
    CHECK(model.problem(content) == "");
  }
  CHECK(::umount2(directory.path().c_str(), MNT_DETACH) == 0);
}

TEST_CASE("a read that fails, and one that succeeds again") {
  page::Faults faults;
  VolumeFixture fixture(kTwoBlocks, nullptr, faults.hook());
  const Bytes bytes = random_bytes(kPage, 1);
  fixture.write(0, bytes);
  fixture.close_and_reopen();
  Bytes into(kPage);
  // The block of the map, then the page, whose second reading is what counts.
  for (const int number : {0, 1}) {
    faults.arm(StepKind::kRead, number, -EIO, true);
    CHECK_FALSE(fixture.volume().read_wait(0, absl::MakeSpan(into)).ok());
    CHECK_FALSE(fixture.volume().write_wait(10, Bytes(10)).ok());
    faults.disarm();
    CHECK(fixture.read(0, kPage) == bytes);
    fixture.close_and_reopen();
  }
}

TEST_CASE("an open, or a create, of which any step fails can be done again") {
  using Kinds = std::vector<StepKind>;
  for (const StepKind kind :
       Kinds{StepKind::kOpen, StepKind::kCreate, StepKind::kRead, StepKind::kWrite, StepKind::kSync,
             StepKind::kTruncate, StepKind::kMakeFolder, StepKind::kRename}) {
    for (int number = 0;; ++number) {
      CAPTURE(static_cast<int>(kind));
      CAPTURE(number);
      page::Faults faults;
      VolumeFixture fixture(kTwoBlocks, nullptr, faults.hook());
      const Bytes bytes = random_bytes(kPage, 1);
      fixture.write(0, bytes);
      faults.arm(kind, number, -EIO);
      fixture.options().boot_id = boot(2);
      const bool opened = fixture.try_open().ok();
      VolumeOptions other = fixture.options();
      other.path = fixture.path().parent_path() / "other";
      const bool created = Volume::create(other, 10000).ok();
      const bool hit = faults.hit();
      faults.disarm();
      CHECK((!hit || !opened || !created));
      if (!opened) fixture.reopen();
      CHECK(fixture.read(0, kPage) == Bytes(kPage));  // never flushed, and the power was cut
      if (!created && Volume::describe(other.path).ok()) {
        CHECK(Volume::open(other).ok());
      } else if (!created) {
        CHECK(absl::IsNotFound(Volume::open(other).status()));
        CHECK(Volume::create(other, 10000).ok());
      }
      if (!hit) break;
    }
  }
}

TEST_CASE("growing that fails leaves the volume as it is") {
  for (const StepKind kind : {StepKind::kTruncate, StepKind::kSync, StepKind::kWrite}) {
    page::Faults faults;
    VolumeFixture fixture(10000, nullptr, faults.hook());
    fixture.write(0, random_bytes(10000, 1));
    faults.arm(kind, 0, -ENOSPC);
    CHECK(absl::IsResourceExhausted(fixture.volume().grow(kTwoBlocks)));
    CHECK(fixture.volume().size_bytes() == 10000);
    faults.disarm();
    CHECK(fixture.read_all() == random_bytes(10000, 1));
    fixture.reopen();
    REQUIRE(fixture.volume().grow(kTwoBlocks).ok());
    CHECK(fixture.read(0, 10000) == random_bytes(10000, 1));
  }
}

TEST_CASE("a cut whose copies cannot be written is lost") {
  page::Faults faults;
  VolumeFixture fixture(kTwoBlocks, nullptr, faults.hook());
  fixture.write(0, random_bytes(kPage, 1));
  faults.arm(StepKind::kCreate, 0, -EMFILE);
  CHECK(absl::IsUnavailable(fixture.volume().cut().status()));
  auto cut = fixture.volume().cut();
  REQUIRE(cut.ok());
  faults.arm(StepKind::kWrite, 0, -ENOSPC);
  fixture.write(0, random_bytes(kPage, 2));
  Bytes bytes(kPage);
  CHECK(absl::IsResourceExhausted((*cut)->read_wait(0, absl::MakeSpan(bytes))));
  cut->reset();
  CHECK(fixture.read(0, kPage) == random_bytes(kPage, 2));
}

}  // namespace blobcache::volume
