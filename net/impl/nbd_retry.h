#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace blobcache::net {

/// How long to wait before a connection is opened again: 100 ms, doubled with each failure up to
/// 10 s, and of that a random part between half and all, so that clients of a server that comes
/// back do not come all at once. Not thread-safe.
class NbdBackoff {
 public:
  static constexpr absl::Duration kFirst = absl::Milliseconds(100);
  static constexpr absl::Duration kLongest = absl::Seconds(10);

  /// `random` is any 32 bits.
  [[nodiscard]] absl::Duration next(uint32_t random);
  void succeeded() { pause_ = kFirst; }

 private:
  absl::Duration pause_ = kFirst;
};

/// Whether a request that the server answered with an error is sent once more: EIO and ESHUTDOWN
/// may pass, and the first answer of them is not believed.
[[nodiscard]] bool nbd_error_may_pass(int error, uint32_t answers);

/// What a server's error means, as the doors tell it on: ENOSPC as ENOSPC, EPERM as EPERM, EINVAL
/// as EINVAL, all else as EIO.
[[nodiscard]] absl::Status nbd_error(int error);

}  // namespace blobcache::net
