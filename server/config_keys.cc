#include "server/config_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>
#include <numeric>

#include "server/impl/config_row.h"

namespace blobcache::server {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;
constexpr uint64_t kDay = 24 * 3600 * kSecond;
/// HTTP/2 windows are 31-bit numbers.
constexpr uint64_t kMaxWindow = std::numeric_limits<int32_t>::max();

using Store = Config::Store;
using Prefetch = Config::Prefetch;
using Fuse = Config::Fuse;
using Nbd = Config::Nbd;
using Grpc = Config::Grpc;
using Metrics = Config::Metrics;
using Log = Config::Log;
using Cluster = Config::Cluster;

constexpr std::array kStoreKeys = {
    absolute(
        at_least(1, row<&Config::store, &Store::path>(
                        "store", "path", "The directory of the disk tier (L1) and the catalog"))),
    at_least(8 * kMiB,
             row<&Config::store, &Store::memory>(
                 "store", "memory",
                 "The budget of the memory tier (L0): a size, or a share of the machine's or the "
                 "control group's memory, whichever is less")),
    at_least(kMiB, row<&Config::store, &Store::disk>(
                       "store", "disk",
                       "The budget of the disk tier (L1): a size, or a share of the file system")),
    row<&Config::store, &Store::disk_reserve>(
        "store", "disk_reserve", "What is left free of the file system, always: a size or a share"),
    row<&Config::store, &Store::volumes>(
        "store", "volumes",
        "What volumes may take of the file system, beside the disk tier: a size or a share"),
    row<&Config::store, &Store::direct_io>(
        "store", "direct_io",
        "Whether the disk tier bypasses the kernel's page cache: auto, on or off"),
    row<&Config::store, &Store::eviction>("store", "eviction", "The eviction policy of both tiers"),
    row<&Config::store, &Store::unnamed_ttl>("store", "unnamed_ttl",
                                             "How long a blob that was put without a name is kept"),
    between(0, kDay,
            row<&Config::store, &Store::settle_after>(
                "store", "settle_after",
                "How long a file that was written to rests before it becomes a blob again")),
};

constexpr std::array kPrefetchKeys = {
    row<&Config::prefetch, &Prefetch::enabled>(
        "prefetch", "enabled", "Whether sequential and strided readers are read ahead for"),
    between(512 * kKiB, 256 * kMiB,
            row<&Config::prefetch, &Prefetch::max_window>("prefetch", "max_window",
                                                          "How far ahead of one reader to read")),
    row<&Config::prefetch, &Prefetch::budget>(
        "prefetch", "budget", "How much memory prefetched and yet unread data may take"),
};

constexpr std::array kFuseKeys = {
    absolute(row<&Config::fuse, &Fuse::mountpoint>(
        "fuse", "mountpoint", "Where the tree is mounted at the start; absent: nowhere")),
    row<&Config::fuse, &Fuse::subtree>(
        "fuse", "subtree",
        "The directory of the tree that is mounted at the start; an empty string: all of it"),
    row<&Config::fuse, &Fuse::read_only>(
        "fuse", "read_only", "Whether nothing can be changed through the mount of the start"),
    row<&Config::fuse, &Fuse::writeback_cache>(
        "fuse", "writeback_cache",
        "Whether the kernel holds back what is written through the mount of the start, whose "
        "subtree is within files/"),
    row<&Config::fuse, &Fuse::allow_other>("fuse", "allow_other",
                                           "Whether other users than the daemon's may enter mounts",
                                           Effect::kReload),
    between(0, kDay,
            row<&Config::fuse, &Fuse::entry_timeout>(
                "fuse", "entry_timeout", "How long the kernel may remember names and attributes",
                Effect::kReload)),
    between(0, kDay,
            row<&Config::fuse, &Fuse::negative_timeout>(
                "fuse", "negative_timeout",
                "How long the kernel may remember that a name does not exist", Effect::kReload)),
    between(1, 65535,
            row<&Config::fuse, &Fuse::max_background>(
                "fuse", "max_background",
                "How many asynchronous requests the kernel may have under way", Effect::kReload)),
    between(4 * kKiB, kMiB,
            row<&Config::fuse, &Fuse::max_request>(
                "fuse", "max_request", "The largest request; the kernel reads ahead twice that",
                Effect::kReload)),
    row<&Config::fuse, &Fuse::passthrough>(
        "fuse", "passthrough",
        "Which files that are whole on disk the kernel reads by itself, where it can: those that "
        "nobody can write (auto), all (on) or none (off)",
        Effect::kReload),
};

constexpr std::array kNbdKeys = {
    row<&Config::nbd, &Nbd::listen>("nbd", "listen",
                                    "Where the block device door listens; an empty list: nowhere"),
    row<&Config::nbd, &Nbd::default_export>(
        "nbd", "default_export", "The path that a client gets who asks for no export by name"),
    row<&Config::nbd, &Nbd::exports>("nbd", "exports",
                                     "Patterns of the paths that may be exported"),
    row<&Config::nbd, &Nbd::tls>("nbd", "tls",
                                 "Whether NBD clients may or must use TLS: off, allow or require"),
    row<&Config::nbd, &Nbd::tls_certificates>(
        "nbd", "tls_certificates",
        "A directory with server-cert.pem, server-key.pem and perhaps ca-cert.pem"),
    row<&Config::nbd, &Nbd::tls_verify_clients>(
        "nbd", "tls_verify_clients",
        "Whether a client must show a certificate that ca-cert.pem has signed"),
    row<&Config::nbd, &Nbd::tls_psk>("nbd", "tls_psk",
                                     "A file of keys shared with clients, USER:HEX a line"),
    row<&Config::nbd, &Nbd::insecure>(
        "nbd", "insecure",
        "Allows a TCP listener that other machines reach without showing who they are"),
    between(1, 65536,
            row<&Config::nbd, &Nbd::max_connections>(
                "nbd", "max_connections", "How many NBD connections are served at once")),
    between(1, 4096,
            row<&Config::nbd, &Nbd::max_requests>(
                "nbd", "max_requests", "How many requests a connection may have under way")),
    between(100, 3600 * kSecond,
            row<&Config::nbd, &Nbd::handshake_timeout>(
                "nbd", "handshake_timeout", "How long a client may take to choose an export")),
};

constexpr std::array kGrpcKeys = {
    row<&Config::grpc, &Grpc::listen>("grpc", "listen",
                                      "Where the gRPC door listens; an empty list: nowhere"),
    between(64 * kKiB, kMaxWindow,
            row<&Config::grpc, &Grpc::stream_window>("grpc", "stream_window",
                                                     "HTTP/2 flow control window of a stream")),
    between(64 * kKiB, kMaxWindow,
            row<&Config::grpc, &Grpc::connection_window>(
                "grpc", "connection_window", "HTTP/2 flow control window of a connection")),
    between(1, 1 << 20,
            row<&Config::grpc, &Grpc::max_streams>("grpc", "max_streams",
                                                   "How many streams a connection may have open")),
    row<&Config::grpc, &Grpc::tls_certificate>(
        "grpc", "tls_certificate", "PEM file of the server's certificate chain; with tls_key"),
    row<&Config::grpc, &Grpc::tls_key>(
        "grpc", "tls_key", "PEM file of the server's private key; with tls_certificate"),
    row<&Config::grpc, &Grpc::tls_client_ca>(
        "grpc", "tls_client_ca",
        "PEM file of authorities; clients must then show a certificate of theirs"),
    row<&Config::grpc, &Grpc::token_file>("grpc", "token_file",
                                          "File with the bearer token that TCP clients must send"),
    row<&Config::grpc, &Grpc::insecure>(
        "grpc", "insecure",
        "Allows a TCP listener that other machines reach without tls_client_ca or token_file"),
    row<&Config::grpc, &Grpc::admin_group>(
        "grpc", "admin_group",
        "The group whose members may administer the daemon through its unix socket"),
};

constexpr std::array kOtherKeys = {
    row<&Config::metrics, &Metrics::listen>(
        "metrics", "listen",
        "HOST:PORT of the Prometheus metrics and the status page; an empty string: nowhere",
        Effect::kReload),
    row<&Config::metrics, &Metrics::insecure>("metrics", "insecure",
                                              "Allows a metrics listener that other machines reach",
                                              Effect::kReload),
    row<&Config::log, &Log::level>(
        "log", "level", "What is logged at least: debug, info, warning or error", Effect::kReload),
    row<&Config::cluster, &Cluster::registry>(
        "cluster", "registry", "Where nodes find one another; only static is served"),
    row<&Config::cluster, &Cluster::node>("cluster", "node", "This node's name", Effect::kReserved),
    row<&Config::cluster, &Cluster::address>("cluster", "address", "Where peers reach this node",
                                             Effect::kReserved),
    row<&Config::cluster, &Cluster::peers>("cluster", "peers",
                                           "The other nodes; only an empty list is served"),
    between(1, 16,
            row<&Config::cluster, &Cluster::replicas>(
                "cluster", "replicas", "How many nodes own each object", Effect::kReserved)),
};

constexpr size_t kKeyCount = kStoreKeys.size() + kPrefetchKeys.size() + kFuseKeys.size() +
                             kNbdKeys.size() + kGrpcKeys.size() + kOtherKeys.size();

constexpr std::array<ConfigKey, kKeyCount> join_keys() {
  std::array<ConfigKey, kKeyCount> all;
  auto next = all.begin();
  next = std::copy(kStoreKeys.begin(), kStoreKeys.end(), next);
  next = std::copy(kPrefetchKeys.begin(), kPrefetchKeys.end(), next);
  next = std::copy(kFuseKeys.begin(), kFuseKeys.end(), next);
  next = std::copy(kNbdKeys.begin(), kNbdKeys.end(), next);
  next = std::copy(kGrpcKeys.begin(), kGrpcKeys.end(), next);
  std::copy(kOtherKeys.begin(), kOtherKeys.end(), next);
  return all;
}

constexpr std::array<ConfigKey, kKeyCount> kKeys = join_keys();

/// Levenshtein's distance: the fewest single-character edits from `a` to `b`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string ConfigKey::full_name() const { return fmt::format("{}.{}", section, name); }

absl::Span<const ConfigKey> config_keys() { return kKeys; }

const ConfigKey* find_config_key(std::string_view section, std::string_view name) {
  for (const ConfigKey& key : kKeys) {
    if (key.section == section && key.name == name) return &key;
  }
  return nullptr;
}

std::vector<const ConfigKey*> changed_keys(const Config& before, const Config& after) {
  std::vector<const ConfigKey*> changed;
  for (const ConfigKey& key : kKeys) {
    if (key.print(before) != key.print(after)) changed.push_back(&key);
  }
  return changed;
}

std::string_view nearest_word(std::string_view word, absl::Span<const std::string_view> known) {
  constexpr size_t kLongestWord = 64;  // nobody misspells into a longer one; bounds the work
  if (word.size() > kLongestWord) return "";
  std::string_view nearest;
  // Two edits are what it takes to swap two letters; in a short word they make another word.
  const size_t tolerated = word.size() < 4 ? 1 : std::max<size_t>(2, word.size() / 3);
  size_t least = tolerated + 1;
  for (const std::string_view candidate : known) {
    const size_t distance = edit_distance(word, candidate);
    if (distance < least) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

}  // namespace blobcache::server
