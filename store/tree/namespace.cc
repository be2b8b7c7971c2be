#include "store/tree/namespace.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <functional>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "base/hex.h"
#include "base/status.h"
#include "store/page/geometry.h"
#include "store/tree/digest.h"
#include "store/tree/impl/ballast.h"
#include "store/tree/impl/blob_put.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/edit_runner.h"
#include "store/tree/impl/housekeeper.h"
#include "store/tree/impl/listener_list.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/open_objects.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

constexpr mode_t kBlobMode = 0400;

/// blobs/ and the other fixed directories belong to whoever runs the daemon, whoever made the
/// store.
bool belongs_to_daemon(const FileRow& row) {
  const auto id = static_cast<NodeId>(row.id);
  return id <= kLastFixedNode && id != kFilesNode;
}

Node to_node(const FileRow& row) {
  Node node;
  node.id = static_cast<NodeId>(row.id);
  node.type = row.is_directory ? NodeType::kDirectory : NodeType::kFile;
  node.size_bytes = row.size_bytes;
  node.mode = row.mode;
  node.uid = belongs_to_daemon(row) ? ::geteuid() : row.uid;
  node.gid = belongs_to_daemon(row) ? ::getegid() : row.gid;
  // 1 tells programs that a directory's links say nothing about what it holds.
  node.links = row.is_directory ? 1 : row.links;
  node.modified = row.modified;
  node.changed = row.changed;
  node.digest = row.key;
  return node;
}

Node to_node(const BlobRow& row) {
  Node node;
  node.id = blob_node(row.id);
  node.type = NodeType::kFile;
  node.size_bytes = row.size_bytes;
  node.mode = kBlobMode;
  node.uid = ::geteuid();
  node.gid = ::getegid();
  node.modified = row.created;
  node.changed = row.created;
  node.digest = row.key;
  return node;
}

/// Blobs are listed by their digests in lower case, so that each has one name.
std::optional<page::ObjectKey> parse_blob_name(std::string_view name) {
  page::ObjectKey key;
  if (!base::from_hex(name, absl::MakeSpan(key.bytes)) || key.hex() != name) return std::nullopt;
  return key;
}

absl::Status no_such_node(NodeId node) {
  return absl::NotFoundError(fmt::format("node {}: removed or replaced", node));
}

absl::Status no_such_name(std::string_view name) {
  return absl::NotFoundError(fmt::format("{}: no such file or directory", printable(name)));
}

absl::Status not_a_directory(std::string_view name) {
  return absl::FailedPreconditionError(fmt::format("{}: not a directory", printable(name)));
}

/// What is read back from the catalog may be damaged: no size of a row is believed that cannot be.
/// A wrong size that can be shows in the checksums of the pages and the size of the file.
absl::Status check_row(const BlobRow& row) {
  static const page::ObjectKey kEmpty = Sha256().finish();
  const bool possible =
      row.size_bytes <= page::kMaxObjectSize && (row.size_bytes == 0) == (row.key == kEmpty);
  if (possible) return absl::OkStatus();
  return absl::DataLossError(
      fmt::format("blobs/{}: the catalog has a wrong size for it", row.key.hex()));
}

/// Reads the entry `name` of `parent`, which is a directory if it is there at all.
absl::StatusOr<std::optional<Node>> find_node(CatalogReader& catalog, NodeId parent,
                                              std::string_view name) {
  if (parent == kBlobsNode) {
    const std::optional<page::ObjectKey> key = parse_blob_name(name);
    if (!key) return std::optional<Node>();
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> blob, catalog.find_blob(*key));
    return blob ? std::optional<Node>(to_node(*blob)) : std::nullopt;
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> entry,
                             catalog.find_entry(file_of_node(parent), name));
  return entry ? std::optional<Node>(to_node(entry->file)) : std::nullopt;
}

absl::StatusOr<Node> find_node(CatalogReader& catalog, NodeId node) {
  if (const std::optional<int64_t> blob = blob_of_node(node)) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> row, catalog.find_blob_by_id(*blob));
    if (row) return to_node(*row);
    return no_such_node(node);
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> row,
                             catalog.find_file(file_of_node(node)));
  if (row) return to_node(*row);
  return no_such_node(node);
}

absl::Status check_directory(CatalogReader& catalog, NodeId node) {
  BLOBCACHE_ASSIGN_OR_RETURN(const Node found, find_node(catalog, node));
  if (found.type != NodeType::kDirectory) return not_a_directory(fmt::format("node {}", node));
  return absl::OkStatus();
}

/// The namespace over a catalog and a page store. Its parts are declared in the order in which they
/// need one another; the lock is the first to come and the last to go.
class CatalogNamespace final : public Namespace {
 public:
  using Clock = std::function<absl::Time()>;

  CatalogNamespace(std::shared_ptr<StoreLock> lock, std::unique_ptr<Ballast> ballast,
                   std::unique_ptr<Catalog> catalog, page::PageStore& store,
                   absl::Duration unnamed_ttl, const Clock& clock)
      : lock_(std::move(lock)),
        store_(store),
        clock_(clock),
        ballast_(std::move(ballast)),
        catalog_(std::move(catalog)),
        edits_(*catalog_, store, listeners_),
        housekeeper_(*catalog_, store, edits_, *ballast_, open_objects_, unnamed_ttl, clock) {}

  absl::StatusOr<Node> resolve(std::string_view path) override;
  absl::StatusOr<Node> lookup(NodeId parent, std::string_view name) override;
  absl::StatusOr<Node> stat(NodeId node) override;
  absl::StatusOr<std::vector<NamedNode>> list(NodeId directory, uint64_t cookie,
                                              size_t limit) override;
  absl::StatusOr<page::ObjectRef> open(NodeId node) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> put(std::string_view bind_path,
                                                  const Creator& creator,
                                                  uint64_t size_hint) override;
  absl::StatusOr<Node> bind(std::string_view path, const page::ObjectKey& key,
                            const Creator& creator) override;
  absl::Status remove(std::string_view path) override;
  void add_listener(NamespaceListener* listener) override { listeners_.add(listener); }
  void remove_listener(NamespaceListener* listener) override { listeners_.remove(listener); }
  absl::StatusOr<Counts> counts() override;

 private:
  absl::Status check_bind_path(std::string_view path, const Creator& creator);

  const std::shared_ptr<StoreLock> lock_;
  page::PageStore& store_;
  const Clock clock_;
  ListenerList listeners_;
  OpenObjects open_objects_;
  const std::unique_ptr<Ballast> ballast_;
  const std::unique_ptr<Catalog> catalog_;
  EditRunner edits_;
  Housekeeper housekeeper_;
};

absl::StatusOr<Node> CatalogNamespace::resolve(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  Catalog::Lease catalog = catalog_->read();
  BLOBCACHE_RETURN_IF_ERROR(catalog.freeze());
  BLOBCACHE_ASSIGN_OR_RETURN(Node node, find_node(*catalog, kRootNode));
  for (const std::string_view name : names) {
    if (node.type != NodeType::kDirectory) return not_a_directory(path);
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<Node> found, find_node(*catalog, node.id, name));
    if (!found) return no_such_name(path);
    node = *found;
  }
  return node;
}

absl::StatusOr<Node> CatalogNamespace::lookup(NodeId parent, std::string_view name) {
  BLOBCACHE_RETURN_IF_ERROR(check_name(name));
  Catalog::Lease catalog = catalog_->read();
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<Node> found, find_node(*catalog, parent, name));
  if (found) return *found;
  BLOBCACHE_RETURN_IF_ERROR(check_directory(*catalog, parent));
  return no_such_name(name);
}

absl::StatusOr<Node> CatalogNamespace::stat(NodeId node) {
  return find_node(*catalog_->read(), node);
}

absl::StatusOr<std::vector<NamedNode>> CatalogNamespace::list(NodeId directory, uint64_t cookie,
                                                              size_t limit) {
  if (cookie > INT64_MAX) return absl::InvalidArgumentError("a cookie that list() never gave");
  const auto after = static_cast<int64_t>(cookie);
  std::vector<NamedNode> entries;
  Catalog::Lease catalog = catalog_->read();
  if (directory == kBlobsNode) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<BlobRow> rows, catalog->list_blobs(after, limit));
    for (const BlobRow& row : rows) {
      entries.push_back({row.key.hex(), to_node(row), static_cast<uint64_t>(row.id)});
    }
    return entries;
  }
  BLOBCACHE_RETURN_IF_ERROR(check_directory(*catalog, directory));
  BLOBCACHE_ASSIGN_OR_RETURN(std::vector<EntryRow> rows,
                             catalog->list_entries(file_of_node(directory), after, limit));
  for (EntryRow& row : rows) {
    const auto next = static_cast<uint64_t>(row.id);
    entries.push_back({std::move(row.name), to_node(row.file), next});
  }
  return entries;
}

absl::StatusOr<page::ObjectRef> CatalogNamespace::open(NodeId node) {
  const absl::ReaderMutexLock no_removal(&edits_.removal_mutex());
  Catalog::Lease catalog = catalog_->read();
  const std::optional<int64_t> blob = blob_of_node(node);
  BLOBCACHE_ASSIGN_OR_RETURN(
      std::optional<BlobRow> row,
      blob ? catalog->load_blob(*blob) : catalog->load_blob_of_file(file_of_node(node)));
  if (!row) {
    BLOBCACHE_ASSIGN_OR_RETURN(const Node found, find_node(*catalog, node));
    if (found.type == NodeType::kFile) {
      return absl::DataLossError(
          fmt::format("node {}: its content is unknown: the catalog is damaged", node));
    }
    return absl::FailedPreconditionError(fmt::format("node {}: is a directory", node));
  }
  BLOBCACHE_RETURN_IF_ERROR(check_row(*row));
  page::ObjectSpec spec;
  spec.key = row->key;
  spec.incarnation = row->incarnation;
  spec.size_bytes = row->size_bytes;
  spec.retention = row->retention;
  spec.inline_map = std::move(row->inline_map);
  page::ObjectRef object = store_.attach(spec);
  open_objects_.note(row->id, object);
  return object;
}

/// What is certain to fail at the commit fails before a byte is moved.
absl::Status CatalogNamespace::check_bind_path(std::string_view path, const Creator& creator) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  BLOBCACHE_RETURN_IF_ERROR(check_bindable(names));
  const absl::StatusOr<Node> node = resolve(path);
  if (absl::IsNotFound(node.status())) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(node.status());
  if (node->type == NodeType::kFile) return check_replaceable(path, node->uid, creator);
  return absl::FailedPreconditionError(fmt::format("{}: is a directory", printable(path)));
}

absl::StatusOr<std::unique_ptr<BlobWriter>> CatalogNamespace::put(std::string_view bind_path,
                                                                  const Creator& creator,
                                                                  uint64_t size_hint) {
  if (!bind_path.empty()) BLOBCACHE_RETURN_IF_ERROR(check_bind_path(bind_path, creator));
  BLOBCACHE_RETURN_IF_ERROR(housekeeper_.expire());
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<page::ObjectWriter> writer,
                             store_.create(page::Retention::kKept, size_hint));
  return std::make_unique<BlobPut>(edits_, clock_, std::move(writer), std::string(bind_path),
                                   creator);
}

absl::StatusOr<Node> CatalogNamespace::bind(std::string_view path, const page::ObjectKey& key,
                                            const Creator& creator) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  BLOBCACHE_RETURN_IF_ERROR(check_bindable(names));
  FileRow file;
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> blob, catalog.find_blob(key));
    if (!blob) return absl::NotFoundError(fmt::format("blobs/{}: no such blob", key.hex()));
    BLOBCACHE_ASSIGN_OR_RETURN(file, bind_path(catalog, names, *blob, creator, clock_(), effects));
    return absl::OkStatus();
  };
  BLOBCACHE_RETURN_IF_ERROR(edits_.run(edit).status());
  return to_node(file);
}

absl::Status CatalogNamespace::remove(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  if (names.size() < 2) {
    BLOBCACHE_RETURN_IF_ERROR(resolve(path).status());
    return absl::PermissionDeniedError(
        fmt::format("/{}: is part of every store and stays",
                    names.empty() ? std::string_view() : names.front()));
  }
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    if (names.front() == "files") return remove_name(catalog, names, clock_(), effects);
    const std::optional<page::ObjectKey> key = parse_blob_name(names[1]);
    if (names.front() != "blobs" || names.size() != 2 || !key) return no_such_name(path);
    return remove_blob(catalog, *key, effects);
  };
  return ballast_->with_room([&] { return edits_.run(edit).status(); });
}

absl::StatusOr<Namespace::Counts> CatalogNamespace::counts() {
  BLOBCACHE_RETURN_IF_ERROR(housekeeper_.expire());
  BLOBCACHE_ASSIGN_OR_RETURN(const Totals totals, catalog_->read()->totals());
  return Counts{.blobs = totals.blobs,
                .blob_bytes = totals.blob_bytes,
                .names = totals.names,
                .unnamed_blobs = totals.unnamed_blobs};
}

/// Opens the catalog, if need be in the ballast's room: a daemon that is started on a full disk can
/// be told what to remove.
absl::StatusOr<std::unique_ptr<Catalog>> open_catalog(const std::filesystem::path& directory,
                                                      page::PageStore& store, Ballast& ballast) {
  std::unique_ptr<Catalog> catalog;
  const auto open = [&]() -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(
        catalog, Catalog::open(directory / "catalog.sqlite", directory / "objects",
                               [&store](absl::Span<page::ObjectWriter* const> sealed) {
                                 return store.sync(sealed);
                               }));
    return absl::OkStatus();
  };
  BLOBCACHE_RETURN_IF_ERROR(ballast.with_room(open));
  if (!ballast.make()) {
    spdlog::warn("the file system of {} is full: there is no room to hold {} KiB for removals",
                 directory.string(), Ballast::kBytes >> 10);
  }
  return catalog;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Namespace>> Namespace::open(const NamespaceOptions& options,
                                                           page::PageStore& store) {
  std::shared_ptr<StoreLock> lock = options.lock;
  if (lock == nullptr) {
    BLOBCACHE_ASSIGN_OR_RETURN(lock, StoreLock::acquire(options.path));
  }
  auto ballast = std::make_unique<Ballast>(options.path / "ballast");
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<Catalog> catalog,
                             open_catalog(options.path, store, *ballast));
  BLOBCACHE_ASSIGN_OR_RETURN(const Totals totals, catalog->read()->totals());
  store.restore_usage(totals.kept_disk_bytes, totals.cached_disk_bytes);
  return std::make_unique<CatalogNamespace>(std::move(lock), std::move(ballast), std::move(catalog),
                                            store, options.unnamed_ttl,
                                            options.clock ? options.clock : absl::Now);
}

}  // namespace blobcache::tree
