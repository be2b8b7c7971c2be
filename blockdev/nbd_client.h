#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/listen_address.h"
#include "base/unique_fd.h"

namespace blobcache::blockdev {

/// An export that a server has opened for us: the connection behind its handshake, and what the
/// server told. Move-only.
struct OpenedExport {
  base::UniqueFd socket;  ///< requests may follow, simple replies will
  uint64_t size_bytes = 0;
  uint16_t transmission_flags = 0;  ///< NBD_FLAG_..., as they came
  uint32_t min_block_bytes = 1;     ///< what requests must be aligned to; a power of two

  [[nodiscard]] bool read_only() const;
  /// Several connections see each other's writes, so that one device may use them all.
  [[nodiscard]] bool can_multi_conn() const;
};

/// The client's side of NBD as far as a connection can be handed to the kernel: the fixed newstyle
/// handshake up to NBD_OPT_GO, in clear and without structured replies, which the kernel's driver
/// does not speak.
///
/// Connects and opens the export `name`. UNAVAILABLE when nobody is there, DEADLINE_EXCEEDED,
/// NOT_FOUND for an export that the server does not have, PERMISSION_DENIED for one that it
/// refuses, FAILED_PRECONDITION when it wants TLS first, INTERNAL for a server that breaks the
/// protocol. Any thread.
[[nodiscard]] absl::StatusOr<OpenedExport> open_export(const base::ListenAddress& server,
                                                       std::string_view name, absl::Time deadline);

/// The same on a stream socket that is connected already.
[[nodiscard]] absl::StatusOr<OpenedExport> open_export(base::UniqueFd socket, std::string_view name,
                                                       absl::Time deadline);

}  // namespace blobcache::blockdev
