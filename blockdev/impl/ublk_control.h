#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "blockdev/impl/command_ring.h"
#include "blockdev/impl/ublk_protocol.h"

namespace blobcache::blockdev {

/// /dev/ublk-control: makes devices, starts, stops and removes them. Each call waits for the
/// driver, those that wait for others than the driver half a minute at most: DEADLINE_EXCEEDED.
/// Other errors are the errno value's. One thread at a time.
class UblkControl {
 public:
  /// FAILED_PRECONDITION when the driver is not there, or PERMISSION_DENIED.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<UblkControl>> open();

  /// UBLK_F_...; UNIMPLEMENTED when the driver is too old to say.
  [[nodiscard]] absl::StatusOr<uint64_t> features();
  /// `info.dev_id` is the one that is wanted, or -1, and then the one that there is.
  [[nodiscard]] absl::Status add(ublksrv_ctrl_dev_info& info);
  [[nodiscard]] absl::StatusOr<ublksrv_ctrl_dev_info> info(uint32_t id);
  [[nodiscard]] absl::Status set_params(uint32_t id, ublk_params params);
  [[nodiscard]] absl::StatusOr<ublk_params> params(uint32_t id);
  /// These two wait for all queues to have fetched.
  [[nodiscard]] absl::Status start(uint32_t id);
  [[nodiscard]] absl::Status end_recovery(uint32_t id);
  [[nodiscard]] absl::Status start_recovery(uint32_t id);
  /// Needs UBLK_F_UPDATE_SIZE of features().
  [[nodiscard]] absl::Status update_size(uint32_t id, uint64_t sectors);
  [[nodiscard]] absl::Status stop(uint32_t id);
  /// Waits until nobody has /dev/ublkcN open.
  [[nodiscard]] absl::Status remove(uint32_t id);

 private:
  UblkControl(base::UniqueFd fd, std::unique_ptr<CommandRing> ring)
      : fd_(std::move(fd)), ring_(std::move(ring)) {}

  [[nodiscard]] absl::Status call(uint32_t operation, ublksrv_ctrl_cmd command,
                                  std::string_view what,
                                  absl::Duration longest = absl::InfiniteDuration());

  const base::UniqueFd fd_;
  std::unique_ptr<CommandRing> ring_;  // null after a call that was not answered
};

}  // namespace blobcache::blockdev
