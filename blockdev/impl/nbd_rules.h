#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_reply_codec.h"

/// What the protocol has to say of single requests: pure.
namespace blobcache::blockdev {

/// What decides which requests a connection may make. Value type.
struct RequestRules {
  uint64_t size_bytes = 0;
  bool read_only = true;
  bool can_zero_fast = false;
  bool has_contexts = false;  ///< metadata contexts were chosen
  nbd::HeaderStyle style = nbd::HeaderStyle::kSimple;
};

/// Why a request is refused. Value type.
struct Refusal {
  uint32_t error = 0;  ///< NBD's
  std::string_view text;
};

/// How many bytes follow the request's header.
[[nodiscard]] uint64_t payload_bytes(const nbd::Request& request, nbd::HeaderStyle style);

/// Nothing for a request that may be carried out. NBD_CMD_DISC is none of them.
[[nodiscard]] std::optional<Refusal> check_request(const nbd::Request& request,
                                                   const RequestRules& rules);

/// NBD's number for what a device says. `request` is the one that failed of it.
[[nodiscard]] uint32_t error_of(const absl::Status& status, const nbd::Request& request);

}  // namespace blobcache::blockdev
