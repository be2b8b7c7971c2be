#include "store/page/impl/disk_health.h"

#include <doctest/doctest.h>

#include <cerrno>

namespace blobcache::page {
namespace {

struct DiskSetup {
  absl::Time now = absl::UnixEpoch();
  DiskHealth health{[this] { return now; }};

  void fail(uint32_t times) {
    for (uint32_t i = 0; i < times; ++i) health.failed(EIO);
  }
};

}  // namespace

TEST_CASE("disk health: errors in a row take the tier out, scattered ones do not") {
  DiskSetup setup;
  for (int i = 0; i < 10; ++i) {
    setup.fail(DiskHealth::kErrorsInARow - 1);
    setup.health.succeeded();
  }
  CHECK_FALSE(setup.health.is_out());
  CHECK(setup.health.may_try());
  setup.fail(DiskHealth::kErrorsInARow);
  CHECK(setup.health.is_out());
  CHECK_FALSE(setup.health.may_try());
}

TEST_CASE("disk health: one request a pause is let through, and pauses grow") {
  DiskSetup setup;
  setup.fail(DiskHealth::kErrorsInARow);
  setup.now += DiskHealth::kFirstPause - absl::Milliseconds(1);
  CHECK_FALSE(setup.health.may_try());
  setup.now += absl::Milliseconds(1);
  CHECK(setup.health.may_try());
  CHECK_FALSE(setup.health.may_try());
  setup.fail(1);
  setup.now += DiskHealth::kFirstPause;
  CHECK_FALSE(setup.health.may_try());
  setup.now += DiskHealth::kFirstPause;
  CHECK(setup.health.may_try());
  for (int i = 0; i < 20; ++i) {
    setup.fail(1);
    setup.now += DiskHealth::kLongestPause;
    CHECK(setup.health.may_try());
  }
}

TEST_CASE("disk health: what was under way when it fell does not make the pause longer") {
  DiskSetup setup;
  setup.fail(DiskHealth::kErrorsInARow + 20);
  setup.now += DiskHealth::kFirstPause / 2;
  setup.fail(20);
  setup.now += DiskHealth::kFirstPause / 2;
  CHECK(setup.health.may_try());
  setup.now += DiskHealth::kFirstPause;
  CHECK(setup.health.may_try());
}

TEST_CASE("disk health: a file system that is read-only is out of use at once") {
  DiskSetup setup;
  setup.health.failed(EROFS);
  CHECK(setup.health.is_out());
  CHECK(setup.health.last_error() == EROFS);
}

TEST_CASE("disk health: a success puts the tier back, and the next fall begins anew") {
  DiskSetup setup;
  setup.fail(DiskHealth::kErrorsInARow);
  setup.now += DiskHealth::kFirstPause;
  REQUIRE(setup.health.may_try());
  setup.health.succeeded();
  CHECK_FALSE(setup.health.is_out());
  CHECK(setup.health.may_try());
  CHECK(setup.health.may_try());
  setup.fail(DiskHealth::kErrorsInARow - 1);
  CHECK_FALSE(setup.health.is_out());
}

}  // namespace blobcache::page
