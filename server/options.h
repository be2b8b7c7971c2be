#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockdev/nbd_server.h"
#include "fusefs/mount.h"
#include "net/rpc_server.h"
#include "server/config.h"
#include "store/page/page_store.h"
#include "store/tree/namespace.h"
#include "store/tree/store_lock.h"

namespace blobcache::server {

// What each part of the daemon is told, made from the configuration. Shares of memory and disk, and
// the names of groups, are looked up here; the errors name the key.

/// `store.path` must exist: shares are of its file system.
[[nodiscard]] absl::StatusOr<page::PageStoreOptions> page_store_options(const Config& config);
/// `store.path` must exist, as above.
[[nodiscard]] absl::StatusOr<tree::NamespaceOptions> namespace_options(
    const Config::Store& store, std::shared_ptr<tree::StoreLock> lock);
/// The mountpoint is `fuse.mountpoint` made absolute, or empty.
[[nodiscard]] fusefs::MountOptions mount_options(const Config::Fuse& fuse);
[[nodiscard]] blockdev::NbdServerOptions nbd_options(const Config::Nbd& nbd, uint64_t memory_bytes);
/// `memory_bytes` is the budget of the memory tier.
[[nodiscard]] absl::StatusOr<net::RpcServerOptions> rpc_options(const Config::Grpc& grpc,
                                                                uint64_t memory_bytes);

/// A path as seen from the working directory, without ".." and a trailing slash.
[[nodiscard]] absl::StatusOr<std::filesystem::path> absolute_path(
    const std::filesystem::path& path);

/// The store's directory, absolute. Made (0700) when only its last component is missing.
[[nodiscard]] absl::StatusOr<std::filesystem::path> prepare_store_directory(
    const std::filesystem::path& path);

/// Sees to the directories that unix sockets lie in: that of the default sockets (/run/blobcache)
/// is made (0755) when only it is missing; any other must be there, since nobody but its owner
/// knows who may enter it. NOT_FOUND and the like name the socket and the directory.
[[nodiscard]] absl::Status prepare_socket_directories(
    const std::vector<base::ListenAddress>& listen);

}  // namespace blobcache::server
