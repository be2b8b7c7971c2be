#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/door_stats.h"
#include "base/listen_address.h"
#include "base/unique_fd.h"
#include "blockdev/tls.h"
#include "store/tree/namespace.h"

namespace blobcache::blockdev {

struct NbdServerOptions {
  std::vector<base::ListenAddress> listen;
  base::ListenFunction listen_on = &base::listen_on;
  std::string default_export;                 ///< what a client gets that asks for ""; "" for none
  std::vector<std::string> exports = {"**"};  ///< allow-list of path patterns; see export_filter.h
  TlsOptions tls;
  uint32_t max_connections = 256;
  uint32_t max_requests = 128;  ///< in flight, a connection
  /// The store's memory budget, of which a connection pins an eighth at most (and 32 MiB), and of
  /// which one NBD_CMD_CACHE fills a quarter; 0: unknown.
  uint64_t memory_bytes = 0;
  absl::Duration handshake_timeout = absl::Seconds(10);
  absl::Duration stall_copy =
      absl::Seconds(1);  ///< a blocked socket's pinned replies are copied out
  absl::Duration stall_cut = absl::Seconds(60);  ///< and after this the connection is cut
};

struct Export {
  std::string name;
  uint64_t size_bytes = 0;
  bool read_only = true;
};

/// What exports there are. Value type.
struct ExportList {
  std::vector<Export> exports;
  /// Origins whose exports are not among them, each with the reason: "origins/hub: no answer ...".
  std::vector<std::string> left_out;
};

/// Serves paths of the tree as NBD exports on unix sockets and TCP: the NBD protocol's fixed
/// newstyle with structured replies, metadata contexts and extended headers
/// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
///
/// Thread-safe. One thread a listener and one a connection; see nbd_session.h for why.
class NbdServer {
 public:
  /// Listens on every address or on none; errors also as load_tls(). `names` must outlive the
  /// server.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<NbdServer>> start(
      const NbdServerOptions& options, tree::Namespace& names);
  virtual ~NbdServer() = default;  ///< stop()

  /// Stops listening, ends every connection, removes socket files. Idempotent.
  virtual void stop() = 0;

  /// Descriptors of the listening sockets, in the order of NbdServerOptions::listen, for a process
  /// that goes on with them: stop() leaves the files of unix sockets where they are from then on,
  /// and who connects waits for that process.
  [[nodiscard]] virtual absl::StatusOr<std::vector<base::UniqueFd>> keep_listening() = 0;

  /// Reads the certificates and keys of TLS once more, for the connections that come from then on.
  /// After an error, as load_tls() has them, what was read before stays in use. OK without TLS.
  [[nodiscard]] virtual absl::Status reload_tls() = 0;

  /// The addresses in use (ports filled in).
  [[nodiscard]] virtual std::vector<base::ListenAddress> addresses() const = 0;
  [[nodiscard]] virtual base::DoorStats stats() const = 0;

  /// The exportable paths: files under files/, volumes, blobs/ and what origins tell within 3 s,
  /// that the allow-list admits; at most `limit`. NBD_OPT_LIST answers the same.
  [[nodiscard]] virtual absl::StatusOr<ExportList> exports(size_t limit) = 0;
};

}  // namespace blobcache::blockdev
