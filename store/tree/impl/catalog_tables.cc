#include "store/tree/impl/catalog_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace blobcache::tree {
namespace {

// The columns of a file, in read_file()'s order, come first in each of the next three.
constexpr const char* kFindEntry = R"sql(
SELECT f.id, f.type, f.mode, f.uid, f.gid, f.modified_ns, f.changed_ns,
  (SELECT count(*) FROM dentry l WHERE l.file = f.id), f.blob, b.key,
  coalesce(f.length_bytes, b.size_bytes, v.size_bytes, length(f.target)), b.pinned, f.volume,
  v.base, f.target, b.disk_bytes,
  d.id, d.name
FROM dentry d JOIN file f ON f.id = d.file LEFT JOIN blob b ON b.id = f.blob
  LEFT JOIN volume v ON v.id = f.volume
WHERE d.parent = ? AND d.name = ?)sql";
constexpr const char* kListEntries = R"sql(
SELECT f.id, f.type, f.mode, f.uid, f.gid, f.modified_ns, f.changed_ns,
  (SELECT count(*) FROM dentry l WHERE l.file = f.id), f.blob, b.key,
  coalesce(f.length_bytes, b.size_bytes, v.size_bytes, length(f.target)), b.pinned, f.volume,
  v.base, f.target, b.disk_bytes,
  d.id, d.name
FROM dentry d JOIN file f ON f.id = d.file LEFT JOIN blob b ON b.id = f.blob
  LEFT JOIN volume v ON v.id = f.volume
WHERE d.parent = ? AND d.id > ? ORDER BY d.id LIMIT ?)sql";
constexpr const char* kFindFile = R"sql(
SELECT f.id, f.type, f.mode, f.uid, f.gid, f.modified_ns, f.changed_ns,
  (SELECT count(*) FROM dentry l WHERE l.file = f.id), f.blob, b.key,
  coalesce(f.length_bytes, b.size_bytes, v.size_bytes, length(f.target)), b.pinned, f.volume,
  v.base, f.target, b.disk_bytes
FROM file f LEFT JOIN blob b ON b.id = f.blob
  LEFT JOIN volume v ON v.id = f.volume
WHERE f.id = ?)sql";

// The columns of a blob, in read_blob()'s order; the map, where it is asked for, follows.
constexpr const char* kFindBlob = R"sql(
SELECT id, key, incarnation, size_bytes, disk_bytes, created_ns, unnamed_since_ns, kept,
  pinned
FROM blob WHERE key = ?)sql";
constexpr const char* kFindBlobById = R"sql(
SELECT id, key, incarnation, size_bytes, disk_bytes, created_ns, unnamed_since_ns, kept,
  pinned
FROM blob WHERE id = ?)sql";
constexpr const char* kListBlobs = R"sql(
SELECT id, key, incarnation, size_bytes, disk_bytes, created_ns, unnamed_since_ns, kept,
  pinned
FROM blob WHERE id > ? ORDER BY id LIMIT ?)sql";
constexpr const char* kOldestCached = R"sql(
SELECT id, key, incarnation, size_bytes, disk_bytes, created_ns, unnamed_since_ns, kept,
  pinned
FROM blob WHERE kept = 0 AND pinned = 0 AND unnamed_since_ns IS NOT NULL AND disk_bytes > 0
  AND (unnamed_since_ns, id) > (?, ?)
ORDER BY unnamed_since_ns, id LIMIT ?)sql";
constexpr const char* kListUnnamed = R"sql(
SELECT id, key, incarnation, size_bytes, disk_bytes, created_ns, unnamed_since_ns, kept,
  pinned
FROM blob WHERE kept = ? AND pinned = 0 AND unnamed_since_ns IS NOT NULL AND unnamed_since_ns <= ?
  AND (unnamed_since_ns, id) > (?, ?)
ORDER BY unnamed_since_ns, id LIMIT ?)sql";
constexpr const char* kNewestBlob = "SELECT coalesce(max(id), 0) FROM blob";
constexpr const char* kLoadBlob = R"sql(
SELECT id, key, incarnation, size_bytes, disk_bytes, created_ns, unnamed_since_ns, kept,
  pinned, inline_map
FROM blob WHERE id = ?)sql";
constexpr const char* kLoadBlobOfFile = R"sql(
SELECT b.id, b.key, b.incarnation, b.size_bytes, b.disk_bytes, b.created_ns, b.unnamed_since_ns,
  b.kept, b.pinned, b.inline_map
FROM file f JOIN blob b ON b.id = f.blob WHERE f.id = ?)sql";
constexpr int kMapColumn = 9;

constexpr const char* kAnyExpired =
    "SELECT 1 FROM blob WHERE kept = 1 AND pinned = 0 AND unnamed_since_ns <= ? LIMIT 1";
constexpr const char* kExpiredBytes =
    "SELECT coalesce(sum(disk_bytes), 0) FROM blob WHERE kept = 1 AND pinned = 0 "
    "AND unnamed_since_ns <= ?";
constexpr const char* kExpire =
    "UPDATE blob SET kept = 0 WHERE kept = 1 AND pinned = 0 AND unnamed_since_ns <= ?";
constexpr const char* kTotals =
    "SELECT blobs, blob_bytes, unnamed_blobs, kept_disk_bytes, cached_disk_bytes, names FROM "
    "totals";

constexpr const char* kInsertBlob = R"sql(
INSERT INTO blob (key, incarnation, size_bytes, disk_bytes, created_ns, kept, inline_map,
  unnamed_since_ns)
VALUES (?, ?, ?, ?, ?, ?, ?, ?))sql";
constexpr const char* kReplaceCopy =
    "UPDATE blob SET incarnation = ?, size_bytes = ?, disk_bytes = ?, inline_map = ?, kept = ? "
    "WHERE id = ?";
constexpr const char* kSetRetention = "UPDATE blob SET kept = ?, unnamed_since_ns = ? WHERE id = ?";
constexpr const char* kSetPinned = "UPDATE blob SET pinned = ? WHERE id = ?";
constexpr const char* kIsNamed = R"sql(
SELECT 1 FROM file WHERE blob = ?1 UNION ALL SELECT 1 FROM volume WHERE base = ?1 LIMIT 1)sql";
constexpr const char* kDeleteBlob = "DELETE FROM blob WHERE id = ?";
constexpr const char* kInsertFile = R"sql(
INSERT INTO file (type, mode, uid, gid, modified_ns, changed_ns, blob, volume, target,
  length_bytes)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?))sql";
constexpr const char* kDeleteFile = "DELETE FROM file WHERE id = ?";

/// Sizes are far below 2^63 (page::kMaxObjectSize), so that SQLite's signed integers hold them.
int64_t as_integer(uint64_t size_bytes) { return static_cast<int64_t>(size_bytes); }

int64_t as_limit(size_t limit) { return static_cast<int64_t>(std::min<size_t>(limit, INT64_MAX)); }

template <size_t kLength>
std::string_view as_text(const std::array<uint8_t, kLength>& bytes) {
  const void* data = bytes.data();
  return {static_cast<const char*>(data), bytes.size()};
}

/// Accounts that a damaged row would turn over.
uint64_t not_negative(int64_t bytes) { return static_cast<uint64_t>(std::max<int64_t>(bytes, 0)); }

/// A column of another length than ours leaves zeros: the key then names no object.
template <size_t kLength>
void copy_to(std::string_view from, std::array<uint8_t, kLength>& to) {
  if (from.size() == to.size()) std::memcpy(to.data(), from.data(), to.size());
}

/// What no version of the catalog wrote is a file, whose content nobody knows.
FileKind to_kind(int64_t type) {
  for (const FileKind kind : {FileKind::kDirectory, FileKind::kVolume, FileKind::kSymlink}) {
    if (type == static_cast<int64_t>(kind)) return kind;
  }
  return FileKind::kFile;
}

FileRow read_file(const Query& query) {
  FileRow row;
  row.id = query.integer(0);
  row.kind = to_kind(query.integer(1));
  row.mode = static_cast<mode_t>(query.integer(2));
  row.uid = static_cast<uid_t>(query.integer(3));
  row.gid = static_cast<gid_t>(query.integer(4));
  row.modified = query.time(5);
  row.changed = query.time(6);
  row.links = static_cast<uint32_t>(query.integer(7));
  if (!query.is_null(8)) row.blob = query.integer(8);
  if (!query.is_null(9)) copy_to(query.bytes(9), row.key.emplace().bytes);
  row.size_bytes = static_cast<uint64_t>(query.integer(10));
  row.pinned = query.integer(11) != 0;
  if (!query.is_null(12)) row.volume = query.integer(12);
  if (!query.is_null(13)) row.base = query.integer(13);
  row.target = query.bytes(14);
  row.disk_bytes = not_negative(query.integer(15));
  return row;
}

EntryRow read_entry(const Query& query) {
  EntryRow row;
  row.file = read_file(query);
  row.id = query.integer(16);
  row.name = query.bytes(17);
  return row;
}

BlobRow read_blob(const Query& query) {
  BlobRow row;
  row.id = query.integer(0);
  copy_to(query.bytes(1), row.key.bytes);
  copy_to(query.bytes(2), row.incarnation.bytes);
  row.size_bytes = static_cast<uint64_t>(query.integer(3));
  row.disk_bytes = not_negative(query.integer(4));
  row.created = query.time(5);
  if (!query.is_null(6)) row.unnamed_since = query.time(6);
  row.retention = query.integer(7) != 0 ? page::Retention::kKept : page::Retention::kCached;
  row.pinned = query.integer(8) != 0;
  return row;
}

BlobRow read_blob_and_map(const Query& query) {
  BlobRow row = read_blob(query);
  row.inline_map = query.bytes(kMapColumn);
  return row;
}

/// The first row, read by `read`, or nullopt.
template <typename Row>
absl::StatusOr<std::optional<Row>> first_row(Query& query, Row (*read)(const Query&)) {
  BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
  if (!row) return std::optional<Row>();
  return std::optional<Row>(read(query));
}

template <typename Row>
absl::StatusOr<std::vector<Row>> all_rows(Query& query, Row (*read)(const Query&)) {
  std::vector<Row> rows;
  for (;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
    if (!row) return rows;
    rows.push_back(read(query));
  }
}

absl::StatusOr<bool> any_row(Query& query) { return query.step(); }

}  // namespace

absl::StatusOr<std::optional<EntryRow>> CatalogReader::find_entry(int64_t parent,
                                                                  std::string_view name) {
  Query query = database_.query(kFindEntry);
  query.bind(parent).bind(name);
  return first_row(query, &read_entry);
}

absl::StatusOr<std::optional<FileRow>> CatalogReader::find_file(int64_t file) {
  Query query = database_.query(kFindFile);
  query.bind(file);
  return first_row(query, &read_file);
}

absl::StatusOr<std::vector<EntryRow>> CatalogReader::list_entries(int64_t parent, int64_t after,
                                                                  size_t limit) {
  Query query = database_.query(kListEntries);
  query.bind(parent).bind(after).bind(as_limit(limit));
  return all_rows(query, &read_entry);
}

absl::StatusOr<std::optional<BlobRow>> CatalogReader::find_blob(const page::ObjectKey& key) {
  Query query = database_.query(kFindBlob);
  query.bind(as_text(key.bytes));
  return first_row(query, &read_blob);
}

absl::StatusOr<std::optional<BlobRow>> CatalogReader::find_blob_by_id(int64_t blob) {
  Query query = database_.query(kFindBlobById);
  query.bind(blob);
  return first_row(query, &read_blob);
}

absl::StatusOr<std::optional<BlobRow>> CatalogReader::load_blob(int64_t blob) {
  Query query = database_.query(kLoadBlob);
  query.bind(blob);
  return first_row(query, &read_blob_and_map);
}

absl::StatusOr<std::optional<BlobRow>> CatalogReader::load_blob_of_file(int64_t file) {
  Query query = database_.query(kLoadBlobOfFile);
  query.bind(file);
  return first_row(query, &read_blob_and_map);
}

absl::StatusOr<std::vector<BlobRow>> CatalogReader::list_blobs(int64_t after, size_t limit) {
  Query query = database_.query(kListBlobs);
  query.bind(after).bind(as_limit(limit));
  return all_rows(query, &read_blob);
}

absl::StatusOr<std::vector<BlobRow>> CatalogReader::oldest_cached(const UnnamedCursor& after,
                                                                  size_t limit) {
  Query query = database_.query(kOldestCached);
  query.bind(after.since).bind(after.blob).bind(as_limit(limit));
  return all_rows(query, &read_blob);
}

absl::StatusOr<std::vector<BlobRow>> CatalogReader::list_unnamed(page::Retention retention,
                                                                 const UnnamedCursor& after,
                                                                 absl::Time before, size_t limit) {
  Query query = database_.query(kListUnnamed);
  query.bind(int64_t{retention == page::Retention::kKept}).bind(before);
  query.bind(after.since).bind(after.blob).bind(as_limit(limit));
  return all_rows(query, &read_blob);
}

absl::StatusOr<int64_t> CatalogReader::newest_blob() {
  Query query = database_.query(kNewestBlob);
  BLOBCACHE_RETURN_IF_ERROR(query.step().status());
  return query.integer(0);
}

absl::Status CatalogReader::check() {
  Query query = database_.query("PRAGMA integrity_check(1)");
  BLOBCACHE_ASSIGN_OR_RETURN(const bool answered, query.step());
  if (!answered || query.bytes(0) == "ok") return absl::OkStatus();
  return absl::DataLossError(fmt::format("the catalog is damaged: {}", query.bytes(0)));
}

absl::StatusOr<bool> CatalogReader::any_expired(absl::Time before) {
  Query query = database_.query(kAnyExpired);
  query.bind(before);
  return any_row(query);
}

absl::StatusOr<Totals> CatalogReader::totals() {
  Query query = database_.query(kTotals);
  BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
  if (!row) return absl::DataLossError("the catalog has lost its totals");
  const auto column = [&query](int n) { return not_negative(query.integer(n)); };
  return Totals{.blobs = column(0),
                .blob_bytes = column(1),
                .unnamed_blobs = column(2),
                .kept_disk_bytes = column(3),
                .cached_disk_bytes = column(4),
                .names = column(5)};
}

absl::StatusOr<int64_t> CatalogWriter::insert_blob(const BlobRow& row) {
  Query query = database_.query(kInsertBlob);
  query.bind(as_text(row.key.bytes)).bind(as_text(row.incarnation.bytes));
  query.bind(as_integer(row.size_bytes)).bind(as_integer(row.disk_bytes)).bind(row.created);
  query.bind(int64_t{row.retention == page::Retention::kKept}).bind(row.inline_map);
  row.unnamed_since ? query.bind(*row.unnamed_since) : query.bind_null();
  BLOBCACHE_RETURN_IF_ERROR(query.run());
  return database_.last_insert_id();
}

absl::Status CatalogWriter::replace_copy(const BlobRow& row) {
  Query query = database_.query(kReplaceCopy);
  query.bind(as_text(row.incarnation.bytes)).bind(as_integer(row.size_bytes));
  query.bind(as_integer(row.disk_bytes)).bind(row.inline_map);
  query.bind(int64_t{row.retention == page::Retention::kKept}).bind(row.id);
  return query.run();
}

absl::Status CatalogWriter::set_retention(int64_t blob, std::optional<absl::Time> unnamed_since,
                                          page::Retention retention) {
  Query query = database_.query(kSetRetention);
  query.bind(int64_t{retention == page::Retention::kKept});
  unnamed_since ? query.bind(*unnamed_since) : query.bind_null();
  query.bind(blob);
  return query.run();
}

absl::Status CatalogWriter::set_pinned(int64_t blob, bool pinned) {
  Query query = database_.query(kSetPinned);
  query.bind(int64_t{pinned}).bind(blob);
  return query.run();
}

absl::StatusOr<bool> CatalogWriter::is_named(int64_t blob) {
  Query query = database_.query(kIsNamed);
  query.bind(blob);
  return any_row(query);
}

absl::Status CatalogWriter::delete_blob(int64_t blob) {
  Query query = database_.query(kDeleteBlob);
  query.bind(blob);
  return query.run();
}

absl::StatusOr<uint64_t> CatalogWriter::expire(absl::Time before) {
  uint64_t bytes = 0;
  {
    Query query = database_.query(kExpiredBytes);
    query.bind(before);
    BLOBCACHE_RETURN_IF_ERROR(query.step().status());
    bytes = static_cast<uint64_t>(query.integer(0));
  }
  Query query = database_.query(kExpire);
  query.bind(before);
  BLOBCACHE_RETURN_IF_ERROR(query.run());
  return bytes;
}

absl::StatusOr<int64_t> CatalogWriter::insert_file(const FileRow& row) {
  Query query = database_.query(kInsertFile);
  query.bind(static_cast<int64_t>(row.kind)).bind(int64_t{row.mode});
  query.bind(int64_t{row.uid}).bind(int64_t{row.gid}).bind(row.modified).bind(row.changed);
  row.blob ? query.bind(*row.blob) : query.bind_null();
  row.volume ? query.bind(*row.volume) : query.bind_null();
  row.kind == FileKind::kSymlink ? query.bind(row.target) : query.bind_null();
  row.is_under_writing() ? query.bind(as_integer(row.size_bytes)) : query.bind_null();
  BLOBCACHE_RETURN_IF_ERROR(query.run());
  return database_.last_insert_id();
}

absl::Status CatalogWriter::delete_file(int64_t file) {
  Query query = database_.query(kDeleteFile);
  query.bind(file);
  return query.run();
}

}  // namespace blobcache::tree
