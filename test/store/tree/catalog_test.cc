// The catalog file: what is refused at open, and how the tables behave.

#include "store/tree/impl/catalog.h"

#include <doctest/doctest.h>
#include <sqlite3.h>

#include <fstream>

#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/schema.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

struct Store {
  TemporaryDirectory directory;
  std::filesystem::path file = directory.path() / "catalog.sqlite";
  std::filesystem::path objects = directory.path() / "objects";

  absl::StatusOr<std::unique_ptr<Catalog>> open() const { return Catalog::open(file, objects); }
};

std::string content_of_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

void run_sql(const std::filesystem::path& file, const char* sql) {
  sqlite3* connection = nullptr;
  REQUIRE(sqlite3_open(file.c_str(), &connection) == SQLITE_OK);
  const int code = sqlite3_exec(connection, sql, nullptr, nullptr, nullptr);
  sqlite3_close(connection);
  REQUIRE(code == SQLITE_OK);
}

TEST_CASE("catalog: made when there is none, opened when there is") {
  const Store store;
  REQUIRE(store.open().ok());
  const absl::StatusOr<std::unique_ptr<Catalog>> again = store.open();
  REQUIRE(again.ok());
  CHECK((*again)->read()->totals().value().blobs == 0);
  CHECK((*again)->read()->find_file(1).value()->kind == FileKind::kDirectory);
}

TEST_CASE("catalog: a newer version is refused, names both versions and changes nothing") {
  const Store store;
  REQUIRE(store.open().ok());
  run_sql(store.file, "PRAGMA user_version = 7");
  const std::string before = content_of_file(store.file);
  const absl::Status status = store.open().status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(says(status, "version 7"));
  CHECK(says(status, "up to " + std::to_string(kSchemaVersion)));
  CHECK(content_of_file(store.file) == before);
}

TEST_CASE("catalog: a file that is no database is DATA_LOSS and stays as it is") {
  const Store store;
  const std::string garbage = content_of(100000, 3);
  std::ofstream(store.file, std::ios::binary) << garbage;
  const absl::Status status = store.open().status();
  CHECK(absl::IsDataLoss(status));
  CHECK(says(status, store.file.string()));
  CHECK(says(status, "nothing was changed"));
  CHECK(content_of_file(store.file) == garbage);
}

TEST_CASE("catalog: a damaged table is DATA_LOSS") {
  const Store store;
  REQUIRE(store.open().ok());
  {
    std::fstream stream(store.file, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekp(4096);
    stream << content_of(200000, 4);
  }
  const absl::Status status = store.open().status();
  CHECK(absl::IsDataLoss(status));
  CHECK(says(status, store.file.string()));
}

TEST_CASE("catalog: another program's database is refused") {
  const Store store;
  run_sql(store.file, "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
  const absl::Status status = store.open().status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(says(status, "another program"));
}

TEST_CASE("catalog: objects without a catalog are not made orphans") {
  const Store store;
  std::filesystem::create_directories(store.objects / "ab");
  SUBCASE("no objects: a new store") { CHECK(store.open().ok()); }
  SUBCASE("the catalog is missing") {
    std::ofstream(store.objects / "ab" / "object") << "content";
    const absl::Status status = store.open().status();
    CHECK(absl::IsDataLoss(status));
    CHECK(says(status, store.objects.string()));
    CHECK_FALSE(std::filesystem::exists(store.file));
  }
  SUBCASE("the catalog is empty") {
    std::ofstream(store.objects / "ab" / "object") << "content";
    std::ofstream(store.file) << "";
    CHECK(absl::IsDataLoss(store.open().status()));
    CHECK(std::filesystem::file_size(store.file) == 0);
  }
}

TEST_CASE("catalog: the disk decides, not the cache: committed changes are synced in a log") {
  const Store store;
  const std::unique_ptr<Catalog> catalog = store.open().value();
  const std::unique_ptr<Database> other =
      Database::open(store.file, Database::Access::kReadWrite).value();
  Query query = other->query("PRAGMA journal_mode");
  REQUIRE(query.step().value());
  CHECK(query.bytes(0) == "wal");
}

TEST_CASE("catalog: readers read on while a change is under way, and see it when it is whole") {
  const Store store;
  const std::unique_ptr<Catalog> catalog = store.open().value();
  const auto entries = [&] {
    return catalog->read()->list_entries(static_cast<int64_t>(kFilesNode), 0, 10).value().size();
  };
  const absl::Status status = catalog->write(
      [&](CatalogWriter& writer) -> absl::Status {
        FileRow row;
        row.kind = FileKind::kDirectory;
        BLOBCACHE_ASSIGN_OR_RETURN(const int64_t file, writer.insert_file(row));
        BLOBCACHE_RETURN_IF_ERROR(writer.insert_entry(static_cast<int64_t>(kFilesNode), "a", file));
        CHECK(entries() == 0);
        return absl::OkStatus();
      },
      [] {});
  CHECK(status.ok());
  CHECK(entries() == 1);
}

TEST_CASE("catalog: a frozen reader stays at its moment") {
  const Store store;
  const std::unique_ptr<Catalog> catalog = store.open().value();
  {
    Catalog::Lease frozen = catalog->read();
    REQUIRE(frozen.freeze().ok());
    REQUIRE(frozen->find_file(3).value()->modified != absl::UnixEpoch());
    REQUIRE(
        catalog
            ->write([](CatalogWriter& writer) { return writer.touch(3, absl::UnixEpoch()); }, [] {})
            .ok());
    CHECK(frozen->find_file(3).value()->modified != absl::UnixEpoch());
  }
  CHECK(catalog->read()->find_file(3).value()->modified == absl::UnixEpoch());
}

/// Every look-up has an index: with many rows a scan would show as a walk of the table.
TEST_CASE("catalog: no statement of the hot path scans a table") {
  const Store store;
  REQUIRE(store.open().ok());
  const std::unique_ptr<Database> database =
      Database::open(store.file, Database::Access::kReadWrite).value();
  for (const char* sql : {
           "EXPLAIN QUERY PLAN SELECT f.id, (SELECT count(*) FROM dentry l WHERE l.file = f.id) "
           "FROM dentry d JOIN file f ON f.id = d.file LEFT JOIN blob b ON b.id = f.blob "
           "WHERE d.parent = ? AND d.name = ?",
           "EXPLAIN QUERY PLAN SELECT d.id FROM dentry d JOIN file f ON f.id = d.file "
           "LEFT JOIN blob b ON b.id = f.blob WHERE d.parent = ? AND d.id > ? ORDER BY d.id LIMIT "
           "?",
           "EXPLAIN QUERY PLAN SELECT 1 FROM blob WHERE kept = 1 AND pinned = 0 AND "
           "unnamed_since_ns <= ? "
           "LIMIT 1",
           "EXPLAIN QUERY PLAN SELECT id FROM blob WHERE kept = 0 AND pinned = 0 AND "
           "unnamed_since_ns IS NOT NULL "
           "AND disk_bytes > 0 ORDER BY unnamed_since_ns LIMIT ?",
           "EXPLAIN QUERY PLAN SELECT id FROM blob WHERE kept = ? AND pinned = 0 AND "
           "unnamed_since_ns IS NOT NULL AND unnamed_since_ns <= ? AND (unnamed_since_ns, id) > "
           "(?, ?) ORDER BY unnamed_since_ns, id LIMIT ?",
           "EXPLAIN QUERY PLAN SELECT 1 FROM file WHERE blob = ? LIMIT 1",
       }) {
    INFO(sql);
    Query query = database->query(sql);
    while (query.step().value()) {
      const std::string_view step = query.bytes(3);
      INFO(step);
      CHECK(step.find("SCAN") == std::string_view::npos);
      CHECK(step.find("TEMP B-TREE") == std::string_view::npos);
    }
  }
}

}  // namespace
}  // namespace blobcache::tree
