#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// An upstream NBD server as an origin. Value type.
struct NbdOriginOptions {
  static constexpr uint32_t kMaxConnections = 16;

  std::string name;  ///< one component, as tree::check_name() has it
  /// nbd://HOST[:PORT][/EXPORT], nbds://..., nbd+unix:///[EXPORT]?socket=PATH, nbds+unix:///...;
  /// with an export the origin has that one file, without one it has all of the server's.
  std::string url;
  uint32_t connections = 4;  ///< of each export that is open, at most; 1 to kMaxConnections
  bool read_only = true;     ///< else what the server has are images, written through
  /// What the server has under a name never changes while it has the same size: its versions last.
  bool immutable = false;
  absl::Duration connect_timeout = absl::Seconds(10);  ///< positive, with name lookup and handshake
  absl::Duration request_timeout = absl::Seconds(30);  ///< positive, with all that is sent again
  /// A folder with ca-cert.pem, and client-cert.pem and client-key.pem where the server asks for
  /// them; nbds over TCP only, as the server's certificate is verified by its host's name.
  std::string tls_certificates;
  /// A file of pre-shared keys, of which the url names the user; nbds only. One of the two is
  /// needed there.
  std::string tls_psk;
};

/// An origin that reads, and if it may writes, through to an NBD server (libnbd). Does not connect
/// yet. INVALID_ARGUMENT with the reason for options that cannot be: a url of another kind or with
/// a password, numbers out of range, a name that is none, immutable and not read_only.
///
/// After stop() calls end with CANCELLED within a fraction of a second, but for the system's
/// look-up of a host's name, and what is open fails after two seconds.
///
/// Of a path of the server that cannot be one of the tree ("", "a//b", "..") there is one log line.
/// Destroying the origin ends its thread; what is under way fails with UNAVAILABLE, and so does
/// all that is asked of sources and images that somebody still holds.
[[nodiscard]] absl::StatusOr<std::shared_ptr<tree::Origin>> make_nbd_origin(
    const NbdOriginOptions& options);

}  // namespace blobcache::net
