#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/listen_address.h"

namespace blobcache::server {

/// A number of bytes ("1GiB"), or a share ("60%") of a whole that only the running machine knows.
/// Value type.
struct SizeOrShare {
  uint64_t bytes = 0;
  std::optional<double> percent;  ///< 0 to 100; `bytes` means nothing when it is set

  friend bool operator==(const SizeOrShare&, const SizeOrShare&) = default;

  /// Bytes: the size itself, or the share of `whole_bytes`.
  [[nodiscard]] uint64_t resolve(uint64_t whole_bytes) const;
};

enum class DirectIoMode : uint8_t { kAuto, kOn, kOff };
enum class PassthroughMode : uint8_t { kAuto, kOn, kOff };
enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

/// Everything that the daemon can be told, checked; a default-made one is the default
/// configuration. What each key means stands in its row of config_keys() or origin_keys(), and in
/// blobcached.toml(5). Value type.
struct Config {
  struct Store {
    std::filesystem::path path = "/var/lib/blobcache";
    SizeOrShare memory{uint64_t{1} << 30, std::nullopt};
    SizeOrShare disk{uint64_t{50} << 30, std::nullopt};
    SizeOrShare disk_reserve{0, 5.0};
    SizeOrShare volumes{0, 50.0};
    DirectIoMode direct_io = DirectIoMode::kAuto;
    std::string eviction = "s3-tinylfu";
    absl::Duration unnamed_ttl = absl::Hours(24);
    absl::Duration settle_after = absl::Seconds(2);
  };
  struct Prefetch {
    bool enabled = true;
    uint64_t max_window = uint64_t{64} << 20;
    uint64_t budget = uint64_t{256} << 20;
  };
  struct Fuse {
    std::filesystem::path mountpoint;  ///< empty: no mount
    std::string subtree;               ///< what is mounted there; empty: all of the tree
    bool read_only = false;            ///< that mount, and no other
    bool writeback_cache = false;      ///< that mount, and no other
    bool allow_other = false;
    absl::Duration entry_timeout = absl::Seconds(5);
    absl::Duration negative_timeout = absl::Seconds(2);
    uint32_t max_background = 512;
    uint64_t max_request = uint64_t{1} << 20;
    PassthroughMode passthrough = PassthroughMode::kAuto;
  };
  struct Nbd {
    std::vector<base::ListenAddress> listen = {
        {base::ListenAddress::Kind::kUnix, "/run/blobcache/nbd.sock", "", 0}};
    std::string default_export;
    std::vector<std::string> exports = {"**"};
    std::string tls = "off";
    std::filesystem::path tls_certificates;
    bool tls_verify_clients = false;
    std::filesystem::path tls_psk;
    bool insecure = false;
    uint32_t max_connections = 256;
    uint32_t max_requests = 128;
    absl::Duration handshake_timeout = absl::Seconds(10);
  };
  struct Grpc {
    std::vector<base::ListenAddress> listen = {
        {base::ListenAddress::Kind::kUnix, "/run/blobcache/blobcached.sock", "", 0}};
    uint64_t stream_window = uint64_t{4} << 20;
    uint64_t connection_window = uint64_t{32} << 20;
    uint32_t max_streams = 1024;
    std::filesystem::path tls_certificate;
    std::filesystem::path tls_key;
    std::filesystem::path tls_client_ca;
    std::filesystem::path token_file;
    bool insecure = false;
    std::string admin_group;
  };
  struct Metrics {
    std::optional<base::ListenAddress> listen =
        base::ListenAddress{base::ListenAddress::Kind::kTcp, "", "127.0.0.1", 9440};
    bool insecure = false;
  };
  struct Log {
    LogLevel level = LogLevel::kInfo;
  };
  struct Cluster {
    std::string registry = "static";
    std::string node;
    std::optional<base::ListenAddress> address;
    std::vector<std::string> peers;
    uint32_t replicas = 2;
  };

  /// One [[origin]].
  struct Origin {
    std::string name;
    std::string type;
    std::string url;
    std::filesystem::path path;
    uint32_t connections = 4;
    bool read_only = true;
    bool immutable = false;
    absl::Duration connect_timeout = absl::Seconds(10);
    absl::Duration request_timeout = absl::Seconds(30);
    std::filesystem::path tls_certificates;
    std::filesystem::path tls_psk;
    absl::Duration stall_timeout = absl::Seconds(10);
    uint64_t rate_limit = 0;  ///< bytes a second; 0: no limit
    std::string proxy;
    std::filesystem::path tls_ca;
    bool private_redirects = false;
    std::filesystem::path token_file;
    std::filesystem::path header_file;
    std::string endpoint;
    std::string region = "us-east-1";
    bool path_style = false;
    std::filesystem::path credentials_file;
    std::string profile = "default";

    friend bool operator==(const Origin&, const Origin&) = default;
  };

  Store store;
  Prefetch prefetch;
  Fuse fuse;
  Nbd nbd;
  Grpc grpc;
  Metrics metrics;
  Log log;
  Cluster cluster;
  std::vector<Origin> origins;
};

/// Where a configuration comes from: the defaults, overlaid by a TOML file, overlaid by KEY=VALUE
/// texts (VALUE as in TOML; the quotes of a string may be left out, a list may be given with
/// commas). Value type.
struct ConfigSources {
  std::optional<std::filesystem::path> file;
  std::vector<std::string> overrides;
};

/// What reading a configuration came to. `config` is meaningful only when `problems` is empty.
/// Value type.
struct ConfigResult {
  Config config;
  /// One line each, in the order of the file: "FILE:LINE: SECTION.KEY: what is wrong". Nothing in a
  /// configuration is ever ignored: what this version does not know or does not serve is a problem.
  std::vector<std::string> problems;
};

/// Reads and checks all of it. A file that cannot be read is a problem like any other.
[[nodiscard]] ConfigResult read_config(const ConfigSources& sources);

/// The same for a file's content that is in memory already; `file_name` is for the messages.
[[nodiscard]] ConfigResult parse_config(std::string_view toml, std::string_view file_name,
                                        const std::vector<std::string>& overrides);

/// As read_config, for those who want a configuration or one reason why not: INVALID_ARGUMENT with
/// the first problem.
[[nodiscard]] absl::StatusOr<Config> load_config(const ConfigSources& sources);

/// The whole configuration as TOML that read_config takes back; a key that is absent is a comment.
/// No secrets are in it: the configuration names files, it does not hold their content.
[[nodiscard]] std::string config_to_toml(const Config& config);

/// Whether fuse.passthrough may be "on": this program was built with libfuse 3.17 or later.
[[nodiscard]] bool can_pass_through();

}  // namespace blobcache::server
