#include "store/tree/impl/inode_table.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include "absl/time/clock.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "store/tree/impl/file_edit.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/opened_file.h"
#include "store/tree/impl/side_by_side.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

/// An unsettled file is open: two descriptors, three when it is large.
constexpr size_t kDescriptors = 3;
/// So many at most wait for being settled.
constexpr size_t kMostResting = 2048;
/// How long somebody waits for that; a disk may be slow.
constexpr absl::Duration kMostPatience = absl::Seconds(10);

/// How many files may be unsettled at once: they get half of the descriptors.
size_t most_unsettled() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 64;
  return std::max<size_t>(16, std::min<uint64_t>(limit.rlim_cur, 1U << 20) / (2 * kDescriptors));
}

constexpr size_t kTakeOverBatch = 256;

absl::Status is_gone(NodeId node) {
  return base::posix_error(ESTALE, fmt::format("node {}: is gone", node));
}

absl::Status is_lent(NodeId node) {
  return base::posix_error(ETXTBSY,
                           fmt::format("node {}: the kernel reads its blob by itself", node));
}

absl::Status check_file(const std::optional<FileRow>& row, NodeId node) {
  if (!row) return is_gone(node);
  if (row->kind == FileKind::kFile) return absl::OkStatus();
  const int error = row->kind == FileKind::kDirectory ? EISDIR : EINVAL;
  return base::posix_error(error, fmt::format("node {}: is no file", node));
}

/// Whether this is a node that Files may have.
bool is_ours(NodeId node) { return file_of_node(node) > static_cast<int64_t>(kLastFixedNode); }

}  // namespace

InodeTable::InodeTable(const Parts& parts, absl::Duration rest)
    : parts_(parts),
      most_unsettled_(most_unsettled()),
      most_resting_(std::min(kMostResting, most_unsettled_ / 2)),
      settler_(*this, rest) {}

InodeTable::~InodeTable() {
  settler_.stop();
  std::vector<InodeRef> left;
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& [node, inode] : inodes_) {
      const bool stays = !inode->use.gone || inode->use.handed_over;
      if (stays && inode->volume() != nullptr) left.push_back(inode);
    }
    inodes_.clear();
  }
  for_each_side_by_side(left.size(), [&left](size_t i) {
    // What was synced is safe whatever comes of this; the next start finds out about the rest.
    if (const absl::Status status = left[i]->volume()->close(); !status.ok()) {
      spdlog::error("closing a file that is not settled: {}", base::message(status));
    }
  });
  std::erase_if(left, [](const InodeRef& inode) { return inode->use.handed_over; });
  note_all(left);
}

/// So that the next start need not ask files, whose times have changed by their closing.
void InodeTable::note_all(const std::vector<InodeRef>& inodes) {
  if (inodes.empty()) return;
  const auto edit = [&](CatalogWriter& catalog, Effects& /*effects*/) -> absl::Status {
    for (const InodeRef& inode : inodes) {
      BLOBCACHE_RETURN_IF_ERROR(
          note_file(catalog, inode->row(), inode->volume()->size_bytes(), inode->modified()));
    }
    return absl::OkStatus();
  };
  if (const absl::Status status = parts_.edits.run_later(edit).status(); !status.ok()) {
    spdlog::error("noting the times of files that are not settled: {}", base::message(status));
  }
}

// What was left by the last run.

absl::Status InodeTable::begin(bool was_handed_over) {
  settler_.hold(was_handed_over);
  BLOBCACHE_RETURN_IF_ERROR(parts_.volumes.begin());
  for (int64_t after = 0;;) {
    std::vector<FileRow> rows;
    BLOBCACHE_ASSIGN_OR_RETURN(
        rows, list_files_under_writing(*parts_.catalog.read(), after, kTakeOverBatch));
    if (rows.empty()) return absl::OkStatus();
    after = rows.back().id;
    for_each_side_by_side(rows.size(), [&](size_t i) {
      // What recovery writes is little, and a full disk would keep what is there from being read.
      const absl::Status status = parts_.ballast.with_room([&] { return take_over(rows[i]); });
      if (status.ok()) return;
      spdlog::error("a file that was written to (node {}) cannot be opened: {}", rows[i].id,
                    base::message(status));
      const absl::MutexLock lock(&mutex_);
      unopened_.insert(static_cast<NodeId>(rows[i].id));
    });
  }
}

absl::Status InodeTable::take_over(const FileRow& file) {
  // To open it may change its file's time.
  BLOBCACHE_ASSIGN_OR_RETURN(const VolumeRow row, find_volume_row(file));
  const absl::Time wrote = parts_.volumes.modified(row.incarnation);
  BLOBCACHE_ASSIGN_OR_RETURN(WrittenTo written, open_written(file, row));
  // A clean end noted its time. After a kill the row knows of what was set, and the file of what
  // was written since.
  const bool from_file = written.volume->stats().recovered && wrote > file.changed;
  const auto inode = std::make_shared<Inode>(static_cast<NodeId>(file.id), std::move(written),
                                             from_file ? wrote : file.modified);
  {
    const absl::MutexLock lock(&mutex_);
    inodes_[inode->id()] = inode;
    unopened_.erase(inode->id());
    ++unsettled_;
  }
  settler_.add(inode);
  return absl::OkStatus();
}

absl::StatusOr<VolumeRow> InodeTable::find_volume_row(const FileRow& file) {
  Catalog::Lease catalog = parts_.catalog.read();
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<VolumeRow> row,
                             catalog->find_volume(file.volume.value_or(0)));
  if (!row) return absl::DataLossError("its volume is in no catalog: the catalog is damaged");
  return *row;
}

absl::StatusOr<WrittenTo> InodeTable::open_written(const FileRow& file, const VolumeRow& row) {
  WrittenTo written;
  written.row = row;
  page::ObjectRef base;
  if (written.row.base) {
    BLOBCACHE_ASSIGN_OR_RETURN(base, parts_.open_settled(blob_node(*written.row.base)));
  }
  written.base = base;
  const page::Incarnation& incarnation = written.row.incarnation;
  absl::StatusOr<std::shared_ptr<volume::Volume>> opened = parts_.volumes.open(incarnation, base);
  if (absl::IsNotFound(opened.status())) {
    // Made, never synced, and a power cut: what a file system has then is what was there before.
    spdlog::warn("node {}: what was written to it was never synced, and a power cut took it",
                 file.id);
    opened = parts_.volumes.create_again(incarnation, std::move(base));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(written.volume, std::move(opened));
  return written;
}

// Opening and writing.

FileRef InodeTable::hold(const InodeRef& inode) {
  ++inode->use.handles;
  return std::make_shared<OpenedFile>(*this, inode);
}

InodeTable::InodeRef InodeTable::find(NodeId node) {
  const absl::MutexLock lock(&mutex_);
  const auto at = inodes_.find(node);
  return at == inodes_.end() ? nullptr : at->second;
}

absl::StatusOr<FileRef> InodeTable::open(NodeId node) {
  if (!is_ours(node)) return base::posix_error(EINVAL, fmt::format("node {}: is no file", node));
  for (;;) {
    uint64_t changes = 0;
    {
      const absl::MutexLock lock(&mutex_);
      if (const auto at = inodes_.find(node); at != inodes_.end()) return hold(at->second);
      changes = changes_;
    }
    BLOBCACHE_ASSIGN_OR_RETURN(const InodeRef loaded, load(node));
    const absl::MutexLock lock(&mutex_);
    if (const auto at = inodes_.find(node); at != inodes_.end()) return hold(at->second);
    if (changes_ != changes || loaded == nullptr) continue;
    inodes_[node] = loaded;
    return hold(loaded);
  }
}

/// Null when the row says that it is not settled: then it is in the table, or will be in a moment.
absl::StatusOr<InodeTable::InodeRef> InodeTable::load(NodeId node) {
  absl::StatusOr<page::ObjectRef> object = parts_.open_settled(node);
  if (object.ok()) return std::make_shared<Inode>(node, *std::move(object));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> row,
                             parts_.catalog.read()->find_file(file_of_node(node)));
  BLOBCACHE_RETURN_IF_ERROR(check_file(row, node));
  if (!row->volume) {
    if (absl::IsFailedPrecondition(object.status())) return InodeRef();  // it has just settled
    return object.status();
  }
  {
    const absl::MutexLock lock(&mutex_);
    if (!unopened_.contains(node)) return await(node);
  }
  // The start could not open it; perhaps now.
  const absl::Status taken = take_over(*row);
  // Who asks has been told of another length: he has to look again.
  if (taken.ok()) return is_gone(node);
  return base::annotate(taken,
                        fmt::format("node {}: what was written to it cannot be opened", node));
}

/// Between the commit that made it and the table is a moment.
absl::StatusOr<InodeTable::InodeRef> InodeTable::await(NodeId node) {
  const auto there = [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return inodes_.contains(node); };
  if (mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(1))) return InodeRef();
  return absl::DataLossError(fmt::format("node {}: what was written to it is unknown", node));
}

absl::StatusOr<FileRef> InodeTable::create(const NewName& name) {
  BLOBCACHE_RETURN_IF_ERROR(make_place());
  WrittenTo written;
  written.row.incarnation = page::Incarnation::random();
  written.row.created = parts_.clock();
  const page::Incarnation& incarnation = written.row.incarnation;
  BLOBCACHE_ASSIGN_OR_RETURN(written.volume, parts_.volumes.create(incarnation, nullptr));
  FileRow file;
  FileRef opened;
  const auto edit = [&](CatalogWriter& catalog, Effects& effects) -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(file,
                               make_file(catalog, name, written.row, written.row.created, effects));
    return absl::OkStatus();
  };
  const auto committed = [&] {
    written.row.id = file.volume.value_or(0);
    const auto inode =
        std::make_shared<Inode>(static_cast<NodeId>(file.id), written, written.row.created);
    const absl::MutexLock lock(&mutex_);
    inodes_[inode->id()] = inode;
    ++unsettled_;
    ++changes_;
    opened = hold(inode);
  };
  const absl::Status made = parts_.edits.run_later(edit, committed).status();
  if (!made.ok()) {
    parts_.volumes.remove(incarnation);
    return made;
  }
  BLOBCACHE_RETURN_IF_ERROR(opened->begin_writing());
  return opened;
}

/// What nobody writes to is waited for, as long as it helps: a full disk settles nothing.
absl::Status InodeTable::make_place() {
  const absl::Time until = absl::Now() + kMostPatience;
  constexpr absl::Duration kLook = absl::Milliseconds(20);
  const absl::MutexLock lock(&mutex_);
  while (unsettled_ >= most_resting_ && settler_.has_hope() && absl::Now() < until) {
    settler_.hurry(true);
    const auto fewer = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return unsettled_ < most_resting_;
    };
    mutex_.AwaitWithTimeout(absl::Condition(&fewer), kLook);
  }
  if (unsettled_ < most_unsettled_) return absl::OkStatus();
  return base::posix_error(ENFILE, "too many files are being written, or cannot settle");
}

absl::Status InodeTable::begin_writing(const InodeRef& inode) {
  {
    const absl::MutexLock lock(&mutex_);
    const auto stays = [&]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !inode->use.switching; };
    mutex_.Await(absl::Condition(&stays));
    if (inode->use.lent > 0) return is_lent(inode->id());
    // From here on a settling that is under way finds that it was in vain.
    ++inode->use.writers;
    ++inode->use.writings;
  }
  const absl::Status status = make_written(inode);
  if (status.ok()) return status;
  bool rests = false;
  {
    const absl::MutexLock lock(&mutex_);
    rests = --inode->use.writers == 0 && inode->volume() != nullptr && !inode->use.gone;
  }
  if (rests) settler_.add(inode);
  return status;
}

absl::Status InodeTable::reserve_writing(Inode& inode) {
  const absl::MutexLock lock(&mutex_);
  if (inode.use.lent > 0) return is_lent(inode.id());
  ++inode.use.reserved;
  return absl::OkStatus();
}

std::shared_ptr<const void> InodeTable::make_lease(const InodeRef& inode) {
  ++inode->use.lent;
  return {inode.get(), [this, inode](const void* /*none*/) {
            const absl::MutexLock lock(&mutex_);
            --inode->use.lent;
          }};
}

absl::StatusOr<page::LentFile> InodeTable::lend(const InodeRef& inode) {
  const auto refused = [] { return absl::FailedPreconditionError("it is, or may be, written to"); };
  std::shared_ptr<const void> no_writers;
  {
    const absl::MutexLock lock(&mutex_);
    const Inode::Use& use = inode->use;
    if (use.reserved > 0 || use.writers > 0 || use.switching) return refused();
    no_writers = make_lease(inode);
  }
  const page::ObjectRef object = inode->content().object;
  if (object == nullptr) return refused();  // it has not settled yet
  absl::StatusOr<page::LentFile> lent = object->lend_file();
  if (!lent.ok()) return lent.status();
  using Both = std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>;
  lent->lease = std::make_shared<const Both>(no_writers, std::move(lent->lease));
  return lent;
}

absl::Status InodeTable::make_written(const InodeRef& inode) {
  // With a writer it stays as it is.
  if (inode->volume() != nullptr) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(make_place());
  const absl::MutexLock turn(&inode->turn());
  const File::Content now = inode->content();
  if (now.image != nullptr) return absl::OkStatus();
  WrittenTo written;
  written.row.incarnation = page::Incarnation::random();
  written.row.created = parts_.clock();
  const page::Incarnation& incarnation = written.row.incarnation;
  BLOBCACHE_ASSIGN_OR_RETURN(written.volume, parts_.volumes.create(incarnation, now.object));
  written.base = now.object;
  absl::Time modified = written.row.created;
  const auto edit = [&](CatalogWriter& catalog, Effects& /*effects*/) -> absl::Status {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> settled,
                               catalog.find_file(inode->row()));
    if (!settled) return is_gone(inode->id());
    written.row.base = settled->blob;
    BLOBCACHE_ASSIGN_OR_RETURN(const FileRow file, begin_file(catalog, inode->row(), written.row));
    written.row.id = file.volume.value_or(0);
    modified = file.modified;
    return absl::OkStatus();
  };
  const absl::Status status = parts_.edits.run_later(edit, [] {}).status();
  const absl::MutexLock lock(&mutex_);
  if (base::posix_errno_of(status) == ESTALE) {
    inode->use.gone = true;  // without a name, but open; it is nobody's but theirs
  } else if (!status.ok()) {
    parts_.volumes.remove(incarnation);
    return status;
  }
  inode->be_written(std::move(written), modified);
  ++unsettled_;
  ++changes_;
  return absl::OkStatus();
}

bool InodeTable::drop_if_over(const InodeRef& inode) {
  if (inode->use.handles > 0 || inode->use.switching || inode->use.handed_over) return false;
  const bool is_written = inode->volume() != nullptr;
  if (is_written && !inode->use.gone) return false;
  const auto at = inodes_.find(inode->id());
  if (at == inodes_.end() || at->second != inode) return false;
  inodes_.erase(at);
  ++changes_;
  if (is_written) --unsettled_;
  return is_written;
}

void InodeTable::leave(const InodeRef& inode, bool was_writer) {
  bool dropped = false;
  bool rests = false;
  {
    const absl::MutexLock lock(&mutex_);
    if (was_writer) --inode->use.writers;
    --inode->use.handles;
    rests = was_writer && inode->use.writers == 0 && !inode->use.gone;
    dropped = drop_if_over(inode);
  }
  if (rests) settler_.add(inode);
  if (dropped) parts_.volumes.remove(inode->volume_row().incarnation);
}

// What the namespace tells and asks.

bool InodeTable::bring_up_to_date(Node& node) {
  if (node.settled || node.type != NodeType::kFile) return true;
  const InodeRef inode = find(node.id);
  if (inode == nullptr) return false;
  // It may have settled since the row was read.
  const File::Content now = inode->content();
  if (now.object == nullptr && now.image == nullptr) return false;
  // And opened anew since: that one knows no time.
  if (now.object != nullptr && inode->modified() == absl::UnixEpoch()) return false;
  node.size_bytes = now.object != nullptr ? now.object->size_bytes() : now.image->size_bytes();
  const std::shared_ptr<volume::Volume> volume = inode->volume();
  if (volume != nullptr) node.allocated_bytes = allocated_bytes(*volume);
  node.modified = inode->modified();
  node.changed = std::max(node.changed, node.modified);
  return true;
}

void InodeTable::set_modified(NodeId node, absl::Time time) {
  if (const InodeRef inode = find(node); inode != nullptr) inode->set_modified(time);
}

std::optional<Node> InodeTable::change_gone(NodeId node, const AttributeChange& change) {
  const InodeRef inode = find(node);
  if (inode == nullptr) return std::nullopt;
  {
    const absl::MutexLock lock(&mutex_);
    if (!inode->use.gone) return std::nullopt;
  }
  Node changed = inode->remembered();
  changed.id = node;
  changed.links = 0;
  changed.mode = change.mode.value_or(changed.mode);
  changed.uid = change.uid.value_or(changed.uid);
  changed.gid = change.gid.value_or(changed.gid);
  changed.modified = change.modified.value_or(changed.modified);
  changed.changed = parts_.clock();
  if (change.modified) inode->set_modified(*change.modified);
  inode->remember(changed);
  return changed;
}

void InodeTable::on_gone(const GoneFile& file) {
  bool dropped = false;
  {
    const absl::MutexLock lock(&mutex_);
    const auto at = inodes_.find(file.node);
    if (at != inodes_.end()) {
      const InodeRef inode = at->second;
      inode->use.gone = true;
      dropped = drop_if_over(inode);
    } else {
      dropped = file.volume.has_value();
    }
  }
  if (dropped && file.volume) parts_.volumes.remove(file.volume->incarnation);
}

}  // namespace blobcache::tree
