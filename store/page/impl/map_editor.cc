#include "store/page/impl/map_editor.h"

#include <algorithm>
#include <cstring>

#include "absl/synchronization/notification.h"
#include "base/status.h"
#include "store/page/impl/cache_folder.h"
#include "store/page/impl/io_batch.h"
#include "store/page/impl/object_impl.h"

namespace blobcache::page {

absl::StatusOr<MapBlock*> MapEditor::edit(const std::shared_ptr<ObjectImpl>& object,
                                          uint64_t extent) {
  const uint64_t number = map_block_of(extent);
  Edited*& place = index_[{object->id(), number}];
  if (place != nullptr) return place->block.get();
  absl::Notification loaded;
  absl::StatusOr<MapCache::Block> block;
  maps_.load(object, number, [&](absl::StatusOr<MapCache::Block> result) {
    block = std::move(result);
    loaded.Notify();
  });
  loaded.WaitForNotification();
  if (!block.ok()) {
    index_.erase({object->id(), number});
    return block.status();
  }
  Edited& edited = edited_.emplace_back();
  edited.object = object;
  edited.number = number;
  edited.block = std::make_shared<MapBlock>(**block);
  place = &edited;
  return edited.block.get();
}

absl::Status MapEditor::write() {
  absl::Status status;
  IoBatch batch;
  for (Edited& edited : edited_) {
    ObjectImpl& object = *edited.object;
    maps_.change(object, edited.number, edited.block);
    absl::StatusOr<OpenFilesRef> files = object.file().open();
    if (!files.ok()) {
      status.Update(files.status());
      continue;
    }
    edited.files = *std::move(files);
    if (std::ranges::all_of(edited.block->on_disk, [](PageMask word) { return word == 0; })) {
      status.Update(disk_.punch_hole(edited.files->map.get(), map_block_offset(edited.number),
                                     kMapBlockSize));
      continue;
    }
    edited.bytes = allocate_aligned(kMapBlockSize);
    const MapBlockBytes bytes =
        encode_map_block(*edited.block, edited.number, object.incarnation());
    std::memcpy(edited.bytes.get(), bytes.data(), bytes.size());
    disk_.counters().add(Counters::kDiskWrittenBytes, kMapBlockSize);
    disk_.ring().write(edited.files->map.get(), {edited.bytes.get(), kMapBlockSize},
                       map_block_offset(edited.number), batch.add(edited.result));
  }
  batch.wait();
  for (Edited& edited : edited_) {
    maps_.written(*edited.object, edited.number);
    if (edited.bytes != nullptr) disk_.health().judge(DiskStep::Kind::kWrite, edited.result);
    if (edited.result != 0) {
      status.Update(base::errno_error(-edited.result, "writing a page map"));
    }
  }
  edited_.clear();
  index_.clear();
  return status;
}

}  // namespace blobcache::page
