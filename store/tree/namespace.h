#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object.h"
#include "store/page/page_store.h"
#include "store/tree/blob_writer.h"
#include "store/tree/store_lock.h"

namespace blobcache::tree {

/// A stable number for one entry of the tree; FUSE shows it as the inode number. A name that is
/// bound anew is a new node, so a node's bytes never change.
using NodeId = uint64_t;
inline constexpr NodeId kRootNode = 1;

enum class NodeType : uint8_t { kDirectory, kFile };

/// One entry of the tree as it is now. Value type.
struct Node {
  NodeId id = 0;
  NodeType type = NodeType::kFile;
  uint64_t size_bytes = 0;
  mode_t mode = 0;  ///< permission bits only
  uid_t uid = 0;
  gid_t gid = 0;
  uint32_t links = 1;
  absl::Time modified;
  absl::Time changed;
  std::optional<page::ObjectKey> digest;  ///< a file's content
};

struct NamedNode {
  std::string name;
  Node node;
  uint64_t cookie = 0;  ///< pass to Namespace::list to go on after this entry; never 0
};

/// Told after a name changed what it means. Called on the thread that made the change, with no lock
/// held.
class NamespaceListener {
 public:
  virtual ~NamespaceListener() = default;
  /// `name` in directory `parent` was bound, rebound or removed.
  virtual void on_name_changed(NodeId parent, std::string_view name) = 0;
};

struct NamespaceOptions {
  std::filesystem::path path;  ///< the store's directory; the catalog is catalog.sqlite in it
  absl::Duration unnamed_ttl = absl::Hours(24);
  std::function<absl::Time()> clock;  ///< absent: the system's; any thread may call it
  std::shared_ptr<StoreLock> lock;    ///< held already; absent: open() takes it
};

/// Which names somebody may bind anew.
enum class MayReplace : uint8_t {
  kNone,  ///< we do not know who he is: what he creates is not his
  kOwn,   ///< those whose file belongs to him, by its uid
  kAll,   ///< an administrator
};

/// Who creates a file or directory under files/, and what he may replace by it. Value type.
struct Creator {
  uid_t uid = 0;
  gid_t gid = 0;
  MayReplace may_replace = MayReplace::kOwn;
};

/// The tree: which names exist and which object each one means.
///
///     blobs/<64 hex>      every blob, read-only
///     files/<any/path>    names bound to blobs
///     origins/, volumes/  directories, empty as yet
///
/// Paths have no leading slash ("files/a/b"); one is tolerated, and "" is the root. A path with an
/// empty component, "." or "..", a NUL byte, a component over 255 bytes or over 4,096 bytes in all
/// is INVALID_ARGUMENT with the reason. NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION (a directory
/// where a file is wanted or the reverse) and PERMISSION_DENIED (binding outside files/, or a name
/// whose file the creator may not replace) otherwise.
///
/// Thread-safe. Calls may wait for the catalog (SQLite) for a moment, never for a page or the
/// network.
class Namespace {
 public:
  /// Opens or makes the catalog; locks the store against a second daemon (UNAVAILABLE, naming the
  /// holder's pid); refuses a newer schema (FAILED_PRECONDITION) and upgrades an older one. Tells
  /// the page store its usage and becomes its reclaimer. `store` must outlive the namespace.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Namespace>> open(
      const NamespaceOptions& options, page::PageStore& store);

  virtual ~Namespace() = default;

  // Looking.
  [[nodiscard]] virtual absl::StatusOr<Node> resolve(std::string_view path) = 0;
  [[nodiscard]] virtual absl::StatusOr<Node> lookup(NodeId parent, std::string_view name) = 0;
  [[nodiscard]] virtual absl::StatusOr<Node> stat(NodeId node) = 0;
  /// Up to `limit` entries after `cookie` (0: from the start), in an order that survives changes:
  /// what exists throughout a walk is seen exactly once.
  [[nodiscard]] virtual absl::StatusOr<std::vector<NamedNode>> list(NodeId directory,
                                                                    uint64_t cookie,
                                                                    size_t limit) = 0;
  /// The object behind a file node. A blob that is removed while it is open stays readable.
  [[nodiscard]] virtual absl::StatusOr<page::ObjectRef> open(NodeId node) = 0;

  // Changing. Each change is durable when the call returns.
  /// Begins a blob. `bind_path` ("files/..."), when not empty, is bound to it in the same
  /// transaction that makes it visible; parent directories are made. The path, and whether
  /// `creator` may replace what it means, are checked at once and again in that transaction.
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<BlobWriter>> put(std::string_view bind_path,
                                                                        const Creator& creator,
                                                                        uint64_t size_hint) = 0;
  /// Binds files/PATH to a blob that is here, replacing what it meant; makes parent directories.
  [[nodiscard]] virtual absl::StatusOr<Node> bind(std::string_view path, const page::ObjectKey& key,
                                                  const Creator& creator) = 0;
  /// Removes a name under files/ (a directory only when it is empty), or forgets a blob
  /// (blobs/HEX): FAILED_PRECONDITION, with a name that holds it, while any name does.
  [[nodiscard]] virtual absl::Status remove(std::string_view path) = 0;

  /// Listeners must be removed before they die. Removing one waits for calls to it that are under
  /// way, so a listener never removes itself while it is called.
  virtual void add_listener(NamespaceListener* listener) = 0;
  virtual void remove_listener(NamespaceListener* listener) = 0;

  struct Counts {
    uint64_t blobs = 0;
    uint64_t blob_bytes = 0;
    uint64_t names = 0;
    uint64_t unnamed_blobs = 0;
  };
  [[nodiscard]] virtual absl::StatusOr<Counts> counts() = 0;
};

}  // namespace blobcache::tree
