// Catalogs of earlier versions: what they hold is there after the upgrade, and works.

#include <doctest/doctest.h>
#include <sqlite3.h>

#include "store/tree/impl/catalog.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/schema.h"
#include "store/tree/name_editor.h"
#include "store/tree/volumes.h"
#include "test/store/tree/older_version.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

/// As version 1 made it, to the letter.
constexpr const char* kVersion1 = R"sql(
CREATE TABLE blob (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key BLOB NOT NULL UNIQUE,
  incarnation BLOB NOT NULL,
  size_bytes INTEGER NOT NULL,
  disk_bytes INTEGER NOT NULL,
  created_ns INTEGER NOT NULL,
  unnamed_since_ns INTEGER,
  kept INTEGER NOT NULL,
  inline_map BLOB NOT NULL
) STRICT;
CREATE INDEX blob_unnamed ON blob (kept, unnamed_since_ns) WHERE unnamed_since_ns IS NOT NULL;

CREATE TABLE file (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  type INTEGER NOT NULL,
  mode INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  gid INTEGER NOT NULL,
  modified_ns INTEGER NOT NULL,
  changed_ns INTEGER NOT NULL,
  blob INTEGER REFERENCES blob (id)
) STRICT;
CREATE INDEX file_by_blob ON file (blob);

CREATE TABLE dentry (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  parent INTEGER NOT NULL REFERENCES file (id),
  name BLOB NOT NULL,
  file INTEGER NOT NULL REFERENCES file (id),
  UNIQUE (parent, name)
) STRICT;
CREATE INDEX dentry_by_parent ON dentry (parent, id);
CREATE INDEX dentry_by_file ON dentry (file);

CREATE TABLE totals (
  blobs INTEGER NOT NULL,
  blob_bytes INTEGER NOT NULL,
  unnamed_blobs INTEGER NOT NULL,
  kept_disk_bytes INTEGER NOT NULL,
  cached_disk_bytes INTEGER NOT NULL,
  names INTEGER NOT NULL
) STRICT;
INSERT INTO totals VALUES (0, 0, 0, 0, 0, 0);

CREATE TRIGGER blob_inserted AFTER INSERT ON blob BEGIN
  UPDATE totals SET blobs = blobs + 1,
    blob_bytes = blob_bytes + new.size_bytes,
    unnamed_blobs = unnamed_blobs + (new.unnamed_since_ns IS NOT NULL),
    kept_disk_bytes = kept_disk_bytes + new.kept * new.disk_bytes,
    cached_disk_bytes = cached_disk_bytes + (1 - new.kept) * new.disk_bytes;
END;
CREATE TRIGGER blob_deleted AFTER DELETE ON blob BEGIN
  UPDATE totals SET blobs = blobs - 1,
    blob_bytes = blob_bytes - old.size_bytes,
    unnamed_blobs = unnamed_blobs - (old.unnamed_since_ns IS NOT NULL),
    kept_disk_bytes = kept_disk_bytes - old.kept * old.disk_bytes,
    cached_disk_bytes = cached_disk_bytes - (1 - old.kept) * old.disk_bytes;
END;
CREATE TRIGGER blob_updated AFTER UPDATE OF unnamed_since_ns, kept, disk_bytes ON blob BEGIN
  UPDATE totals SET
    unnamed_blobs = unnamed_blobs + (new.unnamed_since_ns IS NOT NULL)
      - (old.unnamed_since_ns IS NOT NULL),
    kept_disk_bytes = kept_disk_bytes + new.kept * new.disk_bytes - old.kept * old.disk_bytes,
    cached_disk_bytes = cached_disk_bytes + (1 - new.kept) * new.disk_bytes
      - (1 - old.kept) * old.disk_bytes;
END;
CREATE TRIGGER dentry_inserted AFTER INSERT ON dentry
WHEN (SELECT blob IS NOT NULL FROM file WHERE id = new.file) BEGIN
  UPDATE totals SET names = names + 1;
END;
CREATE TRIGGER dentry_deleted AFTER DELETE ON dentry
WHEN (SELECT blob IS NOT NULL FROM file WHERE id = old.file) BEGIN
  UPDATE totals SET names = names - 1;
END;
)sql";

/// Takes over what the catalog of today holds, as version 1 would have written it.
constexpr const char* kCopy = R"sql(
INSERT INTO blob (id, key, incarnation, size_bytes, disk_bytes, created_ns, unnamed_since_ns, kept,
  inline_map)
SELECT id, key, incarnation, size_bytes, disk_bytes, created_ns, unnamed_since_ns, kept, inline_map
FROM today.blob;
INSERT INTO file
SELECT id, type, mode, uid, gid, modified_ns, changed_ns, blob FROM today.file;
INSERT INTO dentry SELECT * FROM today.dentry;
UPDATE sqlite_sequence SET seq = 15 WHERE name IN ('file', 'dentry') AND seq < 15;
PRAGMA application_id = 0x424c4243;
PRAGMA user_version = 1;
)sql";

/// Makes a store's catalog one of version 1, with the same rows.
void make_version_1(const std::filesystem::path& directory) {
  const std::filesystem::path today = directory / "catalog.sqlite";
  const std::filesystem::path made = directory / "made";
  sqlite3* connection = nullptr;
  REQUIRE(sqlite3_open(made.c_str(), &connection) == SQLITE_OK);
  const std::string attach = "ATTACH '" + today.string() + "' AS today;";
  for (const char* sql : {attach.c_str(), kVersion1, kCopy}) {
    char* error = nullptr;
    const int code = sqlite3_exec(connection, sql, nullptr, nullptr, &error);
    REQUIRE_MESSAGE(code == SQLITE_OK, (error == nullptr ? "" : error));
  }
  REQUIRE(sqlite3_close(connection) == SQLITE_OK);
  std::filesystem::rename(made, today);
  std::filesystem::remove(directory / "catalog.sqlite-wal");
  std::filesystem::remove(directory / "catalog.sqlite-shm");
}

int64_t version_of(const std::filesystem::path& file) {
  const std::unique_ptr<Database> database = Database::open(file, Database::Access::kRead).value();
  return check_schema(*database, file).value();
}

TEST_CASE("upgrade: a store of version 1 has all its blobs, names and accounts, and takes pins") {
  TreeFixture tree(8 * kMiB);
  const CommittedBlob cached = tree.put(content_of(kMiB, 1));
  tree.clock().advance(kTtl);
  const CommittedBlob named = tree.put(content_of(2 * kMiB, 2), "files/d/a");
  const CommittedBlob fresh = tree.put(content_of(kMiB, 3));
  const Namespace::Counts counts = tree.names().counts().value();
  const page::Stats stats = tree.store().stats();
  REQUIRE(stats.disk_used_bytes == stats.disk_kept_bytes + kMiB);
  tree.close();
  make_version_1(tree.path());
  REQUIRE(version_of(tree.path() / "catalog.sqlite") == 1);

  tree.open();
  CHECK(version_of(tree.path() / "catalog.sqlite") == kSchemaVersion);
  CHECK(tree.names().counts()->blobs == counts.blobs);
  CHECK(tree.names().counts()->names == counts.names);
  CHECK(tree.names().counts()->unnamed_blobs == counts.unnamed_blobs);
  CHECK(tree.store().stats().disk_kept_bytes == stats.disk_kept_bytes);
  CHECK(tree.store().stats().disk_used_bytes == stats.disk_used_bytes);
  CHECK(tree.read("files/d/a") == content_of(2 * kMiB, 2));
  CHECK(tree.read(blob_path(fresh.key)) == content_of(kMiB, 3));
  for (const CommittedBlob& blob : {cached, named, fresh}) {
    CHECK_FALSE(tree.names().resolve(blob_path(blob.key))->pinned);
  }

  // The totals go on being right, and what expired does so as before.
  REQUIRE(tree.names().pin(blob_path(cached.key)).ok());
  CHECK(tree.store().stats().disk_kept_bytes == stats.disk_kept_bytes + kMiB);
  tree.clock().advance(kTtl);
  REQUIRE(tree.names().counts().ok());
  CHECK(tree.store().stats().disk_kept_bytes == stats.disk_kept_bytes);
  tree.reopen();
  CHECK(tree.store().stats().disk_kept_bytes == stats.disk_kept_bytes);
  CHECK(tree.names().resolve(blob_path(cached.key))->pinned);
  tree.put(content_of(9 * kMiB / 2, 4));
  CHECK_FALSE(tree.names().resolve(blob_path(fresh.key)).ok());
  CHECK(tree.read(blob_path(cached.key)) == content_of(kMiB, 1));
}

TEST_CASE(
    "upgrade: a store of version 4 takes links and files under writing, and counts as before") {
  TreeFixture tree;
  tree.put("one", "files/d/a");
  tree.put("two", "files/b");
  REQUIRE(tree.names().volumes().create("v", 4096, "files/b", Creator{}).ok());
  tree.close();
  sqlite3* connection = nullptr;
  REQUIRE(sqlite3_open((tree.path() / "catalog.sqlite").c_str(), &connection) == SQLITE_OK);
  char* error = nullptr;
  const int code = sqlite3_exec(connection, kBackTo4, nullptr, nullptr, &error);
  REQUIRE_MESSAGE(code == SQLITE_OK, (error == nullptr ? "" : error));
  REQUIRE(sqlite3_close(connection) == SQLITE_OK);
  REQUIRE(version_of(tree.path() / "catalog.sqlite") == 4);

  tree.open();
  CHECK(version_of(tree.path() / "catalog.sqlite") == kSchemaVersion);
  CHECK(tree.names().counts()->names == 2);
  CHECK(tree.read("files/d/a") == "one");
  CHECK(tree.names().resolve("files/d/a")->settled);
  CHECK(tree.names().volumes().list()->size() == 1);
  NameEditor& editor = tree.names().editor();
  REQUIRE(editor.make_symlink({kFilesNode, "l", 0, 0, 0}, "d/a").ok());
  REQUIRE(editor.link(tree.names().resolve("files/b")->id, kFilesNode, "c").ok());
  CHECK(tree.names().counts()->names == 3);
  REQUIRE(editor.remove_file(kFilesNode, "l").ok());
  REQUIRE(editor.remove_file(kFilesNode, "b").ok());
  CHECK(tree.names().counts()->names == 2);
}

}  // namespace
}  // namespace blobcache::tree
