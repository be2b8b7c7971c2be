// The part of the catalog's tables that has volumes.

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "store/tree/impl/catalog_tables.h"

namespace blobcache::tree {
namespace {

// The columns of a volume, in read_volume()'s order.
constexpr const char* kFindVolume =
    "SELECT id, incarnation, size_bytes, base, created_ns, base_origin, base_path, base_key FROM "
    "volume WHERE id = ?";
constexpr const char* kListVolumes =
    "SELECT id, incarnation, size_bytes, base, created_ns, base_origin, base_path, base_key FROM "
    "volume v WHERE id > ? AND NOT EXISTS (SELECT 1 FROM file f WHERE f.volume = v.id AND f.type = "
    "2) "
    "ORDER BY id LIMIT ?";
// Of files with volumes there are few: not through all files in the order of their ids.
constexpr const char* kListWrittenFiles =
    "SELECT id FROM file INDEXED BY file_by_volume WHERE volume IS NOT NULL AND type = 2 AND id > "
    "? "
    "ORDER BY id LIMIT ?";
constexpr const char* kHasVolume = "SELECT 1 FROM volume WHERE incarnation = ?";
constexpr const char* kInsertVolume =
    "INSERT INTO volume (incarnation, size_bytes, base, created_ns, base_origin, base_path, "
    "base_key) VALUES (?, ?, ?, ?, ?, ?, ?)";
constexpr const char* kResizeVolume = "UPDATE volume SET size_bytes = ? WHERE id = ?";
constexpr const char* kDeleteVolume = "DELETE FROM volume WHERE id = ?";

/// Of an incarnation or a key.
template <typename Id>
std::string_view as_text(const Id& id) {
  const void* data = id.bytes.data();
  return {static_cast<const char*>(data), id.bytes.size()};
}

VolumeRow read_volume(const Query& query) {
  VolumeRow row;
  row.id = query.integer(0);
  // Another length than ours leaves zeros, which name no folder.
  const std::string_view incarnation = query.bytes(1);
  std::array<uint8_t, 16>& bytes = row.incarnation.bytes;
  if (incarnation.size() == bytes.size()) {
    std::memcpy(bytes.data(), incarnation.data(), bytes.size());
  }
  row.size_bytes = static_cast<uint64_t>(query.integer(2));
  if (!query.is_null(3)) row.base = query.integer(3);
  row.created = query.time(4);
  if (query.is_null(5)) return row;
  OriginBase& base = row.origin_base.emplace();
  base.origin = query.bytes(5);
  base.path = query.bytes(6);
  // As above: zeros are no version's key.
  const std::string_view key = query.bytes(7);
  if (key.size() == base.key.bytes.size()) {
    std::memcpy(base.key.bytes.data(), key.data(), key.size());
  }
  return row;
}

}  // namespace

absl::StatusOr<std::optional<VolumeRow>> CatalogReader::find_volume(int64_t volume) {
  Query query = database_.query(kFindVolume);
  query.bind(volume);
  BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
  if (!row) return std::optional<VolumeRow>();
  return std::optional<VolumeRow>(read_volume(query));
}

absl::StatusOr<bool> CatalogReader::has_volume(const page::Incarnation& incarnation) {
  Query query = database_.query(kHasVolume);
  query.bind(as_text(incarnation));
  return query.step();
}

absl::StatusOr<std::vector<VolumeRow>> CatalogReader::list_volumes(int64_t after, size_t limit) {
  Query query = database_.query(kListVolumes);
  query.bind(after).bind(static_cast<int64_t>(std::min<size_t>(limit, INT64_MAX)));
  std::vector<VolumeRow> rows;
  for (;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
    if (!row) return rows;
    rows.push_back(read_volume(query));
  }
}

absl::StatusOr<std::vector<int64_t>> CatalogReader::list_written_files(int64_t after,
                                                                       size_t limit) {
  Query query = database_.query(kListWrittenFiles);
  query.bind(after).bind(static_cast<int64_t>(std::min<size_t>(limit, INT64_MAX)));
  std::vector<int64_t> files;
  for (;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
    if (!row) return files;
    files.push_back(query.integer(0));
  }
}

absl::StatusOr<int64_t> CatalogWriter::insert_volume(const VolumeRow& row) {
  Query query = database_.query(kInsertVolume);
  query.bind(as_text(row.incarnation)).bind(static_cast<int64_t>(row.size_bytes));
  row.base ? query.bind(*row.base) : query.bind_null();
  query.bind(row.created);
  if (const std::optional<OriginBase>& base = row.origin_base) {
    query.bind(base->origin).bind(base->path).bind(as_text(base->key));
  } else {
    query.bind_null().bind_null().bind_null();
  }
  BLOBCACHE_RETURN_IF_ERROR(query.run());
  return database_.last_insert_id();
}

absl::Status CatalogWriter::resize_volume(int64_t volume, uint64_t size_bytes) {
  Query query = database_.query(kResizeVolume);
  query.bind(static_cast<int64_t>(size_bytes)).bind(volume);
  return query.run();
}

absl::Status CatalogWriter::delete_volume(int64_t volume) {
  Query query = database_.query(kDeleteVolume);
  query.bind(volume);
  return query.run();
}

}  // namespace blobcache::tree
