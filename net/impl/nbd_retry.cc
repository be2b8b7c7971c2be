#include "net/impl/nbd_retry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/status.h"

namespace blobcache::net {

absl::Duration NbdBackoff::next(uint32_t random) {
  const double share = 0.5 + 0.5 * random / std::numeric_limits<uint32_t>::max();
  const absl::Duration pause = pause_ * share;
  pause_ = std::min(pause_ * 2, kLongest);
  return pause;
}

bool nbd_error_may_pass(int error, uint32_t answers) {
  return answers <= 1 && (error == EIO || error == ESHUTDOWN);
}

absl::Status nbd_error(int error) {
  const auto status = [error](absl::StatusCode code) {
    return base::error(
        code, fmt::format("the NBD server answers: {}",
                          strerrordesc_np(error) ? strerrordesc_np(error) : "unknown error"));
  };
  switch (error) {
    case EPERM:
    case EACCES:
    case EROFS:
      return status(absl::StatusCode::kPermissionDenied);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return status(absl::StatusCode::kResourceExhausted);
    case EINVAL:
      return status(absl::StatusCode::kInvalidArgument);
    case ENOTSUP:
      return status(absl::StatusCode::kUnimplemented);
    default:  // ENOMEM, too: it is the server's memory, not our room
      return status(absl::StatusCode::kUnavailable);
  }
}

}  // namespace blobcache::net
