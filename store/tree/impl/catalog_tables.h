#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/tree/impl/description.h"
#include "store/tree/impl/sqlite.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {

/// A row of `blob`. Value type.
struct BlobRow {
  int64_t id = 0;
  page::ObjectKey key;
  page::Incarnation incarnation;
  uint64_t size_bytes = 0;
  uint64_t disk_bytes = 0;
  absl::Time created;
  std::optional<absl::Time> unnamed_since;  ///< absent while a name holds the blob
  page::Retention retention = page::Retention::kKept;
  bool pinned = false;     ///< kept until it is unpinned, with a name or without
  std::string inline_map;  ///< read by the calls that say so, else empty
};

/// What a row of `file` stands for, as its column `type` has it.
enum class FileKind : uint8_t { kDirectory = 1, kFile = 2, kVolume = 3, kSymlink = 4 };

/// A row of `file` with what it needs of its blob or volume. Value type.
struct FileRow {
  int64_t id = 0;
  FileKind kind = FileKind::kFile;
  mode_t mode = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  absl::Time modified;
  absl::Time changed;
  uint32_t links = 0;
  std::optional<int64_t> blob;         ///< a file's content, when it is settled
  std::optional<page::ObjectKey> key;  ///< the blob's
  std::optional<int64_t> volume;       ///< a volume's, or the content of a file under writing
  /// The blob's, the volume's or the target's; of a file under writing as last noted.
  uint64_t size_bytes = 0;
  uint64_t disk_bytes = 0;      ///< the blob's
  bool pinned = false;          ///< the blob is
  std::optional<int64_t> base;  ///< the blob that `volume` is laid over
  std::string target;           ///< what a symbolic link says

  /// A file whose content is a volume until it has settled into a blob.
  [[nodiscard]] bool is_under_writing() const {
    return kind == FileKind::kFile && !blob && volume.has_value();
  }
  /// The blob that a file's names are told of: its content or, of one under writing, what it was
  /// before, so that this comes back if the catalog is lost.
  [[nodiscard]] std::optional<int64_t> described_blob() const {
    if (kind != FileKind::kFile) return std::nullopt;
    return blob ? blob : base;
  }
};

/// An origin's file that a volume is laid over. Value type.
struct OriginBase {
  std::string origin;   ///< its name
  std::string path;     ///< in the origin
  page::ObjectKey key;  ///< of the version
};

/// A row of `volume`. Value type.
struct VolumeRow {
  int64_t id = 0;
  page::Incarnation incarnation;  ///< names its folder
  uint64_t size_bytes = 0;
  std::optional<int64_t> base;            ///< a row of `blob`, held as by a name
  std::optional<OriginBase> origin_base;  ///< instead
  absl::Time created;
};

/// A row of `dentry` with its file. Value type.
struct EntryRow {
  int64_t id = 0;
  std::string name;
  FileRow file;
};

/// A row of `dentry` alone. Value type.
struct LinkRow {
  int64_t id = 0;
  int64_t parent = 0;
  std::string name;
};

/// Where a walk of the blobs without a name stands: after this one. Value type.
struct UnnamedCursor {
  absl::Time since = absl::InfinitePast();
  int64_t blob = 0;
};

/// Where a walk of a blob's names stands: after this one. Value type.
struct NameCursor {
  int64_t file = 0;
  int64_t entry = 0;

  friend bool operator==(const NameCursor&, const NameCursor&) = default;
};

/// The one row of `totals`. Value type.
struct Totals {
  uint64_t blobs = 0;
  uint64_t blob_bytes = 0;
  uint64_t unnamed_blobs = 0;
  uint64_t kept_disk_bytes = 0;
  uint64_t cached_disk_bytes = 0;
  uint64_t names = 0;
};

/// Looks into the catalog through one connection. Every call is a seek or a short walk of an index,
/// never a scan of a table. What is not there is nullopt; errors are the database's. One thread at
/// a time.
class CatalogReader {
 public:
  explicit CatalogReader(Database& database) : database_(database) {}

  [[nodiscard]] absl::StatusOr<std::optional<EntryRow>> find_entry(int64_t parent,
                                                                   std::string_view name);
  [[nodiscard]] absl::StatusOr<std::optional<FileRow>> find_file(int64_t file);
  /// Entries of `parent` in the order of their ids, from the first one whose id is above `after`.
  [[nodiscard]] absl::StatusOr<std::vector<EntryRow>> list_entries(int64_t parent, int64_t after,
                                                                   size_t limit);
  [[nodiscard]] absl::StatusOr<bool> has_entries(int64_t parent);
  /// Entries that name `file`, in the order of their ids, from the first one above `after`.
  [[nodiscard]] absl::StatusOr<std::vector<LinkRow>> list_links(int64_t file, int64_t after,
                                                                size_t limit);
  /// Where a directory is: the one that it is in; nullopt for the root and for what is not there.
  [[nodiscard]] absl::StatusOr<std::optional<int64_t>> parent_of(int64_t directory);
  /// The path of an entry from the root, "files/a/b". nullopt when it is longer than kMaxPathBytes:
  /// a file system has such names, and nobody can say them in one piece. DATA_LOSS when the
  /// catalog's directories lead nowhere.
  [[nodiscard]] absl::StatusOr<std::optional<std::string>> path_of_entry(int64_t parent,
                                                                         std::string_view name);
  /// A path of a name or volume that holds `blob`, "files/a/b"; nullopt when there is none.
  [[nodiscard]] absl::StatusOr<std::optional<std::string>> path_of_blob(int64_t blob);

  /// The names of files whose described_blob() is `blob`, those that were bound first going first:
  /// those among the `limit` next ones after `after` that have a path. `after` moves on to the last
  /// one that was looked at, and stays when there are no more.
  [[nodiscard]] absl::StatusOr<std::vector<DescribedName>> names_of_blob(int64_t blob,
                                                                         NameCursor& after,
                                                                         size_t limit);

  /// Without its map.
  [[nodiscard]] absl::StatusOr<std::optional<BlobRow>> find_blob(const page::ObjectKey& key);
  [[nodiscard]] absl::StatusOr<std::optional<BlobRow>> find_blob_by_id(int64_t blob);
  /// With its map.
  [[nodiscard]] absl::StatusOr<std::optional<BlobRow>> load_blob(int64_t blob);
  [[nodiscard]] absl::StatusOr<std::optional<BlobRow>> load_blob_of_file(int64_t file);
  /// In the order of their ids, from the first one above `after`; without maps.
  [[nodiscard]] absl::StatusOr<std::vector<BlobRow>> list_blobs(int64_t after, size_t limit);
  /// Cached blobs that take disk space, those that lost their last name first going first, from the
  /// first one after `after`; without maps.
  [[nodiscard]] absl::StatusOr<std::vector<BlobRow>> oldest_cached(const UnnamedCursor& after,
                                                                   size_t limit);
  /// Blobs, not pinned, that have had no name since `before` or longer, those that lost it first
  /// going first, from the first one after `after`; without maps.
  [[nodiscard]] absl::StatusOr<std::vector<BlobRow>> list_unnamed(page::Retention retention,
                                                                  const UnnamedCursor& after,
                                                                  absl::Time before, size_t limit);
  /// The highest id of a blob; 0 when there is none.
  [[nodiscard]] absl::StatusOr<int64_t> newest_blob();
  /// Whether a kept blob that is not pinned has had no name since `before` or longer.
  [[nodiscard]] absl::StatusOr<bool> any_expired(absl::Time before);

  [[nodiscard]] absl::StatusOr<std::optional<VolumeRow>> find_volume(int64_t volume);
  [[nodiscard]] absl::StatusOr<bool> has_volume(const page::Incarnation& incarnation);
  /// Those under volumes/ in the order of their ids, from the first one above `after`.
  [[nodiscard]] absl::StatusOr<std::vector<VolumeRow>> list_volumes(int64_t after, size_t limit);

  /// The ids of files under writing, in their order, from the first one above `after`. Walks all of
  /// them.
  [[nodiscard]] absl::StatusOr<std::vector<int64_t>> list_written_files(int64_t after,
                                                                        size_t limit);

  [[nodiscard]] absl::StatusOr<Totals> totals();

  /// Reads the whole catalog: DATA_LOSS, with what is wrong first, when its file is damaged. Slow.
  [[nodiscard]] absl::Status check();

 protected:
  Database& database_;
};

/// Changes the catalog inside the transaction that WriteQueue has begun. One call keeps the tables
/// in step with one another only as far as it says; tree_edit.h has the whole steps.
class CatalogWriter : public CatalogReader {
 public:
  using CatalogReader::CatalogReader;

  /// `row.id` is ignored; returns the new one.
  [[nodiscard]] absl::StatusOr<int64_t> insert_blob(const BlobRow& row);
  /// The blob's content is in other files from now on: takes the row's incarnation, sizes, map and
  /// retention.
  [[nodiscard]] absl::Status replace_copy(const BlobRow& row);
  [[nodiscard]] absl::Status set_retention(int64_t blob, std::optional<absl::Time> unnamed_since,
                                           page::Retention retention);
  [[nodiscard]] absl::Status set_pinned(int64_t blob, bool pinned);
  /// Whether a name or a volume holds it.
  [[nodiscard]] absl::StatusOr<bool> is_named(int64_t blob);
  [[nodiscard]] absl::Status delete_blob(int64_t blob);
  /// Makes every kept blob that is not pinned and has had no name since `before` or longer cached.
  /// Returns their disk bytes.
  [[nodiscard]] absl::StatusOr<uint64_t> expire(absl::Time before);

  /// `row.id` is ignored; returns the new one.
  [[nodiscard]] absl::StatusOr<int64_t> insert_volume(const VolumeRow& row);
  [[nodiscard]] absl::Status resize_volume(int64_t volume, uint64_t size_bytes);
  [[nodiscard]] absl::Status delete_volume(int64_t volume);

  /// `row.id` and `row.links` are ignored; returns the new id.
  [[nodiscard]] absl::StatusOr<int64_t> insert_file(const FileRow& row);
  [[nodiscard]] absl::Status delete_file(int64_t file);
  /// A directory's names changed.
  [[nodiscard]] absl::Status touch(int64_t file, absl::Time now);
  /// A file's names changed, but not its content.
  [[nodiscard]] absl::Status touch_changed(int64_t file, absl::Time now);
  /// Takes the row's mode, owner and times.
  [[nodiscard]] absl::Status set_attributes(const FileRow& row);
  /// Takes the row's blob, volume and modified time and, of one under writing, its size.
  [[nodiscard]] absl::Status set_content(const FileRow& row);

  [[nodiscard]] absl::Status insert_entry(int64_t parent, std::string_view name, int64_t file);
  /// The entry keeps its id, and with it its place in a walk.
  [[nodiscard]] absl::Status point_entry(int64_t entry, int64_t file);
  /// To another directory or name; as point_entry().
  [[nodiscard]] absl::Status move_entry(int64_t entry, int64_t parent, std::string_view name);
  [[nodiscard]] absl::Status delete_entry(int64_t entry);
};

}  // namespace blobcache::tree
