#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/listen_address.h"
#include "server/snapshot.h"

namespace blobcache::server {

/// Serves GET /metrics in Prometheus's text format and a status page at / by HTTP. Everything is
/// computed from a Snapshot at the time of the request; nothing is kept between requests.
///
/// A few threads of its own; requests are short, and one that dawdles is cut off, so that stop() is
/// quick.
class MetricsServer {
 public:
  /// Listens on a TCP address; port 0 lets the kernel choose. ALREADY_EXISTS when the port is in
  /// use, else the system's error. `source` must outlive the server.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<MetricsServer>> start(
      const base::ListenAddress& address, SnapshotSource& source);

  virtual ~MetricsServer() = default;  ///< stops listening, waits for requests under way

  /// The address in use (port filled in).
  [[nodiscard]] virtual const base::ListenAddress& address() const = 0;
};

}  // namespace blobcache::server
