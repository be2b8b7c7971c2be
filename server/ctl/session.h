#pragma once

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/listen_address.h"
#include "net/rpc_client.h"

namespace blobcache::ctl {

/// The options that every command has. Value type.
struct GlobalOptions {
  std::string endpoint;  ///< empty: $BLOBCACHE_ENDPOINT, then kDefaultEndpoint
  bool json = false;
  bool quiet = false;
  std::string token_file;  ///< empty: $BLOBCACHE_TOKEN_FILE, then none
  std::string tls_ca;
  std::string tls_certificate;
  std::string tls_key;
};

inline constexpr const char* kDefaultEndpoint = "unix:/run/blobcache/blobcached.sock";

/// One run of the program: its options, and the daemon, which is reached when a command first needs
/// it.
///
/// One thread at a time; the client that it hands out is thread-safe and lives as long as the
/// session.
class Session {
 public:
  explicit Session(GlobalOptions options) : options_(std::move(options)) {}

  [[nodiscard]] const GlobalOptions& options() const { return options_; }

  /// INVALID_ARGUMENT when the command line or the environment names what is no address.
  [[nodiscard]] absl::StatusOr<base::ListenAddress> endpoint() const;

  /// False when it is known that nobody listens there; a tcp: address tells only when it is
  /// connected to.
  [[nodiscard]] bool may_be_there() const;

  /// Connects at the first call. UNAVAILABLE ("cannot reach ADDRESS: why") when nobody is there.
  [[nodiscard]] absl::StatusOr<net::RpcClient*> connect();

 private:
  [[nodiscard]] absl::StatusOr<net::RpcClientOptions> client_options() const;

  const GlobalOptions options_;
  std::unique_ptr<net::RpcClient> client_;
};

/// The first line of a token file, at most 4 KiB of printable ASCII. The error names the file.
[[nodiscard]] absl::StatusOr<std::string> read_token(const std::string& path);

}  // namespace blobcache::ctl
