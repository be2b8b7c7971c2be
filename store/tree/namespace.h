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

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/parcel.h"
#include "store/page/object.h"
#include "store/page/page_store.h"
#include "store/tree/blob_writer.h"
#include "store/tree/evict.h"
#include "store/tree/garbage.h"
#include "store/tree/scrub.h"
#include "store/tree/store_lock.h"
#include "store/volume/image.h"

namespace blobcache::tree {

class Origin;

/// A stable number for one entry of the tree; FUSE shows it as the inode number. A name that is
/// bound anew, or another version of an origin's file, is a new node, so the bytes of a node that
/// is a file change by writing to it alone. Those of origins are stable for as long as the process
/// lives, and the one that takes over from it.
using NodeId = uint64_t;
inline constexpr NodeId kRootNode = 1;

enum class NodeType : uint8_t {
  kDirectory,
  kFile,     ///< its bytes never change while it is settled: see Namespace::open
  kImage,    ///< its bytes may: a volume, or an origin's image; see Namespace::open_image
  kSymlink,  ///< beneath files/, or an origin's; see NameEditor::read_symlink
};

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

  // How a file's content is held. It is the blob's: all of its names show the same.
  bool pinned = false;
  page::Retention retention = page::Retention::kKept;
  std::optional<absl::Time> expires;  ///< when it turns from kept to cached, unless held by then

  /// Of a file: every open sees the same bytes. Not so of an origin's without a strong validator:
  /// only those who have it open at once do.
  bool steady = true;
  /// What the bytes of a file or volume take of the disk: its holes take nothing. Never 0 where
  /// there is anything but zeros. Absent where nobody counts it, and of what is no file of ours.
  std::optional<uint64_t> allocated_bytes;

  /// Of a file: its content is a blob. Not so while it is written to, beneath files/: then there is
  /// no digest, `size_bytes` is the length as last noted, and it is opened as tree::Files has it.
  bool settled = true;
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
  /// Bytes of a file beneath files/ changed, or its length did; `length` reaches beyond the file's
  /// end where that moved. Called when the change can be seen, on any thread. Must not wait.
  virtual void on_content_changed(NodeId /*file*/, uint64_t /*offset*/, uint64_t /*length*/) {}
};

struct NamespaceOptions {
  std::filesystem::path path;  ///< the store's directory; the catalog is catalog.sqlite in it
  absl::Duration unnamed_ttl = absl::Hours(24);
  /// How long a file that was written to rests before it settles into a blob.
  absl::Duration settle_after = absl::Seconds(2);
  uint64_t volume_bytes = uint64_t{1} << 62;     ///< what all volumes together may take of the disk
  std::function<absl::Time()> clock;             ///< absent: the system's; any thread may call it
  std::shared_ptr<StoreLock> lock;               ///< held already; absent: open() takes it
  std::vector<std::shared_ptr<Origin>> origins;  ///< each name once
  /// What hand_over() gave in the process before, which this one takes over from. Nothing settles
  /// then before end_take_over().
  const base::Parcel* handed_over = nullptr;
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

/// A node that a door has open, and its object, if it is an object that the door has. Value type.
struct OpenNode {
  NodeId node = 0;
  page::ObjectRef object;
  bool is_lent = false;  ///< its file is: see page::Object::lend_file()
};

class Files;
class NameEditor;
class Volumes;

/// The tree: which names exist and which object each one means.
///
///     blobs/<64 hex>             every blob, read-only
///     files/<any/path>           files, directories and symbolic links; see editor()
///     volumes/<name>             writable images; see volumes()
///     origins/<origin>/<path>    what somewhere else has, read through; see origin.h
///
/// Paths have no leading slash ("files/a/b"); one is tolerated, and "" is the root. A path with an
/// empty component, "." or "..", a NUL byte, a component over 255 bytes or over 4,096 bytes in all
/// is INVALID_ARGUMENT with the reason. Symbolic links are not followed. NOT_FOUND, ALREADY_EXISTS,
/// FAILED_PRECONDITION (a directory where a file is wanted or the reverse) and PERMISSION_DENIED
/// (binding outside files/, or a name whose file the creator may not replace) otherwise. Beneath
/// origins/ also what the origin says: UNAVAILABLE or DEADLINE_EXCEEDED when it cannot be reached,
/// and others.
///
/// Thread-safe. Calls may wait for the catalog (SQLite) for a moment, never for a page; beneath
/// origins/ they may wait for the network, as long as the origin's limits have it, and are in
/// nobody's way meanwhile. Who must not wait asks waits() first.
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
  /// what exists throughout a walk is seen exactly once. (Of an origin, see OriginListing.)
  [[nodiscard]] virtual absl::StatusOr<std::vector<NamedNode>> list(NodeId directory,
                                                                    uint64_t cookie,
                                                                    size_t limit) = 0;
  /// The object behind a file node; FAILED_PRECONDITION for an image and a file under writing. A
  /// blob that is removed while it is open stays readable. NOT_FOUND for a version that its origin
  /// no longer has.
  [[nodiscard]] virtual absl::StatusOr<page::ObjectRef> open(NodeId node) = 0;
  /// The image behind an image's node, a volume or an origin's; FAILED_PRECONDITION for any other.
  /// All who have it open at once share it. Who lets go of it last may wait for the disk.
  [[nodiscard]] virtual absl::StatusOr<std::shared_ptr<volume::Image>> open_image(NodeId node) = 0;

  /// Where the bytes of a file or image beneath origins/ come from: "NAME TYPE URL", three words
  /// with a blank between them (Origin::type(), Origin::url_of()); blanks, control bytes and '%' in
  /// NAME are "%XX". "" for any other node. NOT_FOUND for one that is gone, perhaps not for one
  /// that the origin has no more. Waits for nothing.
  [[nodiscard]] virtual absl::StatusOr<std::string> origin_of(NodeId /*node*/) {
    return std::string();
  }

  /// Whether calls about this node (looking a name up in it, listing or opening it) may wait for
  /// the network. Waits for nothing.
  [[nodiscard]] virtual bool waits(NodeId /*node*/) { return false; }
  /// Runs `call`, which is about to make such calls: now, on this thread, when they do not wait,
  /// else soon, on one of a few threads of the node's origin. False, and `call` is gone, when too
  /// much waits for that origin.
  [[nodiscard]] virtual bool run(NodeId /*node*/, absl::AnyInvocable<void()> call) {
    call();
    return true;
  }
  /// The same about a path.
  [[nodiscard]] virtual bool run(std::string_view /*path*/, absl::AnyInvocable<void()> call) {
    call();
    return true;
  }

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
  /// (blobs/HEX): FAILED_PRECONDITION, with what holds it, while a name or a pin does.
  [[nodiscard]] virtual absl::Status remove(std::string_view path) = 0;
  /// Keeps the blob behind a file, with a name or without, until it is unpinned. The pin is the
  /// blob's, whatever path it came by: it stays when that name is bound anew or goes, and does not
  /// follow the name; the same content put again is the same blob. A blob is pinned or not; to pin
  /// it twice is to pin it. Returns the file as it is then. FAILED_PRECONDITION for a directory.
  [[nodiscard]] virtual absl::StatusOr<Node> pin(std::string_view path) = 0;
  /// Ends that. A blob without a name is kept for unnamed_ttl from now; one that is not pinned
  /// stays as it is.
  [[nodiscard]] virtual absl::StatusOr<Node> unpin(std::string_view path) = 0;
  /// Has tiers drop the blob behind a file. FAILED_PRECONDITION for a directory, and with the
  /// reason for a kept blob that is to leave the disk (kDisk). Pages leave L0 all the same when
  /// what follows fails.
  [[nodiscard]] virtual absl::StatusOr<Evicted> evict(std::string_view path, EvictFrom from) = 0;

  /// Listeners must be removed before they die. Removing one waits for calls to it that are under
  /// way, so a listener never removes itself while it is called.
  virtual void add_listener(NamespaceListener* listener) = 0;
  virtual void remove_listener(NamespaceListener* listener) = 0;

  /// The volumes among the names; they live as long as the namespace. See volumes.h.
  [[nodiscard]] virtual Volumes& volumes() = 0;

  // Upkeep. Slow, and safe beside everything else.
  /// Verifies what the disk holds of a path: a file, a blob, a volume's own pages, all that is
  /// named beneath a directory, "blobs", every one with a name or without, or "", those and all
  /// volumes; blobs as page::PageStore::scrub, whose errors end it. With every blob goes the
  /// catalog, whose damage is DATA_LOSS, at once. Damage of blobs and volumes, and a volume that
  /// cannot be opened, is no error: `watcher` learns of it. A volume is in use while it is read.
  /// CANCELLED when `watcher` ends it.
  [[nodiscard]] virtual absl::Status scrub(std::string_view path, ScrubWatcher& watcher) = 0;
  /// Removes what nothing names: blobs without a name or a pin that are cached, or kept and past
  /// their unnamed_ttl (or any, see GarbageOptions); and files that no blob owns. What somebody has
  /// open stays readable for him; puts under way, and what they bring, are safe. CANCELLED when
  /// `watcher` ends it; else the first error, after which the rest was tried all the same.
  [[nodiscard]] virtual absl::Status collect_garbage(const GarbageOptions& options,
                                                     GarbageWatcher& watcher) = 0;

  struct Counts {
    uint64_t blobs = 0;
    uint64_t blob_bytes = 0;
    uint64_t names = 0;
    uint64_t unnamed_blobs = 0;
    uint64_t unsettled_files = 0;  ///< written to, or were and are no blobs again yet
  };
  [[nodiscard]] virtual absl::StatusOr<Counts> counts() = 0;

  /// What the disk may hold, all of it, what is taken, and what can still be written. Bytes.
  struct Space {
    uint64_t total_bytes = 0;
    uint64_t used_bytes = 0;
    uint64_t free_bytes = 0;
  };
  /// By default the blobs', and no room for more.
  [[nodiscard]] virtual absl::StatusOr<Space> space() {
    const absl::StatusOr<Counts> held = counts();
    if (!held.ok()) return held.status();
    return Space{.total_bytes = held->blob_bytes, .used_bytes = held->blob_bytes, .free_bytes = 0};
  }

  // Changing files/ as a file system does; both live as long as the namespace. See name_editor.h
  // and files.h.
  [[nodiscard]] virtual NameEditor& editor() = 0;
  [[nodiscard]] virtual Files& files() = 0;

  // For a process that takes the store over from another one, so that what doors have open lives on
  // there under the same nodes.
  /// Packs what is in no catalog: files that have no name any more and are open, blobs of `open`
  /// that are forgotten, and the nodes of origins. For when the doors do nothing any more. What
  /// they hold may be let go of then, and nothing of it is removed; nothing settles any more.
  [[nodiscard]] virtual absl::StatusOr<base::Parcel> hand_over(
      const std::vector<OpenNode>& /*open*/) {
    return base::Parcel();
  }
  /// The lease of a node's file that was lent in the process before (see OpenNode), unless it is a
  /// file beneath files/ (File::keep_lent()); once. Null where nothing has to be held.
  [[nodiscard]] virtual std::shared_ptr<const void> keep_lent(NodeId /*node*/) { return nullptr; }
  /// The doors have opened again what they had open: what they did not is let go of.
  virtual void end_take_over() {}
};

}  // namespace blobcache::tree
