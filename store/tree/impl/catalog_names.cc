// The part of the catalog's tables that has names, and what a file's row says beside them.

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

constexpr const char* kAnyEntry = "SELECT 1 FROM dentry WHERE parent = ? LIMIT 1";
constexpr const char* kEntryOfBlob = R"sql(
SELECT d.parent, d.name FROM file f JOIN dentry d ON d.file = f.id WHERE f.blob = ?1
UNION ALL
SELECT d.parent, d.name FROM volume v JOIN file f ON f.volume = v.id JOIN dentry d ON d.file = f.id
WHERE v.base = ?1 LIMIT 1)sql";
// Of the files under writing over a blob there are few.
constexpr const char* kNamesOfBlob = R"sql(
SELECT f.mode, f.uid, f.gid, f.modified_ns, d.parent, d.name, f.id AS file, d.id AS entry
FROM file f JOIN dentry d ON d.file = f.id
WHERE f.blob = ?1 AND f.id >= ?2 AND (f.id, d.id) > (?2, ?3)
UNION ALL
SELECT f.mode, f.uid, f.gid, f.modified_ns, d.parent, d.name, f.id, d.id
FROM volume v JOIN file f ON f.volume = v.id JOIN dentry d ON d.file = f.id
WHERE v.base = ?1 AND f.type = 2 AND (f.id, d.id) > (?2, ?3)
ORDER BY file, entry LIMIT ?4)sql";
constexpr const char* kListLinks =
    "SELECT id, parent, name FROM dentry WHERE file = ? AND id > ? ORDER BY id LIMIT ?";
constexpr const char* kEntryOfFile = "SELECT parent, name FROM dentry WHERE file = ? LIMIT 1";

constexpr const char* kTouch = "UPDATE file SET modified_ns = ?, changed_ns = ? WHERE id = ?";
constexpr const char* kTouchChanged = "UPDATE file SET changed_ns = ? WHERE id = ?";
constexpr const char* kSetAttributes =
    "UPDATE file SET mode = ?, uid = ?, gid = ?, modified_ns = ?, changed_ns = ? WHERE id = ?";
constexpr const char* kSetContent =
    "UPDATE file SET blob = ?, volume = ?, length_bytes = ?, modified_ns = ?, changed_ns = ? "
    "WHERE id = ?";
constexpr const char* kInsertEntry = "INSERT INTO dentry (parent, name, file) VALUES (?, ?, ?)";
constexpr const char* kPointEntry = "UPDATE dentry SET file = ? WHERE id = ?";
constexpr const char* kDeleteEntry = "DELETE FROM dentry WHERE id = ?";
constexpr const char* kMoveEntry = "UPDATE dentry SET parent = ?, name = ? WHERE id = ?";

int64_t to_limit(size_t limit) { return static_cast<int64_t>(std::min<size_t>(limit, INT64_MAX)); }

}  // namespace

absl::StatusOr<bool> CatalogReader::has_entries(int64_t parent) {
  Query query = database_.query(kAnyEntry);
  query.bind(parent);
  return query.step();
}

absl::StatusOr<std::optional<std::string>> CatalogReader::path_of_blob(int64_t blob) {
  int64_t parent = 0;
  std::string name;
  {
    Query query = database_.query(kEntryOfBlob);
    query.bind(blob);
    BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
    if (!row) return std::optional<std::string>();
    parent = query.integer(0);
    name = query.bytes(1);
  }
  BLOBCACHE_ASSIGN_OR_RETURN(std::optional<std::string> path, path_of_entry(parent, name));
  return path ? std::move(path) : fmt::format("files/.../{}", name);
}

absl::StatusOr<std::optional<std::string>> CatalogReader::path_of_entry(int64_t parent,
                                                                        std::string_view name) {
  std::string path(name);
  while (parent != static_cast<int64_t>(kRootNode)) {
    // So would directories that lie in one another, for ever.
    if (path.size() > kMaxPathBytes) return std::optional<std::string>();
    Query query = database_.query(kEntryOfFile);
    query.bind(parent);
    BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
    if (!row) return absl::DataLossError("the catalog is damaged: a directory has no place");
    path = fmt::format("{}/{}", query.bytes(1), path);
    parent = query.integer(0);
  }
  if (path.size() > kMaxPathBytes) return std::optional<std::string>();
  return std::optional<std::string>(std::move(path));
}

absl::StatusOr<std::vector<LinkRow>> CatalogReader::list_links(int64_t file, int64_t after,
                                                               size_t limit) {
  Query query = database_.query(kListLinks);
  query.bind(file).bind(after).bind(to_limit(limit));
  std::vector<LinkRow> links;
  for (;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
    if (!row) return links;
    links.push_back({query.integer(0), query.integer(1), std::string(query.bytes(2))});
  }
}

absl::StatusOr<std::optional<int64_t>> CatalogReader::parent_of(int64_t directory) {
  Query query = database_.query(kEntryOfFile);
  query.bind(directory);
  BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
  return row ? std::optional<int64_t>(query.integer(0)) : std::nullopt;
}

absl::StatusOr<std::vector<DescribedName>> CatalogReader::names_of_blob(int64_t blob,
                                                                        NameCursor& after,
                                                                        size_t limit) {
  std::vector<DescribedName> names;
  Query query = database_.query(kNamesOfBlob);
  query.bind(blob).bind(after.file).bind(after.entry).bind(to_limit(limit));
  for (;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
    if (!row) return names;
    after = {query.integer(6), query.integer(7)};
    DescribedName name;
    BLOBCACHE_ASSIGN_OR_RETURN(std::optional<std::string> path,
                               path_of_entry(query.integer(4), query.bytes(5)));
    // No rebuild could bind it.
    if (!path) continue;
    name.path = *std::move(path);
    name.mode = static_cast<mode_t>(query.integer(0));
    name.uid = static_cast<uid_t>(query.integer(1));
    name.gid = static_cast<gid_t>(query.integer(2));
    name.modified = query.time(3);
    names.push_back(std::move(name));
  }
}

absl::Status CatalogWriter::touch(int64_t file, absl::Time now) {
  Query query = database_.query(kTouch);
  query.bind(now).bind(now).bind(file);
  return query.run();
}

absl::Status CatalogWriter::touch_changed(int64_t file, absl::Time now) {
  Query query = database_.query(kTouchChanged);
  query.bind(now).bind(file);
  return query.run();
}

absl::Status CatalogWriter::set_attributes(const FileRow& row) {
  Query query = database_.query(kSetAttributes);
  query.bind(int64_t{row.mode}).bind(int64_t{row.uid}).bind(int64_t{row.gid});
  query.bind(row.modified).bind(row.changed).bind(row.id);
  return query.run();
}

absl::Status CatalogWriter::set_content(const FileRow& row) {
  Query query = database_.query(kSetContent);
  row.blob ? query.bind(*row.blob) : query.bind_null();
  row.volume ? query.bind(*row.volume) : query.bind_null();
  row.is_under_writing() ? query.bind(static_cast<int64_t>(row.size_bytes)) : query.bind_null();
  query.bind(row.modified).bind(row.changed).bind(row.id);
  return query.run();
}

absl::Status CatalogWriter::insert_entry(int64_t parent, std::string_view name, int64_t file) {
  Query query = database_.query(kInsertEntry);
  query.bind(parent).bind(name).bind(file);
  return query.run();
}

absl::Status CatalogWriter::point_entry(int64_t entry, int64_t file) {
  Query query = database_.query(kPointEntry);
  query.bind(file).bind(entry);
  return query.run();
}

absl::Status CatalogWriter::move_entry(int64_t entry, int64_t parent, std::string_view name) {
  Query query = database_.query(kMoveEntry);
  query.bind(parent).bind(name).bind(entry);
  return query.run();
}

absl::Status CatalogWriter::delete_entry(int64_t entry) {
  Query query = database_.query(kDeleteEntry);
  query.bind(entry);
  return query.run();
}

}  // namespace blobcache::tree
