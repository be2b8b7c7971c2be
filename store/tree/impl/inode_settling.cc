// The part of the table of inodes that makes blobs of files again.

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "store/tree/impl/blob_put.h"
#include "store/tree/impl/file_edit.h"
#include "store/tree/impl/inode_table.h"
#include "store/tree/impl/node_ids.h"

namespace blobcache::tree {
namespace {

/// How much of a file is hashed at once.
constexpr uint64_t kPiece = uint64_t{1} << 20;

absl::Status put_all(uint64_t size,
                     absl::FunctionRef<absl::Status(uint64_t offset, absl::Span<std::byte>)> read,
                     BlobPut& put) {
  std::vector<std::byte> buffer(std::min(size, kPiece));
  for (uint64_t done = 0; done < size;) {
    const auto piece = absl::MakeSpan(buffer).first(std::min<uint64_t>(buffer.size(), size - done));
    BLOBCACHE_RETURN_IF_ERROR(read(done, piece));
    BLOBCACHE_RETURN_IF_ERROR(put.append(piece));
    done += piece.size();
  }
  return absl::OkStatus();
}

/// What a volume's blob will at least take: not its holes. What the base has counts once it comes.
uint64_t stored_bytes(const volume::Volume& volume) {
  return std::min(volume.size_bytes(), volume.stats().data_bytes);
}

}  // namespace

bool InodeTable::was_written_since(const Inode& inode, uint64_t writings) {
  const absl::MutexLock lock(&mutex_);
  return inode.use.writers > 0 || inode.use.writings != writings || inode.use.gone;
}

bool InodeTable::stop_writers(Inode& inode, uint64_t writings) {
  const absl::MutexLock lock(&mutex_);
  if (inode.use.writers > 0 || inode.use.writings != writings || inode.use.gone) return false;
  inode.use.switching = true;
  return true;
}

void InodeTable::let_writers(const InodeRef& inode) {
  bool dropped = false;
  {
    const absl::MutexLock lock(&mutex_);
    inode->use.switching = false;
    dropped = drop_if_over(inode);
  }
  if (dropped) parts_.volumes.remove(inode->volume_row().incarnation);
}

absl::Status InodeTable::settle(const InodeRef& inode) {
  const absl::MutexLock turn(&inode->turn());
  uint64_t writings = 0;
  {
    const absl::MutexLock lock(&mutex_);
    if (inode->use.writers > 0) return absl::CancelledError("somebody writes to it");
    if (inode->use.gone || inode->volume() == nullptr) return absl::OkStatus();
    writings = inode->use.writings;
  }
  return settle_in_turn(inode, writings);
}

/// Reads the volume as it is, without a cut: whoever begins to write ends this.
absl::Status InodeTable::settle_in_turn(const InodeRef& inode, uint64_t writings) {
  const std::shared_ptr<volume::Volume> volume = inode->volume();
  const int64_t volume_row = inode->volume_row().id;
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<page::ObjectWriter> writer,
                             parts_.store.create(page::Retention::kKept, stored_bytes(*volume)));
  BlobPut put(parts_.edits, parts_.append_threads, parts_.clock, std::move(writer));
  const auto read = [&](uint64_t offset, absl::Span<std::byte> into) -> absl::Status {
    if (settler_.stopping() || was_written_since(*inode, writings)) {
      return absl::CancelledError("somebody writes to it");
    }
    return volume->read_wait(offset, into);
  };
  BLOBCACHE_RETURN_IF_ERROR(put_all(volume->size_bytes(), read, put));
  int64_t blob = 0;
  put.also([&](CatalogWriter& catalog, const BlobRow& row, bool /*existed*/,
               Effects& effects) -> absl::Status {
    if (!stop_writers(*inode, writings)) return absl::CancelledError("somebody writes to it");
    blob = row.id;
    BLOBCACHE_ASSIGN_OR_RETURN(
        const bool settled, settle_file(catalog, inode->row(), volume_row, row, inode->modified(),
                                        parts_.clock(), effects));
    return settled ? absl::OkStatus() : absl::CancelledError("the file is gone");
  });
  absl::Status status = put.commit_later(parts_.store).status();
  if (status.ok()) status = switch_to(inode, blob);
  let_writers(inode);
  return status;
}

absl::Status InodeTable::switch_to(const InodeRef& inode, int64_t blob) {
  BLOBCACHE_ASSIGN_OR_RETURN(page::ObjectRef object, parts_.open_settled(blob_node(blob)));
  WrittenTo written;
  {
    const absl::MutexLock lock(&mutex_);
    written = inode->be_settled(std::move(object));
    --unsettled_;
    ++changes_;
    if (unsettled_ < most_resting_) settler_.hurry(false);
  }
  // Who is reading it still holds it; its files' space is free when he is done.
  parts_.volumes.remove(written.row.incarnation);
  return absl::OkStatus();
}

absl::StatusOr<page::ObjectRef> InodeTable::snapshot(NodeId node) {
  const InodeRef inode = find(node);
  if (inode == nullptr || inode->volume() == nullptr) return page::ObjectRef();
  const absl::Status settled = settle(inode);
  if (settled.ok()) return inode->content().object;
  if (!absl::IsCancelled(settled)) return settled;
  return put_beside(inode);
}

absl::StatusOr<page::ObjectRef> InodeTable::put_beside(const InodeRef& inode) {
  const absl::MutexLock turn(&inode->turn());
  const std::shared_ptr<volume::Volume> volume = inode->volume();
  if (volume == nullptr) return inode->content().object;
  BLOBCACHE_ASSIGN_OR_RETURN(const std::shared_ptr<volume::VolumeCut> cut, volume->cut());
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<page::ObjectWriter> writer,
                             parts_.store.create(page::Retention::kKept, stored_bytes(*volume)));
  BlobPut put(parts_.edits, parts_.append_threads, parts_.clock, std::move(writer));
  int64_t blob = 0;
  put.also([&](CatalogWriter& catalog, const BlobRow& row, bool existed, Effects& effects) {
    blob = row.id;
    if (existed) return absl::OkStatus();
    // For who reads it now; nobody asked for it to be kept.
    effects.kept_to_cached_bytes += row.disk_bytes;
    return catalog.set_retention(row.id, parts_.clock(), page::Retention::kCached);
  });
  const auto read = [&](uint64_t offset, absl::Span<std::byte> into) {
    return cut->read_wait(offset, into);
  };
  BLOBCACHE_RETURN_IF_ERROR(put_all(cut->size_bytes(), read, put));
  BLOBCACHE_RETURN_IF_ERROR(put.commit_later(parts_.store).status());
  return parts_.open_settled(blob_node(blob));
}

}  // namespace blobcache::tree
