#include "store/tree/impl/schema.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>

#include "base/status.h"

namespace blobcache::tree {
namespace {

/// "BLBC", in the file's header: tells our databases from anyone else's.
constexpr int64_t kApplicationId = 0x424c4243;

/// Version 1. The totals are kept by triggers, so that no statement can forget them and counting
/// never walks a table. The map comes last in its row: what precedes it is read without its
/// overflow pages.
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

/// Version 2: blobs can be pinned. What expires, and what a collection takes, is found through an
/// index that pinned ones are not in: however many there are, they cost a look-up nothing.
constexpr const char* kVersion2 = R"sql(
ALTER TABLE blob ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
DROP INDEX blob_unnamed;
CREATE INDEX blob_unnamed ON blob (kept, unnamed_since_ns)
  WHERE unnamed_since_ns IS NOT NULL AND pinned = 0;
)sql";

/// Version 3: volumes. A volume's base is held by its row, as by a name. A volume is no blob, so
/// its name is not one of those that `totals` counts.
constexpr const char* kVersion3 = R"sql(
CREATE TABLE volume (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  incarnation BLOB NOT NULL UNIQUE,
  size_bytes INTEGER NOT NULL,
  base INTEGER REFERENCES blob (id),
  created_ns INTEGER NOT NULL
) STRICT;
CREATE INDEX volume_by_base ON volume (base) WHERE base IS NOT NULL;
ALTER TABLE file ADD COLUMN volume INTEGER REFERENCES volume (id);
CREATE INDEX file_by_volume ON file (volume) WHERE volume IS NOT NULL;
)sql";

/// Version 4: a volume may be laid over one version of an origin's file, which is no blob.
constexpr const char* kVersion4 = R"sql(
ALTER TABLE volume ADD COLUMN base_origin BLOB;
ALTER TABLE volume ADD COLUMN base_path BLOB;
ALTER TABLE volume ADD COLUMN base_key BLOB;
)sql";

/// Version 5: files that are written to, whose content is a volume until they have settled, and
/// symbolic links. What is counted as a name is one of a file, whatever its content is at the time.
constexpr const char* kVersion5 = R"sql(
ALTER TABLE file ADD COLUMN target BLOB;
ALTER TABLE file ADD COLUMN length_bytes INTEGER;
DROP TRIGGER dentry_inserted;
CREATE TRIGGER dentry_inserted AFTER INSERT ON dentry
WHEN (SELECT type = 2 FROM file WHERE id = new.file) BEGIN
  UPDATE totals SET names = names + 1;
END;
DROP TRIGGER dentry_deleted;
CREATE TRIGGER dentry_deleted AFTER DELETE ON dentry
WHEN (SELECT type = 2 FROM file WHERE id = old.file) BEGIN
  UPDATE totals SET names = names - 1;
END;
CREATE TRIGGER dentry_pointed AFTER UPDATE OF file ON dentry BEGIN
  UPDATE totals SET names = names + (SELECT type = 2 FROM file WHERE id = new.file)
    - (SELECT type = 2 FROM file WHERE id = old.file);
END;
)sql";

/// The five directories that always are; see node_ids.h. The ids that follow are for what users
/// make.
constexpr const char* kFixedDirectory =
    "INSERT INTO file (id, type, mode, uid, gid, modified_ns, changed_ns) VALUES (?, 1, ?, ?, ?, "
    "?, ?)";
constexpr const char* kFixedDentry =
    "INSERT INTO dentry (id, parent, name, file) VALUES (?, 1, ?, ?)";
constexpr const char* kFirstIds =
    "UPDATE sqlite_sequence SET seq = 15 WHERE name IN ('file', 'dentry')";

struct FixedDirectory {
  int64_t id;
  std::string_view name;
  int64_t mode;
};

constexpr std::array kFixedDirectories = {
    FixedDirectory{1, "", 0755},        FixedDirectory{2, "blobs", 0500},
    FixedDirectory{3, "files", 0755},   FixedDirectory{4, "origins", 0755},
    FixedDirectory{5, "volumes", 0700},
};

absl::Status create_version_1(Database& database) {
  BLOBCACHE_RETURN_IF_ERROR(database.execute(kVersion1));
  const absl::Time now = absl::Now();
  for (const FixedDirectory& directory : kFixedDirectories) {
    Query file = database.query(kFixedDirectory);
    file.bind(directory.id).bind(directory.mode);
    file.bind(int64_t{::geteuid()}).bind(int64_t{::getegid()}).bind(now).bind(now);
    BLOBCACHE_RETURN_IF_ERROR(file.run());
    if (directory.name.empty()) continue;
    Query dentry = database.query(kFixedDentry);
    dentry.bind(directory.id).bind(directory.name).bind(directory.id);
    BLOBCACHE_RETURN_IF_ERROR(dentry.run());
  }
  return database.query(kFirstIds).run();
}

absl::Status add_pins(Database& database) { return database.execute(kVersion2); }

absl::Status add_volumes(Database& database) { return database.execute(kVersion3); }

absl::Status add_origin_bases(Database& database) { return database.execute(kVersion4); }

absl::Status add_writable_files(Database& database) { return database.execute(kVersion5); }

/// kUpgrades[n] brings version n to n + 1.
constexpr std::array kUpgrades = {&create_version_1, &add_pins, &add_volumes, &add_origin_bases,
                                  &add_writable_files};
static_assert(kUpgrades.size() == kSchemaVersion);

absl::StatusOr<int64_t> single_integer(Database& database, const char* sql) {
  Query query = database.query(sql);
  BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
  if (!row) return absl::InternalError(fmt::format("\"{}\" gives no row", sql));
  return query.integer(0);
}

absl::Status apply_upgrades(Database& database, int64_t version) {
  for (int64_t from = version; from < kSchemaVersion; ++from) {
    BLOBCACHE_RETURN_IF_ERROR(kUpgrades.at(static_cast<size_t>(from))(database));
  }
  return database.execute(fmt::format("PRAGMA application_id = {}; PRAGMA user_version = {}",
                                      kApplicationId, kSchemaVersion)
                              .c_str());
}

}  // namespace

absl::StatusOr<int64_t> check_schema(Database& database, const std::filesystem::path& file) {
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t version,
                             single_integer(database, "PRAGMA user_version"));
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t id, single_integer(database, "PRAGMA application_id"));
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t tables,
                             single_integer(database, "SELECT count(*) FROM sqlite_schema"));
  if (id == 0 && version == 0 && tables == 0) return 0;
  if (id != kApplicationId || version < 1) {
    return absl::FailedPreconditionError(
        fmt::format("{}: a database of another program; nothing was changed", file.string()));
  }
  if (version > kSchemaVersion) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: the catalog has version {}, and this program knows versions up to {}; nothing "
        "was changed",
        file.string(), version, kSchemaVersion));
  }
  return version;
}

absl::Status upgrade_schema(Database& database, int64_t version) {
  if (version == kSchemaVersion) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(database.execute("BEGIN IMMEDIATE"));
  absl::Status status = apply_upgrades(database, version);
  if (status.ok()) status = database.execute("COMMIT");
  if (!status.ok() && database.in_transaction()) {
    // The first error is the one to tell; a rollback that fails too is undone when the file is next
    // opened.
    database.execute("ROLLBACK").IgnoreError();
  }
  return status;
}

}  // namespace blobcache::tree
