#include "store/page/impl/map_loader.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "store/page/checksum.h"
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
    disk_.log_failure(fmt::format("a page map is damaged: {}", base::message(error)));
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
              if (!absl::IsDataLoss(result.status()) || object->in_cache() ||
                  object->source() != nullptr) {
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

void MapLoader::read_file(const std::shared_ptr<ObjectImpl>& object, uint64_t block, bool again) {
  const Key key{object->id(), block};
  if (object->source() != nullptr && !disk_.health().may_read()) {
    answer(key, absl::UnavailableError("the disk tier is out of use"));
    return;
  }
  const uint64_t version = object->map_version().load(std::memory_order_acquire);
  const absl::StatusOr<OpenFilesRef> files = object->file().open();
  if (absl::IsNotFound(files.status()) && object->in_cache()) {
    answer(key, accept(*object, block, MapBlock()));
    return;
  }
  if (!files.ok()) {
    answer(key, files.status());
    return;
  }
  if (!(*files)->map.valid()) {
    answer(key, accept(*object, key.second, absl::DataLossError("it is missing")));
    return;
  }
  auto buffer = std::make_unique<AlignedBlock>();
  const absl::Span<std::byte> into = absl::MakeSpan(buffer->bytes);
  const FileRead read{object, block, version, again};
  disk_.ring().read((*files)->map.get(), into, map_block_offset(block), kMapBlockSize,
                    [this, read, files = *files, buffer = std::move(buffer)](int result) {
                      file_read(read, result, buffer->bytes);
                    });
}

void MapLoader::file_read(const FileRead& read, int result, absl::Span<const std::byte> bytes) {
  const std::shared_ptr<ObjectImpl>& object = read.object;
  const Key key{object->id(), read.block};
  disk_.health().judge(DiskStep::Kind::kRead, result);
  if (object->in_cache()) {
    // It may have been changed while it was read.
    if (MapCache::Block newer = cache_.find(object->id(), key.second)) {
      answer(key, std::move(newer));
      return;
    }
    if (object->map_version().load(std::memory_order_acquire) != read.version) {
      read_file(object, key.second);
      return;
    }
  }
  if (is_disk_failure(result) && !read.again) {
    // To take the map for lost costs more than to ask twice: the object's file is read whole.
    read_file(object, key.second, /*again=*/true);
    return;
  }
  if (object->in_cache() && (result == -ENODATA || (result == 0 && is_zero(bytes)))) {
    answer(key, accept(*object, key.second, MapBlock()));  // nothing was ever written there
    return;
  }
  absl::StatusOr<MapBlock> decoded =
      result == 0 ? decode_map_block(bytes, key.second, object->incarnation())
                  : absl::StatusOr<MapBlock>(absl::DataLossError(
                        fmt::format("cannot read its page map (error {})", -result)));
  if (object->in_cache() && result == 0 && !decoded.ok()) {
    disk_.counters().add(Counters::kMapErrors);
    spdlog::warn(
        "a page map is damaged, what it tells of is fetched again: object {}, block {}: {}",
        object->key().hex(), key.second, base::message(decoded.status()));
    decoded = MapBlock();
  }
  answer(key, accept(*object, key.second, std::move(decoded)));
}

void MapLoader::change(ObjectImpl& object, uint64_t number, MapCache::Block block) {
  object.map_version().fetch_add(1, std::memory_order_acq_rel);
  cache_.insert_unwritten(object.id(), number, std::move(block));
}

void MapLoader::written(ObjectImpl& object, uint64_t number) {
  // Whoever was reading the file meanwhile may have seen either, or some of both: they read again.
  object.map_version().fetch_add(1, std::memory_order_acq_rel);
  cache_.written(object.id(), number);
}

}  // namespace blobcache::page
