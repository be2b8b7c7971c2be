#include "store/tree/namespace.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "store/tree/impl/ballast.h"
#include "store/tree/impl/blob_put.h"
#include "store/tree/impl/blob_spec.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/edit_runner.h"
#include "store/tree/impl/file_volumes.h"
#include "store/tree/impl/garbage_collector.h"
#include "store/tree/impl/housekeeper.h"
#include "store/tree/impl/inode_table.h"
#include "store/tree/impl/listener_list.h"
#include "store/tree/impl/live_editor.h"
#include "store/tree/impl/name_edits.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/node_lookup.h"
#include "store/tree/impl/open_catalog.h"
#include "store/tree/impl/origin_set.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/impl/tree_handover.h"
#include "store/tree/impl/tree_scrub.h"
#include "store/tree/impl/volume_edit.h"
#include "store/tree/impl/volume_set.h"
#include "store/tree/path.h"
#include "store/tree/volumes.h"

namespace blobcache::tree {
namespace {

/// The namespace over a catalog and a page store. Its parts are declared in the order in which they
/// need one another; the lock is the first to come and the last to go.
class CatalogNamespace final : public Namespace {
 public:
  /// `options` with a clock and the lock.
  CatalogNamespace(const NamespaceOptions& options, std::unique_ptr<Ballast> ballast,
                   std::unique_ptr<Catalog> catalog, page::PageStore& store,
                   const std::vector<page::Incarnation>& handed)
      : lock_(options.lock),
        store_(store),
        clock_(options.clock),
        ballast_(std::move(ballast)),
        catalog_(std::move(catalog)),
        edits_(*catalog_, store, listeners_, options.path / "described"),
        unnamed_ttl_(options.unnamed_ttl),
        origins_(options.origins, store, clock_),
        volumes_(*this, *catalog_, edits_, *ballast_, options.path,
                 {options.volume_bytes, store.stats().disk_reserve_bytes}, clock_),
        file_volumes_(*catalog_, options.path, {volumes_.workers(), volumes_.budget()}, handed),
        names_(*catalog_, edits_, *ballast_, clock_),
        inodes_({.names = *this,
                 .open_settled = [this](NodeId node) { return open_settled(node); },
                 .store = store,
                 .catalog = *catalog_,
                 .edits = edits_,
                 .ballast = *ballast_,
                 .editor = names_,
                 .volumes = file_volumes_,
                 .workers = volumes_.workers(),
                 .append_threads = append_threads_,
                 .listeners = listeners_,
                 .clock = clock_},
                options.settle_after),
        editor_(names_, inodes_, origins_),
        housekeeper_(*catalog_, store, edits_, *ballast_, {volumes_, file_volumes_},
                     {unnamed_ttl_, clock_}) {
    edits_.set_on_gone([this](const GoneFile& file) { inodes_.on_gone(file); });
  }

  /// Before any other call.
  [[nodiscard]] absl::Status begin(TreeHandover handed, bool was_handed_over) {
    BLOBCACHE_RETURN_IF_ERROR(volumes_.count());
    BLOBCACHE_RETURN_IF_ERROR(inodes_.begin(was_handed_over));
    return std::move(handed).give(handed_parts(), held_);
  }

  absl::StatusOr<Node> resolve(std::string_view path) override;
  absl::StatusOr<Node> lookup(NodeId parent, std::string_view name) override;
  absl::StatusOr<Node> stat(NodeId node) override;
  absl::StatusOr<std::vector<NamedNode>> list(NodeId directory, uint64_t cookie,
                                              size_t limit) override;
  absl::StatusOr<page::ObjectRef> open(NodeId node) override {
    return held_.or_held(node, open_now(node));
  }
  absl::StatusOr<std::shared_ptr<volume::Image>> open_image(NodeId node) override;
  absl::StatusOr<std::string> origin_of(NodeId node) override {
    return OriginSet::has(node) ? origins_.origin_of(node) : std::string();
  }
  bool waits(NodeId node) override {
    return OriginSet::has(node) || !volumes_.origin_of(node).empty();
  }
  bool run(NodeId node, absl::AnyInvocable<void()> call) override;
  bool run(std::string_view path, absl::AnyInvocable<void()> call) override;
  absl::StatusOr<std::unique_ptr<BlobWriter>> put(std::string_view bind_path,
                                                  const Creator& creator,
                                                  uint64_t size_hint) override;
  absl::StatusOr<Node> bind(std::string_view path, const page::ObjectKey& key,
                            const Creator& creator) override;
  absl::Status remove(std::string_view path) override;
  absl::StatusOr<Node> pin(std::string_view path) override { return set_pin(path, true); }
  absl::StatusOr<Node> unpin(std::string_view path) override { return set_pin(path, false); }
  absl::StatusOr<Evicted> evict(std::string_view path, EvictFrom from) override;
  void add_listener(NamespaceListener* listener) override { listeners_.add(listener); }
  void remove_listener(NamespaceListener* listener) override { listeners_.remove(listener); }
  Volumes& volumes() override { return volumes_; }
  NameEditor& editor() override { return editor_; }
  Files& files() override { return inodes_; }
  absl::StatusOr<base::Parcel> hand_over(const std::vector<OpenNode>& open) override {
    return pack_tree(handed_parts(), held_, open);
  }
  std::shared_ptr<const void> keep_lent(NodeId node) override { return held_.take_lease(node); }
  void end_take_over() override {
    held_.clear();
    inodes_.end_take_over();
  }
  absl::Status scrub(std::string_view path, ScrubWatcher& watcher) override;
  absl::Status collect_garbage(const GarbageOptions& options, GarbageWatcher& watcher) override;
  absl::StatusOr<Counts> counts() override;
  absl::StatusOr<Space> space() override;

 private:
  HandedParts handed_parts() { return {*catalog_, store_, inodes_, origins_}; }
  [[nodiscard]] Aging aging() const { return {clock_(), unnamed_ttl_}; }
  absl::Status check_bind_path(std::string_view path, const Creator& creator);
  Node live(Node node);
  absl::StatusOr<std::vector<NamedNode>> list_rows(NodeId directory, uint64_t cookie, size_t limit);
  absl::StatusOr<page::ObjectRef> open_now(NodeId node);
  absl::StatusOr<page::ObjectRef> open_settled(NodeId node);
  absl::Status settle(std::string_view path);
  absl::StatusOr<Node> set_pin(std::string_view path, bool pinned);
  absl::StatusOr<uint64_t> evict_from_memory(std::string_view path);
  absl::StatusOr<uint64_t> evict_from_disk(std::string_view path);

  const std::shared_ptr<StoreLock> lock_;
  page::PageStore& store_;
  const decltype(NamespaceOptions::clock) clock_;
  ListenerList listeners_;
  HeldBlobs held_;
  const std::unique_ptr<Ballast> ballast_;
  const std::unique_ptr<Catalog> catalog_;
  AppendThreads append_threads_{AppendThreads::most_for_this_machine()};
  EditRunner edits_;
  const absl::Duration unnamed_ttl_;
  OriginSet origins_;
  VolumeSet volumes_;
  FileVolumes file_volumes_;
  NameEdits names_;
  InodeTable inodes_;
  LiveEditor editor_;
  Housekeeper housekeeper_;
};

absl::StatusOr<Node> CatalogNamespace::resolve(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  if (OriginSet::has(names)) return origins_.resolve(names);
  Node node;
  {
    Catalog::Lease catalog = catalog_->read();
    BLOBCACHE_RETURN_IF_ERROR(catalog.freeze());
    BLOBCACHE_ASSIGN_OR_RETURN(node, find_node(*catalog, path, names, aging()));
  }
  return live(node);
}

absl::StatusOr<Node> CatalogNamespace::lookup(NodeId parent, std::string_view name) {
  BLOBCACHE_RETURN_IF_ERROR(check_name(name));
  if (parent == kOriginsNode || OriginSet::has(parent)) return origins_.lookup(parent, name);
  std::optional<Node> found;
  {
    Catalog::Lease catalog = catalog_->read();
    BLOBCACHE_ASSIGN_OR_RETURN(found, find_node(*catalog, parent, name, aging()));
    if (!found) BLOBCACHE_RETURN_IF_ERROR(check_directory(*catalog, parent, aging()));
  }
  if (!found) return no_such_name(name);
  return live(*found);
}

absl::StatusOr<Node> CatalogNamespace::stat(NodeId node) {
  if (OriginSet::has(node)) return origins_.stat(node);
  BLOBCACHE_ASSIGN_OR_RETURN(const Node found, find_node(*catalog_->read(), node, aging()));
  return live(found);
}

/// What a row says of a file that is written to, or that has settled since the row was read, is not
/// how long it is now; nor does it say what a volume takes. With no lease.
Node CatalogNamespace::live(Node node) {
  if (node.type == NodeType::kImage) node.allocated_bytes = volumes_.allocated_bytes(node.id);
  // Between a commit and the table is a moment, too; and what the start could not open is not
  // there.
  constexpr int kTries = 4;
  for (int tries = 0; tries < kTries && !inodes_.bring_up_to_date(node); ++tries) {
    const absl::StatusOr<Node> again = find_node(*catalog_->read(), node.id, aging());
    if (!again.ok()) return node;
    node = *again;
  }
  return node;
}

absl::StatusOr<std::vector<NamedNode>> CatalogNamespace::list(NodeId directory, uint64_t cookie,
                                                              size_t limit) {
  if (cookie > INT64_MAX) return absl::InvalidArgumentError("a cookie that list() never gave");
  if (directory == kOriginsNode || OriginSet::has(directory)) {
    return origins_.list(directory, cookie, limit);
  }
  std::vector<NamedNode> entries;
  BLOBCACHE_ASSIGN_OR_RETURN(entries, list_rows(directory, cookie, limit));
  for (NamedNode& entry : entries) entry.node = live(entry.node);
  return entries;
}

absl::StatusOr<std::vector<NamedNode>> CatalogNamespace::list_rows(NodeId directory,
                                                                   uint64_t cookie, size_t limit) {
  const auto after = static_cast<int64_t>(cookie);
  std::vector<NamedNode> entries;
  Catalog::Lease catalog = catalog_->read();
  if (directory == kBlobsNode) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<BlobRow> rows, catalog->list_blobs(after, limit));
    const Aging now = aging();
    for (const BlobRow& row : rows) {
      entries.push_back({row.key.hex(), to_node(row, now), static_cast<uint64_t>(row.id)});
    }
    return entries;
  }
  BLOBCACHE_RETURN_IF_ERROR(check_directory(*catalog, directory, aging()));
  BLOBCACHE_ASSIGN_OR_RETURN(std::vector<EntryRow> rows,
                             catalog->list_entries(file_of_node(directory), after, limit));
  for (EntryRow& row : rows) {
    const auto next = static_cast<uint64_t>(row.id);
    entries.push_back({std::move(row.name), to_node(row.file), next});
  }
  return entries;
}

absl::StatusOr<page::ObjectRef> CatalogNamespace::open_now(NodeId node) {
  if (OriginSet::has(node)) return origins_.open(node);
  // Between the two looks somebody may begin to write, or a file settle.
  constexpr int kMostTries = 100;
  for (int tries = 1;; ++tries) {
    BLOBCACHE_ASSIGN_OR_RETURN(page::ObjectRef written, inodes_.snapshot(node));
    if (written != nullptr) return written;
    absl::StatusOr<page::ObjectRef> settled = open_settled(node);
    if (!absl::IsFailedPrecondition(settled.status()) || tries == kMostTries) return settled;
    const absl::StatusOr<Node> found = stat(node);
    if (!found.ok() || found->settled) return settled;
  }
}

absl::StatusOr<page::ObjectRef> CatalogNamespace::open_settled(NodeId node) {
  const absl::ReaderMutexLock no_removal(&edits_.removal_mutex());
  Catalog::Lease catalog = catalog_->read();
  const std::optional<int64_t> blob = blob_of_node(node);
  BLOBCACHE_ASSIGN_OR_RETURN(
      std::optional<BlobRow> row,
      blob ? catalog->load_blob(*blob) : catalog->load_blob_of_file(file_of_node(node)));
  if (!row) {
    BLOBCACHE_ASSIGN_OR_RETURN(const Node found, find_node(*catalog, node, aging()));
    BLOBCACHE_RETURN_IF_ERROR(check_settled_file(found, fmt::format("node {}", node), ""));
    return absl::DataLossError(
        fmt::format("node {}: its content is unknown: the catalog is damaged", node));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const page::ObjectSpec spec, blob_spec(*std::move(row)));
  return store_.attach(spec);
}

absl::StatusOr<std::shared_ptr<volume::Image>> CatalogNamespace::open_image(NodeId node) {
  if (OriginSet::has(node)) return origins_.open_image(node);
  return volumes_.open(node);
}

bool CatalogNamespace::run(NodeId node, absl::AnyInvocable<void()> call) {
  if (OriginSet::has(node)) return origins_.run(node, std::move(call));
  // To open a volume may mean to look for its base.
  return origins_.run(volumes_.origin_of(node), std::move(call));
}

bool CatalogNamespace::run(std::string_view path, absl::AnyInvocable<void()> call) {
  // What is no path has an error of its own when it is used.
  const absl::StatusOr<PathNames> names = split_path(path);
  const bool is_origin = names.ok() && OriginSet::has(*names);
  return origins_.run(is_origin ? std::string((*names)[1]) : "", std::move(call));
}

/// What is certain to fail at the commit fails before a byte is moved.
absl::Status CatalogNamespace::check_bind_path(std::string_view path, const Creator& creator) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  BLOBCACHE_RETURN_IF_ERROR(check_bindable(names));
  const absl::StatusOr<Node> node = resolve(path);
  if (absl::IsNotFound(node.status())) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(node.status());
  if (node->type == NodeType::kDirectory) return is_a_directory(path, "");
  return check_replaceable(path, node->uid, creator);
}

absl::StatusOr<std::unique_ptr<BlobWriter>> CatalogNamespace::put(std::string_view bind_path,
                                                                  const Creator& creator,
                                                                  uint64_t size_hint) {
  if (!bind_path.empty()) BLOBCACHE_RETURN_IF_ERROR(check_bind_path(bind_path, creator));
  BLOBCACHE_RETURN_IF_ERROR(housekeeper_.expire());
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<page::ObjectWriter> writer,
                             store_.create(page::Retention::kKept, size_hint));
  return std::make_unique<BlobPut>(edits_, append_threads_, clock_, std::move(writer),
                                   std::string(bind_path), creator);
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
  BLOBCACHE_RETURN_IF_ERROR(origins_.check_ours(
      path, names, "not ours to remove; \"blobcachectl evict\" drops what is cached of it"));
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    if (names.front() == "files") return remove_name(catalog, names, clock_(), effects);
    if (names.front() == "volumes" && names.size() == 2) {
      BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<NamedVolume> volume,
                                 find_volume(catalog, names[1]));
      if (!volume) return no_such_name(path);
      return absl::FailedPreconditionError(fmt::format(
          "{}: is a volume; \"blobcachectl volume rm\" removes those", printable(path)));
    }
    const std::optional<page::ObjectKey> key = parse_blob_name(names[1]);
    if (names.front() != "blobs" || names.size() != 2 || !key) return no_such_name(path);
    return remove_blob(catalog, *key, effects);
  };
  return ballast_->with_room([&] { return edits_.run(edit).status(); });
}

/// What is about to be done with a path's blob needs one, and a file that rests can be one at once.
absl::Status CatalogNamespace::settle(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const Node node, resolve(path));
  return node.settled ? absl::OkStatus() : inodes_.snapshot(node.id).status();
}

absl::StatusOr<Node> CatalogNamespace::set_pin(std::string_view path, bool pinned) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  BLOBCACHE_RETURN_IF_ERROR(origins_.check_ours(
      path, names, "of which pages are cached and never kept; put it under files/ to keep it"));
  BLOBCACHE_RETURN_IF_ERROR(settle(path));
  Node node;
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    const Aging now = aging();
    BLOBCACHE_ASSIGN_OR_RETURN(const BlobRow blob, find_blob(catalog, path, names, now));
    BLOBCACHE_RETURN_IF_ERROR(pinned ? pin_blob(catalog, blob, effects)
                                     : unpin_blob(catalog, blob, now.now, effects));
    BLOBCACHE_ASSIGN_OR_RETURN(node, find_node(catalog, path, names, now));
    return absl::OkStatus();
  };
  // On a full disk, letting go of what is pinned is a way out.
  BLOBCACHE_RETURN_IF_ERROR(ballast_->with_room([&] { return edits_.run(edit).status(); }));
  return node;
}

absl::StatusOr<Evicted> CatalogNamespace::evict(std::string_view path, EvictFrom from) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  if (OriginSet::has(names)) return origins_.evict(names, from);
  BLOBCACHE_RETURN_IF_ERROR(settle(path));
  Evicted evicted;
  if (from != EvictFrom::kDisk) {
    BLOBCACHE_ASSIGN_OR_RETURN(evicted.memory_pages, evict_from_memory(path));
  }
  if (from == EvictFrom::kMemory) return evicted;
  const absl::StatusOr<uint64_t> disk_bytes = evict_from_disk(path);
  evicted.removed = disk_bytes.ok();
  if (evicted.removed) {
    evicted.disk_bytes = *disk_bytes;
  } else if (from == EvictFrom::kAll && absl::IsFailedPrecondition(disk_bytes.status())) {
    evicted.stays = base::message(disk_bytes.status());
  } else {
    return disk_bytes.status();
  }
  return evicted;
}

absl::StatusOr<uint64_t> CatalogNamespace::evict_from_memory(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const Node node, resolve(path));
  BLOBCACHE_RETURN_IF_ERROR(check_settled_file(node, path, "; name its files"));
  BLOBCACHE_ASSIGN_OR_RETURN(const page::ObjectRef object, open(node.id));
  return store_.evict_memory(*object);
}

absl::StatusOr<uint64_t> CatalogNamespace::evict_from_disk(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  uint64_t bytes = 0;
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    const Aging now = aging();
    BLOBCACHE_RETURN_IF_ERROR(expire_unnamed(catalog, now.now - now.unnamed_ttl, effects));
    BLOBCACHE_ASSIGN_OR_RETURN(BlobRow blob, find_blob(catalog, path, names, now));
    bytes = blob.disk_bytes;
    return evict_blob(catalog, std::move(blob), now.unnamed_ttl, effects);
  };
  BLOBCACHE_RETURN_IF_ERROR(ballast_->with_room([&] { return edits_.run(edit).status(); }));
  return bytes;
}

absl::Status CatalogNamespace::scrub(std::string_view path, ScrubWatcher& watcher) {
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames names, split_path(path));
  BLOBCACHE_RETURN_IF_ERROR(origins_.check_ours(
      path, names, "of which pages are compared with their checksums whenever they are read"));
  BLOBCACHE_ASSIGN_OR_RETURN(const Node node, resolve(path));
  TreeScrub scrub(*catalog_, store_, edits_, volumes_, watcher);
  if (node.id == kRootNode) return scrub.run_all();
  if (node.id == kBlobsNode) return scrub.run_all_blobs();
  if (node.id == kVolumesNode) return scrub.run_volumes();
  if (node.type == NodeType::kImage) return scrub.run_volume(node.id);
  if (const std::optional<int64_t> blob = blob_of_node(node.id)) return scrub.run_blob(*blob);
  const int64_t file = file_of_node(node.id);
  return node.type == NodeType::kDirectory ? scrub.run_directory(file) : scrub.run_file(file);
}

absl::Status CatalogNamespace::collect_garbage(const GarbageOptions& options,
                                               GarbageWatcher& watcher) {
  GarbageCollector collector(*catalog_, store_, edits_, *ballast_);
  const absl::Time before = options.expire_now ? absl::InfiniteFuture() : clock_() - unnamed_ttl_;
  const absl::Status blobs = collector.collect_blobs(before, options.dry_run, watcher);
  if (absl::IsCancelled(blobs)) return blobs;
  const absl::Status files = collector.collect_files(options.dry_run, watcher);
  return blobs.ok() ? files : blobs;
}

absl::StatusOr<Namespace::Counts> CatalogNamespace::counts() {
  BLOBCACHE_RETURN_IF_ERROR(housekeeper_.expire());
  BLOBCACHE_ASSIGN_OR_RETURN(const Totals totals, catalog_->read()->totals());
  return Counts{.blobs = totals.blobs,
                .blob_bytes = totals.blob_bytes,
                .names = totals.names,
                .unnamed_blobs = totals.unnamed_blobs,
                .unsettled_files = inodes_.unsettled()};
}

absl::StatusOr<Namespace::Space> CatalogNamespace::space() {
  const page::Stats stats = store_.stats();
  const VolumeUsage volumes = volumes_.usage();
  const auto left = [](uint64_t budget, uint64_t used) { return budget - std::min(budget, used); };
  Space space;
  space.used_bytes = stats.disk_kept_bytes + volumes.used_bytes;
  // What is written is a volume's first, and a kept blob's then.
  space.free_bytes = std::min(left(stats.disk_budget_bytes, stats.disk_kept_bytes),
                              left(volumes.budget_bytes, volumes.used_bytes));
  space.total_bytes = space.used_bytes + space.free_bytes;
  return space;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Namespace>> Namespace::open(const NamespaceOptions& options,
                                                           page::PageStore& store) {
  NamespaceOptions whole = options;
  if (whole.clock == nullptr) whole.clock = absl::Now;
  if (whole.lock == nullptr) {
    BLOBCACHE_ASSIGN_OR_RETURN(whole.lock, StoreLock::acquire(options.path));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(TreeHandover handed, TreeHandover::read(options.handed_over));
  auto ballast = std::make_unique<Ballast>(options.path / "ballast");
  BLOBCACHE_ASSIGN_OR_RETURN(
      std::unique_ptr<Catalog> catalog,
      open_catalog(options.path, store, *ballast, whole.lock->ended_cleanly()));
  BLOBCACHE_ASSIGN_OR_RETURN(const Totals totals, catalog->read()->totals());
  store.restore_usage(totals.kept_disk_bytes, totals.cached_disk_bytes);
  auto names = std::make_unique<CatalogNamespace>(whole, std::move(ballast), std::move(catalog),
                                                  store, handed.volumes());
  BLOBCACHE_RETURN_IF_ERROR(names->begin(std::move(handed), options.handed_over != nullptr));
  return names;
}

}  // namespace blobcache::tree
