#include "store/page/impl/tier_health.h"

#include <doctest/doctest.h>

#include <cerrno>

namespace blobcache::page {
namespace {

using Kind = DiskStep::Kind;

struct TierSetup {
  absl::Time now = absl::UnixEpoch();
  Counters counters;
  TierHealth health{counters, [this] { return now; }};

  void fail(Kind kind, uint32_t times) {
    for (uint32_t i = 0; i < times; ++i) health.judge(kind, -EIO);
  }
};

}  // namespace

TEST_CASE("tier health: what is no fault of the disk does not count against it") {
  for (const int error :
       {ENOENT, ENODATA, ENOSPC, EDQUOT, EMFILE, ENFILE, EOPNOTSUPP, EEXIST, ERANGE, E2BIG}) {
    CAPTURE(error);
    CHECK_FALSE(is_disk_failure(-error));
  }
  for (const int error : {EIO, EROFS, ENODEV, ETIMEDOUT, ESTALE, EUCLEAN}) {
    CAPTURE(error);
    CHECK(is_disk_failure(-error));
  }
  CHECK_FALSE(is_disk_failure(0));
  CHECK_FALSE(is_disk_failure(3));
  TierSetup setup;
  for (int i = 0; i < 100; ++i) setup.health.judge(Kind::kCreate, -ENOSPC);
  CHECK_FALSE(setup.health.is_out());
  CHECK(setup.counters.sum(Counters::kDiskErrors) == 0);
}

TEST_CASE("tier health: a file system that is read-only takes no writes, and is read on") {
  TierSetup setup;
  setup.health.judge(Kind::kCreate, -EROFS);
  CHECK(setup.health.is_out());
  CHECK_FALSE(setup.health.reads_out());
  CHECK(setup.health.may_read());
  CHECK_FALSE(setup.health.may_write());
  CHECK(setup.health.refusal().message().find("Read-only") != absl::string_view::npos);
  // Reads say nothing of writes, nor does a name that the kernel remembers.
  setup.health.judge(Kind::kRead, 0);
  setup.health.judge(Kind::kOpen, 5);
  setup.health.judge(Kind::kCreate, 5);
  CHECK(setup.health.is_out());
  setup.now += DiskHealth::kFirstPause;
  CHECK(setup.health.may_write());
  CHECK_FALSE(setup.health.may_write());
  setup.health.judge(Kind::kWrite, 0);
  CHECK_FALSE(setup.health.is_out());
}

TEST_CASE("tier health: to open for writing what is read-only says nothing of reads") {
  TierSetup setup;
  setup.health.judge(Kind::kOpen, -EROFS);
  CHECK(setup.health.is_out());
  CHECK_FALSE(setup.health.reads_out());
}

TEST_CASE("tier health: failures of what only changes names count as writes") {
  TierSetup setup;
  setup.fail(Kind::kRename, 2);
  setup.fail(Kind::kUnlink, 2);
  setup.fail(Kind::kTruncate, 2);
  setup.fail(Kind::kAttribute, 1);
  CHECK_FALSE(setup.health.is_out());
  setup.fail(Kind::kPunchHole, 1);
  CHECK(setup.health.is_out());
  CHECK(setup.counters.sum(Counters::kDiskErrors) == 8);
}

TEST_CASE("tier health: descriptors that are there do not hide reads that fail") {
  TierSetup setup;
  for (uint32_t i = 0; i < DiskHealth::kErrorsInARow; ++i) {
    setup.health.judge(Kind::kOpen, 5);
    setup.fail(Kind::kRead, 1);
  }
  CHECK(setup.health.reads_out());
}

TEST_CASE("tier health: when both are out a write is let through, and mends both") {
  TierSetup setup;
  setup.fail(Kind::kRead, DiskHealth::kErrorsInARow);
  setup.now += DiskHealth::kFirstPause / 2;
  setup.fail(Kind::kWrite, DiskHealth::kErrorsInARow);
  CHECK_FALSE(setup.health.may_write());
  // Never both pauses are over at the same time.
  setup.now += DiskHealth::kFirstPause / 2;
  CHECK(setup.health.may_read());
  setup.now += DiskHealth::kFirstPause / 2;
  CHECK(setup.health.may_write());
  setup.health.judge(Kind::kSync, 0);
  CHECK_FALSE(setup.health.is_out());
  CHECK(setup.health.may_read());
}

}  // namespace blobcache::page
