// The part of the table of inodes that hands files without a name, which are in no catalog, to the
// process that takes over. Files with a name are in the catalog, and are opened anew.

#include <spdlog/spdlog.h>

#include <memory>
#include <utility>
#include <vector>

#include "base/status.h"
#include "store/tree/handover.h"
#include "store/tree/impl/inode_table.h"
#include "store/tree/impl/side_by_side.h"

namespace blobcache::tree {

void InodeTable::hand_over(base::ParcelWriter& parcel) {
  settler_.stop();
  parts_.volumes.leave_rest();
  std::vector<InodeRef> gone;
  {
    const absl::MutexLock lock(&mutex_);
    for (const auto& [node, inode] : inodes_) {
      if (!inode->use.gone) continue;
      // Who closes it from now on must not take its files along.
      inode->use.handed_over = true;
      gone.push_back(inode);
    }
  }
  parcel.add_number(gone.size());
  for (const InodeRef& inode : gone) {
    const File::Content content = inode->content();
    Node node = inode->remembered();
    node.id = inode->id();
    add_node(parcel, node);
    parcel.add_time(inode->modified());
    parcel.add_flag(content.image != nullptr);
    const page::ObjectRef object = content.image != nullptr ? inode->base() : content.object;
    if (content.image != nullptr) add_incarnation(parcel, inode->volume_row().incarnation);
    parcel.add_flag(object != nullptr);
    if (object != nullptr) add_held(parcel, parts_.store.hold(*object));
  }
}

std::vector<InodeTable::HandedFile> InodeTable::read_handed(base::ParcelReader& parcel) {
  std::vector<HandedFile> files;
  for (size_t left = parcel.count(); left > 0 && parcel.status().ok(); --left) {
    HandedFile file;
    file.node = read_node(parcel);
    file.modified = parcel.time();
    if (parcel.flag()) file.volume = read_incarnation(parcel);
    if (parcel.flag()) file.object = read_held(parcel);
    files.push_back(std::move(file));
  }
  return files;
}

void InodeTable::take_over_handed(std::vector<HandedFile> files) {
  for_each_side_by_side(files.size(), [&](size_t i) {
    const NodeId node = files[i].node.id;
    const absl::Status status = take_over(std::move(files[i]));
    if (status.ok()) return;
    spdlog::error("node {}, which has no name, was open, and cannot be had again: {}", node,
                  base::message(status));
  });
}

absl::Status InodeTable::take_over(HandedFile file) {
  page::ObjectRef object;
  if (file.object) object = parts_.store.attach_held(*std::move(file.object));
  InodeRef inode;
  if (file.volume) {
    WrittenTo written;
    written.row.incarnation = *file.volume;
    written.base = object;
    // As with what the last run left, a full disk must not keep it from being opened.
    BLOBCACHE_RETURN_IF_ERROR(parts_.ballast.with_room([&]() -> absl::Status {
      BLOBCACHE_ASSIGN_OR_RETURN(written.volume, parts_.volumes.open(*file.volume, object));
      return absl::OkStatus();
    }));
    inode = std::make_shared<Inode>(file.node.id, std::move(written), file.modified);
  } else {
    if (object == nullptr) return absl::DataLossError("a file that has neither bytes nor none");
    inode = std::make_shared<Inode>(file.node.id, std::move(object));
    inode->set_modified(file.modified);
  }
  inode->remember(file.node);
  const absl::MutexLock lock(&mutex_);
  inode->use.gone = true;
  if (file.volume) ++unsettled_;
  inodes_[inode->id()] = inode;
  return absl::OkStatus();
}

void InodeTable::end_take_over() {
  std::vector<InodeRef> dropped;
  {
    const absl::MutexLock lock(&mutex_);
    std::vector<InodeRef> gone;
    for (const auto& [node, inode] : inodes_) {
      if (inode->use.gone) gone.push_back(inode);
    }
    for (const InodeRef& inode : gone) {
      if (drop_if_over(inode)) dropped.push_back(inode);
    }
  }
  for (const InodeRef& inode : dropped) parts_.volumes.remove(inode->volume_row().incarnation);
  settler_.hold(false);
}

}  // namespace blobcache::tree
