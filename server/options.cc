#include "server/options.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/size.h"
#include "base/status.h"
#include "server/impl/config_checks.h"
#include "server/limits.h"
#include "store/tree/digest.h"

namespace blobcache::server {
namespace {

/// Where the default sockets are. It lies on a file system that every boot empties.
constexpr std::string_view kRuntimeDirectory = "/run/blobcache";

page::DirectIo direct_io(DirectIoMode mode) {
  switch (mode) {
    case DirectIoMode::kOn:
      return page::DirectIo::kOn;
    case DirectIoMode::kOff:
      return page::DirectIo::kOff;
    case DirectIoMode::kAuto:
      break;
  }
  return page::DirectIo::kAuto;
}

fusefs::PassthroughFiles passthrough_files(PassthroughMode mode) {
  switch (mode) {
    case PassthroughMode::kAuto:
      return fusefs::PassthroughFiles::kUnwritable;
    case PassthroughMode::kOn:
      return fusefs::PassthroughFiles::kSettled;
    case PassthroughMode::kOff:
      break;
  }
  return fusefs::PassthroughFiles::kNone;
}

/// OK for a directory that is there.
absl::Status check_directory(const std::filesystem::path& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != ENOENT) return base::errno_error(errno, path.native());
    return absl::NotFoundError(
        fmt::format("the directory {} is missing; make it first", path.native()));
  }
  if (!S_ISDIR(info.st_mode)) {
    return absl::FailedPreconditionError(fmt::format("{}: is no directory", path.native()));
  }
  return absl::OkStatus();
}

/// Makes one directory with exactly `mode`, or finds it.
absl::Status ensure_directory(const std::filesystem::path& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) {
    // The umask had its say in mkdir.
    if (::chmod(path.c_str(), mode) != 0) return base::errno_error(errno, path.native());
    return absl::OkStatus();
  }
  if (errno == ENOENT) {
    return absl::NotFoundError(
        fmt::format("{}: the directory {} is missing", path.native(), path.parent_path().native()));
  }
  if (errno != EEXIST) {
    return base::errno_error(errno, fmt::format("{}: cannot make this directory", path.native()));
  }
  return check_directory(path);
}

/// What check_config() lets through.
blockdev::TlsMode tls_mode(std::string_view text) {
  if (text == "require") return blockdev::TlsMode::kRequire;
  return text == "allow" ? blockdev::TlsMode::kAllow : blockdev::TlsMode::kOff;
}

}  // namespace

absl::StatusOr<page::PageStoreOptions> page_store_options(const Config& config) {
  const Config::Store& store = config.store;
  page::PageStoreOptions options;
  options.path = store.path;
  uint64_t memory = 0;
  if (store.memory.percent.has_value()) {
    BLOBCACHE_ASSIGN_OR_RETURN(const MemoryLimit limit, memory_limit());
    memory = limit.bytes;
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t disk, file_system_size(store.path));
  options.memory_bytes = store.memory.resolve(memory);
  options.disk_bytes = store.disk.resolve(disk);
  options.disk_reserve_bytes = store.disk_reserve.resolve(disk);
  // Some file systems tell no size.
  if (disk > 0 && options.disk_reserve_bytes >= disk) {
    return absl::InvalidArgumentError(fmt::format(
        "store.disk_reserve: {} leaves nothing of the file system of {} to the store, which has {}",
        base::format_size(options.disk_reserve_bytes), store.path.native(),
        base::format_size(disk)));
  }
  options.direct_io = direct_io(store.direct_io);
  options.prefetch = {.enabled = config.prefetch.enabled,
                      .max_window_bytes = config.prefetch.max_window,
                      .budget_bytes = config.prefetch.budget};
  options.eviction = store.eviction;
  options.content_hash = [] { return std::make_unique<tree::Sha256>(); };
  if (options.memory_bytes < page::PageStore::kMinMemory) {
    return absl::InvalidArgumentError(
        fmt::format("store.memory: the share is only {} bytes; at least {} are needed",
                    options.memory_bytes, page::PageStore::kMinMemory));
  }
  return options;
}

absl::StatusOr<tree::NamespaceOptions> namespace_options(const Config::Store& store,
                                                         std::shared_ptr<tree::StoreLock> lock) {
  tree::NamespaceOptions options;
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t disk, file_system_size(store.path));
  options.volume_bytes = store.volumes.resolve(disk);
  options.path = store.path;
  options.unnamed_ttl = store.unnamed_ttl;
  options.settle_after = store.settle_after;
  options.lock = std::move(lock);
  return options;
}

fusefs::MountOptions mount_options(const Config::Fuse& fuse) {
  fusefs::MountOptions options;
  if (!fuse.mountpoint.empty())
    options.mountpoint = absolute_path(fuse.mountpoint).value_or(fuse.mountpoint);
  options.allow_other = fuse.allow_other;
  options.entry_timeout = fuse.entry_timeout;
  options.negative_timeout = fuse.negative_timeout;
  options.max_background = fuse.max_background;
  options.max_request_bytes = fuse.max_request;
  options.passthrough = passthrough_files(fuse.passthrough);
  return options;
}

blockdev::NbdServerOptions nbd_options(const Config::Nbd& nbd, uint64_t memory_bytes) {
  blockdev::NbdServerOptions options;
  options.memory_bytes = memory_bytes;
  options.listen = nbd.listen;
  options.default_export = nbd.default_export;
  options.exports = nbd.exports;
  options.tls = {tls_mode(nbd.tls), nbd.tls_certificates, nbd.tls_verify_clients, nbd.tls_psk};
  options.max_connections = nbd.max_connections;
  options.max_requests = nbd.max_requests;
  options.handshake_timeout = nbd.handshake_timeout;
  return options;
}

absl::StatusOr<net::RpcServerOptions> rpc_options(const Config::Grpc& grpc, uint64_t memory_bytes) {
  // Of the memory tier: much enough for many streams, and little enough for everybody else.
  constexpr uint64_t kPinnedShare = 16;
  constexpr uint64_t kMostPinned = uint64_t{64} << 20;
  net::RpcServerOptions options;
  options.pinned_bytes = std::min(memory_bytes / kPinnedShare, kMostPinned);
  options.listen = grpc.listen;
  options.stream_window_bytes = grpc.stream_window;
  options.connection_window_bytes = grpc.connection_window;
  options.max_streams = grpc.max_streams;
  options.tls_certificate = grpc.tls_certificate;
  options.tls_key = grpc.tls_key;
  options.tls_client_ca = grpc.tls_client_ca;
  options.token_file = grpc.token_file;
  if (!grpc.admin_group.empty()) {
    const absl::StatusOr<gid_t> group = group_id(grpc.admin_group);
    if (!group.ok()) return base::annotate(group.status(), "grpc.admin_group");
    options.admin_group = *group;
  }
  return options;
}

absl::StatusOr<std::filesystem::path> absolute_path(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path result = std::filesystem::absolute(path, error).lexically_normal();
  if (error) return base::errno_error(error.value(), path.native());
  return result.has_filename() ? result : result.parent_path();
}

absl::StatusOr<std::filesystem::path> prepare_store_directory(const std::filesystem::path& path) {
  constexpr mode_t kStoreMode = 0700;
  BLOBCACHE_ASSIGN_OR_RETURN(std::filesystem::path directory, absolute_path(path));
  BLOBCACHE_RETURN_IF_ERROR(ensure_directory(directory, kStoreMode));
  if (::access(directory.c_str(), R_OK | W_OK | X_OK) != 0) {
    return base::errno_error(errno, directory.native());
  }
  return directory;
}

absl::Status prepare_socket_directories(const std::vector<base::ListenAddress>& listen) {
  // Who may connect is the sockets' own mode to say (0660).
  constexpr mode_t kRuntimeMode = 0755;
  for (const base::ListenAddress& address : listen) {
    if (address.kind != base::ListenAddress::Kind::kUnix) continue;
    const std::filesystem::path directory =
        std::filesystem::path(address.path).lexically_normal().parent_path();
    const absl::Status made = directory == kRuntimeDirectory
                                  ? ensure_directory(directory, kRuntimeMode)
                                  : check_directory(directory);
    if (!made.ok()) {
      return base::annotate(made, address.to_string());
    }
  }
  return absl::OkStatus();
}

}  // namespace blobcache::server
