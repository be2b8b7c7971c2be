#include "blockdev/impl/ublk_control.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"

namespace blobcache::blockdev {
namespace {

constexpr unsigned kRingDepth = 4;
/// For what waits for queues, requests or users of a device. Such calls have no buffer that the
/// driver might fill later.
constexpr absl::Duration kPatience = absl::Seconds(30);

ublksrv_ctrl_cmd for_device(uint32_t id) {
  ublksrv_ctrl_cmd command{};
  command.dev_id = id;
  command.queue_id = static_cast<uint16_t>(-1);
  return command;
}

template <typename T>
ublksrv_ctrl_cmd with(uint32_t id, T& buffer) {
  ublksrv_ctrl_cmd command = for_device(id);
  command.addr = reinterpret_cast<uint64_t>(&buffer);
  command.len = sizeof(buffer);
  return command;
}

ublksrv_ctrl_cmd with_pid(uint32_t id) {
  ublksrv_ctrl_cmd command = for_device(id);
  command.data[0] = static_cast<uint64_t>(::getpid());
  return command;
}

std::string device(uint32_t id) { return fmt::format("/dev/ublkb{}", id); }

}  // namespace

absl::StatusOr<std::unique_ptr<UblkControl>> UblkControl::open() {
  base::UniqueFd fd(::open("/dev/ublk-control", O_RDWR | O_CLOEXEC));
  if (!fd.valid() && (errno == ENOENT || errno == ENODEV || errno == ENXIO)) {
    return absl::FailedPreconditionError("the kernel has no ublk driver: modprobe ublk_drv");
  }
  if (!fd.valid()) return base::errno_error(errno, "/dev/ublk-control");
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<CommandRing> ring, CommandRing::create(kRingDepth));
  return std::unique_ptr<UblkControl>(
      new UblkControl(std::move(fd), std::move(ring)));  // NOLINT: the constructor is private
}

absl::Status UblkControl::call(uint32_t operation, ublksrv_ctrl_cmd command, std::string_view what,
                               absl::Duration longest) {
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(&command),
                                          sizeof(command));
  if (ring_ == nullptr) {
    BLOBCACHE_ASSIGN_OR_RETURN(ring_, CommandRing::create(kRingDepth));
  }
  if (!ring_->command(fd_.get(), operation, bytes, 0)) {
    return absl::InternalError("the control ring is full");
  }
  const absl::StatusOr<int> result = ring_->wait(longest);
  if (absl::IsDeadlineExceeded(result.status())) {
    // With the ring the kernel gives up the command, and what comes next does not wait behind it.
    ring_ = nullptr;
    return absl::DeadlineExceededError(fmt::format("{}: the ublk driver has not answered within {}",
                                                   what, absl::FormatDuration(longest)));
  }
  if (!result.ok()) return result.status();
  return *result < 0 ? base::errno_error(-*result, what) : absl::OkStatus();
}

absl::StatusOr<uint64_t> UblkControl::features() {
  uint64_t features = 0;
  if (!call(UBLK_U_CMD_GET_FEATURES, with(static_cast<uint32_t>(-1), features), "ublk").ok()) {
    return absl::UnimplementedError(
        "the kernel's ublk driver is too old; Linux 6.5 has a newer one");
  }
  return features;
}

absl::Status UblkControl::add(ublksrv_ctrl_dev_info& info) {
  return call(UBLK_U_CMD_ADD_DEV, with(info.dev_id, info),
              info.dev_id == static_cast<uint32_t>(-1) ? "the ublk driver" : device(info.dev_id));
}

absl::StatusOr<ublksrv_ctrl_dev_info> UblkControl::info(uint32_t id) {
  ublksrv_ctrl_dev_info info{};
  BLOBCACHE_RETURN_IF_ERROR(call(UBLK_U_CMD_GET_DEV_INFO, with(id, info), device(id)));
  return info;
}

absl::Status UblkControl::set_params(uint32_t id, ublk_params params) {
  params.len = sizeof(params);
  return call(UBLK_U_CMD_SET_PARAMS, with(id, params), device(id));
}

absl::StatusOr<ublk_params> UblkControl::params(uint32_t id) {
  ublk_params params{};
  params.len = sizeof(params);
  BLOBCACHE_RETURN_IF_ERROR(call(UBLK_U_CMD_GET_PARAMS, with(id, params), device(id)));
  return params;
}

absl::Status UblkControl::start(uint32_t id) {
  return call(UBLK_U_CMD_START_DEV, with_pid(id), device(id), kPatience);
}

absl::Status UblkControl::end_recovery(uint32_t id) {
  return call(UBLK_U_CMD_END_USER_RECOVERY, with_pid(id), device(id), kPatience);
}

absl::Status UblkControl::start_recovery(uint32_t id) {
  return call(UBLK_U_CMD_START_USER_RECOVERY, for_device(id), device(id), kPatience);
}

absl::Status UblkControl::update_size(uint32_t id, uint64_t sectors) {
  ublksrv_ctrl_cmd command = for_device(id);
  command.data[0] = sectors;
  return call(UBLK_U_CMD_UPDATE_SIZE, command, device(id), kPatience);
}

absl::Status UblkControl::stop(uint32_t id) {
  return call(UBLK_U_CMD_STOP_DEV, for_device(id), device(id), kPatience);
}

absl::Status UblkControl::remove(uint32_t id) {
  return call(UBLK_U_CMD_DEL_DEV, for_device(id), device(id), kPatience);
}

}  // namespace blobcache::blockdev
