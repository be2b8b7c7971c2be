#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace blobcache::blockdev {

/// What clients have to do about TLS: nothing (it is refused), as they like, or begin with it.
enum class TlsMode : uint8_t { kOff, kAllow, kRequire };

/// Where the keys are. At least one of the two ways is needed unless the mode is kOff; both may be
/// there, and the client chooses. Value type.
struct TlsOptions {
  TlsMode mode = TlsMode::kOff;
  /// A directory with server-cert.pem (the chain), server-key.pem and, to know clients by, a
  /// ca-cert.pem; the names that other NBD servers use.
  std::filesystem::path certificates;
  /// A client that comes by certificate must show one that ca-cert.pem has signed.
  bool verify_clients = false;
  /// Lines of USER:HEX, as psktool(1) writes them: keys that both sides share.
  std::filesystem::path psk_file;
};

class TlsContext;

/// Reads what the options name, and tries that it fits together: INVALID_ARGUMENT when there are
/// neither certificates nor keys, FAILED_PRECONDITION for a file that is not what it should be, or
/// a key file that others may read, NOT_FOUND and the like for one that cannot be read. nullptr for
/// kOff.
[[nodiscard]] absl::StatusOr<std::shared_ptr<TlsContext>> load_tls(const TlsOptions& options);

}  // namespace blobcache::blockdev
