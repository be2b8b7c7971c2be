#include <doctest/doctest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "blockdev/impl/command_ring.h"
#include "blockdev/impl/object_device.h"
#include "blockdev/impl/ublk_control.h"
#include "blockdev/impl/ublk_protocol.h"
#include "blockdev/impl/ublk_queue.h"
#include "test/blockdev/test_export.h"

namespace blobcache::blockdev {
namespace {

// What the driver does is for the guest tests; here is what can be known without it.

TEST_CASE("ublk: where a request's bytes and a queue's descriptors are") {
  CHECK(ublk::buffer_offset(0, 0) == 0x80000000);
  CHECK(ublk::buffer_offset(0, 3) == 0x80000000 + 3 * (uint64_t{1} << 25));
  CHECK(ublk::buffer_offset(2, 0) == 0x80000000 + 2 * (uint64_t{1} << 41));
  CHECK(ublk::descriptors_offset(0) == 0);
  CHECK(ublk::descriptors_offset(2) == uint64_t{2} * 4096 * 24);
  CHECK(sizeof(ublksrv_ctrl_cmd) == 32);
  CHECK(sizeof(ublksrv_ctrl_dev_info) == 64);
}

TEST_CASE("ublk: without the driver, or the rights, that is what it says") {
  const auto control = UblkControl::open();
  if (control.ok()) return;  // this machine has both
  const bool absent = absl::IsFailedPrecondition(control.status());
  CHECK((absent || absl::IsPermissionDenied(control.status())));
  if (absent) CHECK(base::message(control.status()).ends_with("modprobe ublk_drv"));
}

TEST_CASE("ublk: a queue of what is no device is not started") {
  TestStore store(4096);
  const auto queue = UblkQueue::start({.device = STDIN_FILENO, .queue = 0, .depth = 4},
                                      std::make_shared<ObjectDevice>(store.object()));
  CHECK_FALSE(queue.ok());
}

TEST_CASE("command ring: a command to a file that takes none comes back with an error") {
  auto ring = CommandRing::create(4);
  if (!ring.ok()) return;  // this kernel has none, or has it switched off
  const base::UniqueFd file(::eventfd(0, EFD_CLOEXEC));
  const std::vector<std::byte> arguments(80);
  REQUIRE((*ring)->command(file.get(), 1, arguments, 77));
  CHECK_FALSE((*ring)->command(file.get(), 1, std::vector<std::byte>(81), 78));
  const absl::StatusOr<int> result = (*ring)->wait(absl::InfiniteDuration());
  REQUIRE(result.ok());
  CHECK(*result < 0);
}

TEST_CASE("command ring: what does not come is not waited for without an end") {
  auto ring = CommandRing::create(4);
  if (!ring.ok()) return;
  const base::UniqueFd file(::eventfd(0, EFD_CLOEXEC));
  REQUIRE((*ring)->poll(file.get(), 1));
  CHECK(absl::IsDeadlineExceeded((*ring)->wait(absl::ZeroDuration()).status()));
  CHECK(absl::IsDeadlineExceeded((*ring)->wait(absl::Milliseconds(1)).status()));
  REQUIRE(::eventfd_write(file.get(), 1) == 0);
  const absl::StatusOr<int> result = (*ring)->wait(absl::InfiniteDuration());
  REQUIRE(result.ok());
  CHECK(*result > 0);  // what it is readable for
}

}  // namespace
}  // namespace blobcache::blockdev
