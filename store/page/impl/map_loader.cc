#include "store/page/impl/map_loader.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "base/status.h"
#include "store/page/impl/map_repairer.h"
#include "store/page/impl/object_impl.h"

namespace blobcache::page {
namespace {

/// A block's bytes where direct I/O can put them.
struct alignas(kMapBlockSize) AlignedBlock {
  MapBlockBytes bytes;
};

}  // namespace

absl::StatusOr<MapCache::Block> MapLoader::accept(ObjectImpl& object, uint64_t number,
                                                  absl::StatusOr<MapBlock> decoded) {
  if (!decoded.ok()) {
    disk_.counters().add(Counters::kMapErrors);
    absl::Status error = base::annotate(
        decoded.status(), fmt::format("object {}, block {}", object.key().hex(), number));
    spdlog::error("a page map is damaged: {}", base::message(error));
    return error;
  }
  auto block = std::make_shared<const MapBlock>(*std::move(decoded));
  const uint64_t first = number * kExtentsPerMapBlock;
  const uint64_t count = std::min<uint64_t>(kExtentsPerMapBlock, object.extent_count() - first);
  for (uint64_t i = 0; i < count; ++i) {
    Extent& extent = object.extents().get(first + i);
    absl::MutexLock lock(&flights_.shard({object.id(), first + i}).mutex);
    // Once told, an extent knows better than the file: a page that failed its checksum is off the
    // list.
    if (extent.map_loaded.load(std::memory_order_relaxed)) continue;
    extent.on_disk.store(block->on_disk[i], std::memory_order_relaxed);
    extent.zero.store(block->zero[i], std::memory_order_relaxed);
    extent.map_loaded.store(true, std::memory_order_release);
  }
  cache_.insert(object.id(), number, block);
  return block;
}

void MapLoader::load(const std::shared_ptr<ObjectImpl>& object, uint64_t block, Loaded loaded) {
  load_once(object, block,
            [this, object, block,
             loaded = std::move(loaded)](absl::StatusOr<MapCache::Block> result) mutable {
              // What a source can bring again needs no map; it only loses what was cached.
              if (!absl::IsDataLoss(result.status()) || object->source() != nullptr) {
                loaded(std::move(result));
                return;
              }
              repairer_.repair(object, [this, object, block, loaded = std::move(loaded)](
                                           const absl::Status& repaired) mutable {
                if (repaired.ok()) {
                  load_once(object, block, std::move(loaded));
                } else {
                  loaded(repaired);
                }
              });
            });
}

void MapLoader::load_once(const std::shared_ptr<ObjectImpl>& object, uint64_t block,
                          Loaded loaded) {
  if (MapCache::Block cached = cache_.find(object->id(), block)) {
    loaded(std::move(cached));
    return;
  }
  if (!object->has_map_file()) {
    loaded(accept(
        *object, block,
        decode_inline_map(object->inline_map(), object->size_bytes(), object->incarnation())));
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    std::vector<Loaded>& waiting = waiting_[{object->id(), block}];
    waiting.push_back(std::move(loaded));
    if (waiting.size() > 1) return;
  }
  read_file(object, block);
}

void MapLoader::answer(const Key& key, const absl::StatusOr<MapCache::Block>& result) {
  std::vector<Loaded> waiting;
  {
    absl::MutexLock lock(&mutex_);
    const auto at = waiting_.find(key);
    waiting = std::move(at->second);
    waiting_.erase(at);
  }
  for (Loaded& loaded : waiting) loaded(result);
}

void MapLoader::read_file(const std::shared_ptr<ObjectImpl>& object, uint64_t block) {
  const Key key{object->id(), block};
  if (object->source() != nullptr && !disk_.health().may_try()) {
    answer(key, absl::UnavailableError("the disk tier is out of use"));
    return;
  }
  const absl::StatusOr<OpenFilesRef> files = object->file().open();
  if (!files.ok()) {
    answer(key, files.status());
    return;
  }
  auto buffer = std::make_unique<AlignedBlock>();
  const absl::Span<std::byte> into = absl::MakeSpan(buffer->bytes);
  disk_.ring().read((*files)->map.get(), into, map_block_offset(block), kMapBlockSize,
                    [this, object, files = *files, key, buffer = std::move(buffer)](int result) {
                      disk_.judge(result);
                      absl::StatusOr<MapBlock> decoded =
                          result == 0
                              ? decode_map_block(buffer->bytes, key.second, object->incarnation())
                              : absl::StatusOr<MapBlock>(absl::DataLossError(
                                    fmt::format("cannot read its page map (error {})", -result)));
                      answer(key, accept(*object, key.second, std::move(decoded)));
                    });
}

}  // namespace blobcache::page
