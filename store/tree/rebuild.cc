#include "store/tree/rebuild.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "store/page/salvage.h"
#include "store/tree/digest.h"
#include "store/tree/impl/catalog_tables.h"
#include "store/tree/impl/description.h"
#include "store/tree/impl/file_salvage.h"
#include "store/tree/impl/schema.h"
#include "store/tree/impl/sqlite.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/impl/volume_salvage.h"
#include "store/tree/path.h"
#include "store/tree/store_lock.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

/// What else SQLite keeps beside a database.
constexpr std::array kCompanions = {"-wal", "-shm", "-journal"};

/// Nobody sees the new file before it is whole and synced, so it needs no syncs on the way; the
/// journal is for the savepoints.
constexpr const char* kRebuildSettings =
    "PRAGMA journal_mode = MEMORY;"
    "PRAGMA synchronous = OFF;"
    "PRAGMA foreign_keys = ON;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA cache_size = -65536";
constexpr const char* kSetMode = "UPDATE file SET mode = ? WHERE id = ?";
constexpr const char* kKeepUnnamed =
    "UPDATE blob SET unnamed_since_ns = ?, kept = 1 WHERE unnamed_since_ns IS NOT NULL";

/// Reads the whole catalog. DATA_LOSS when it is damaged, OK when it is whole.
absl::Status check_catalog(Database& database, const fs::path& file) {
  BLOBCACHE_RETURN_IF_ERROR(database.execute("PRAGMA busy_timeout = 10000"));
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t version, check_schema(database, file));
  if (version == 0) return absl::DataLossError("the catalog is empty");
  BLOBCACHE_RETURN_IF_ERROR(CatalogReader(database).check());
  const absl::Status status = CatalogReader(database).totals().status();
  // A table that is gone.
  if (absl::IsInternal(status)) {
    return base::error(absl::StatusCode::kDataLoss, base::message(status));
  }
  return status;
}

/// OK when there is no catalog, or one that is damaged or empty.
absl::Status refuse_whole_catalog(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) return absl::OkStatus();
  absl::Status status;
  {
    absl::StatusOr<std::unique_ptr<Database>> database =
        Database::open(file, Database::Access::kRead);
    status = database.ok() ? check_catalog(**database, file) : database.status();
  }
  if (absl::IsDataLoss(status)) return absl::OkStatus();
  if (!status.ok()) return status;
  return absl::FailedPreconditionError(fmt::format(
      "{}: the catalog is whole, and knows more than the blobs' files do; to make it again all the "
      "same, move it and its -wal and -shm away first; nothing was changed",
      file.string()));
}

absl::Status rename_file(const fs::path& from, const fs::path& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return base::errno_error(errno, from.string());
}

/// Everything on the store's file system, that is: the new catalog and the names of what was
/// renamed.
absl::Status sync_store(const fs::path& store) {
  const base::UniqueFd fd(::open(store.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::syncfs(fd.get()) != 0) return base::errno_error(errno, store.string());
  return absl::OkStatus();
}

/// "catalog.sqlite.damaged-20261124T195500Z", with a number where that is taken.
fs::path name_for_damaged(const fs::path& file, absl::Time now) {
  const std::string stem = fmt::format(
      "{}.damaged-{}", file.string(), absl::FormatTime("%Y%m%dT%H%M%SZ", now, absl::UTCTimeZone()));
  fs::path name = stem;
  std::error_code error;
  for (int n = 2; fs::exists(name, error); ++n) name = fmt::format("{}-{}", stem, n);
  return name;
}

/// Puts the new catalog in the old one's place. The old one goes first, whole: a stop in between
/// leaves no catalog, with which no daemon starts, rather than two halves.
absl::Status replace_catalog(const fs::path& made, const fs::path& file, absl::Time now,
                             RebuildSummary& summary) {
  std::error_code error;
  const fs::path aside = name_for_damaged(file, now);
  if (fs::exists(file, error)) {
    BLOBCACHE_RETURN_IF_ERROR(rename_file(file, aside));
    summary.set_aside = aside;
  }
  for (const char* suffix : kCompanions) {
    const fs::path companion = file.string() + suffix;
    if (!fs::exists(companion, error)) continue;
    BLOBCACHE_RETURN_IF_ERROR(rename_file(companion, aside.string() + suffix));
  }
  BLOBCACHE_RETURN_IF_ERROR(sync_store(file.parent_path()));
  BLOBCACHE_RETURN_IF_ERROR(rename_file(made, file));
  return sync_store(file.parent_path());
}

absl::StatusOr<Description> read_attribute(const page::StoredFile& file,
                                           const page::SalvagedObject& object) {
  if (!object.description) return absl::DataLossError("its file has no description");
  BLOBCACHE_ASSIGN_OR_RETURN(Description description, parse_description(*object.description));
  if (description.key != file.key || description.size_bytes != object.size_bytes) {
    return absl::DataLossError("its description is another blob's");
  }
  return description;
}

/// Fills an empty catalog from the files. One rebuild each.
class Rebuild {
 public:
  Rebuild(const RebuildOptions& options, Database& database)
      : options_(options),
        now_(options.clock ? options.clock() : absl::Now()),
        database_(database),
        catalog_(database),
        volumes_(options.path, catalog_, now_, options.report),
        files_(options.path, catalog_, now_, options.report) {}

  [[nodiscard]] absl::Status fill();
  /// Gives the files the names that tell of what fill() found; not synced.
  [[nodiscard]] absl::Status rename_files();
  [[nodiscard]] const RebuildSummary& summary() const { return summary_; }

 private:
  struct Claim {
    int64_t blob;
    DescribedName name;
  };
  struct LostNames {
    int64_t blob;
    page::ObjectKey key;
    std::string what;
    bool without_file;  ///< there are more names, in a names file that is not there
  };
  struct Damaged {
    page::StoredFile file;
    absl::Status why;
  };

  [[nodiscard]] absl::Status take(const page::StoredFile& file);
  [[nodiscard]] absl::StatusOr<int64_t> add_blob(const page::StoredFile& file,
                                                 page::SalvagedObject& object);
  void take_names(const page::StoredFile& file, const page::SalvagedObject& object, int64_t blob);
  void report_lost_names();
  [[nodiscard]] absl::Status bind_names();
  [[nodiscard]] absl::Status bind_one(const Claim& claim);
  [[nodiscard]] absl::Status set_pins();
  [[nodiscard]] absl::Status report_damaged();
  void report(const page::ObjectKey& key, std::string_view what) const {
    options_.report(fmt::format("blobs/{}: {}", key.hex(), what));
  }

  const RebuildOptions& options_;
  const absl::Time now_;
  Database& database_;
  CatalogWriter catalog_;
  VolumeSalvage volumes_;
  FileSalvage files_;
  RebuildSummary summary_;
  std::vector<Claim> claims_;
  absl::flat_hash_set<int64_t> pinned_;
  std::vector<LostNames> lost_names_;
  absl::flat_hash_set<int64_t> with_names_file_;  ///< blobs of which one was whole
  std::vector<Damaged> damaged_;
  std::vector<page::StoredFile> returning_;
};

absl::Status Rebuild::fill() {
  BLOBCACHE_RETURN_IF_ERROR(database_.execute(kRebuildSettings));
  BLOBCACHE_RETURN_IF_ERROR(upgrade_schema(database_, 0));
  BLOBCACHE_RETURN_IF_ERROR(database_.execute("BEGIN IMMEDIATE"));
  BLOBCACHE_RETURN_IF_ERROR(page::for_each_stored_file(
      options_.path, [this](const page::StoredFile& file) { return take(file); }));
  report_lost_names();
  BLOBCACHE_RETURN_IF_ERROR(bind_names());
  BLOBCACHE_RETURN_IF_ERROR(set_pins());
  BLOBCACHE_RETURN_IF_ERROR(volumes_.fill());
  BLOBCACHE_RETURN_IF_ERROR(files_.fill());
  {
    Query query = database_.query(kKeepUnnamed);
    query.bind(now_);
    BLOBCACHE_RETURN_IF_ERROR(query.run());
  }
  BLOBCACHE_RETURN_IF_ERROR(report_damaged());
  BLOBCACHE_ASSIGN_OR_RETURN(const Totals totals, catalog_.totals());
  summary_.blobs = totals.blobs;
  summary_.blob_bytes = totals.blob_bytes;
  summary_.names = totals.names;
  return database_.execute("COMMIT");
}

absl::Status Rebuild::take(const page::StoredFile& file) {
  absl::StatusOr<page::SalvagedObject> object =
      page::salvage(file, [] { return std::make_unique<Sha256>(); });
  if (!object.ok()) {
    damaged_.push_back({file, object.status()});
    return absl::OkStatus();
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t blob, add_blob(file, *object));
  take_names(file, *object, blob);
  return absl::OkStatus();
}

/// A blob may have two files: a kill came between the commit of a new copy and the removal of the
/// old one, or before that commit. Both hold the same bytes; the next start removes the other.
absl::StatusOr<int64_t> Rebuild::add_blob(const page::StoredFile& file,
                                          page::SalvagedObject& object) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> known, catalog_.find_blob(file.key));
  if (known) return known->id;
  if (file.set_aside) returning_.push_back(file);
  BlobRow blob;
  blob.key = file.key;
  blob.incarnation = file.incarnation;
  blob.size_bytes = object.size_bytes;
  blob.disk_bytes = object.disk_bytes;
  blob.created = object.modified;
  blob.unnamed_since = now_;
  blob.inline_map = std::move(object.inline_map);
  return catalog_.insert_blob(blob);
}

/// The attribute is enough if it says so. Else the names file has the say, and if that is not
/// whole, what can be had of both is taken.
void Rebuild::take_names(const page::StoredFile& file, const page::SalvagedObject& object,
                         int64_t blob) {
  const absl::StatusOr<Description> attribute = read_attribute(file, object);
  if (attribute.ok()) {
    if (attribute->pinned) pinned_.insert(blob);
    for (const DescribedName& name : attribute->names) claims_.push_back({blob, name});
    if (!attribute->more_names) return;
  }
  NameReplay replay;
  absl::Status whole =
      page::read_names(file, [&](std::string_view record) { replay.take(record); });
  if (whole.ok() && !replay.whole()) {
    whole = absl::DataLossError("it has a line that this program does not know");
  }
  if (replay.pinned()) pinned_.insert(blob);
  for (const auto& [path, name] : replay.names()) claims_.push_back({blob, name});
  // Beside names in the attribute it is left from before an older version wrote these.
  if (whole.ok() && (!attribute.ok() || attribute->names.empty())) {
    with_names_file_.insert(blob);
    return;
  }
  LostNames lost{blob, file.key, {}, attribute.ok() && absl::IsNotFound(whole)};
  if (!attribute.ok() && absl::IsNotFound(whole)) {
    lost.what =
        fmt::format("its names, if it had any, are lost: {}", base::message(attribute.status()));
  } else {
    const size_t known = replay.names().size() + (attribute.ok() ? attribute->names.size() : 0);
    lost.what = fmt::format("it had more names than its files tell; {} are known", known);
    if (!whole.ok() && !lost.without_file) {
      lost.what += fmt::format("; its names file: {}", base::message(whole));
    }
  }
  lost_names_.push_back(std::move(lost));
}

/// A kill while a new copy takes over the names file leaves one of the two without.
void Rebuild::report_lost_names() {
  for (const LostNames& lost : lost_names_) {
    if (lost.without_file && with_names_file_.contains(lost.blob)) continue;
    ++summary_.names_lost;
    report(lost.key, lost.what);
  }
}

/// In the order in which they were bound, so that a name that two blobs claim (a kill came before
/// one was told that it had lost it) means what it meant last, and a directory belongs to who made
/// its first name.
absl::Status Rebuild::bind_names() {
  std::sort(claims_.begin(), claims_.end(), [](const Claim& a, const Claim& b) {
    return std::tie(a.name.modified, a.name.path, a.blob) <
           std::tie(b.name.modified, b.name.path, b.blob);
  });
  for (const Claim& claim : claims_) {
    BLOBCACHE_RETURN_IF_ERROR(database_.execute("SAVEPOINT one"));
    const absl::Status bound = bind_one(claim);
    if (!database_.in_transaction()) return bound;
    if (bound.ok()) {
      BLOBCACHE_RETURN_IF_ERROR(database_.execute("RELEASE one"));
      continue;
    }
    BLOBCACHE_RETURN_IF_ERROR(database_.execute("ROLLBACK TO one; RELEASE one"));
    // Names that cannot be together: one of them is of another time.
    if (!absl::IsFailedPrecondition(bound)) return bound;
    ++summary_.names_lost;
    options_.report(
        fmt::format("{}: not bound: {}", printable(claim.name.path), base::message(bound)));
  }
  return absl::OkStatus();
}

absl::Status Rebuild::bind_one(const Claim& claim) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> blob,
                             catalog_.find_blob_by_id(claim.blob));
  if (!blob) return absl::InternalError("a blob that was entered is not there");
  BLOBCACHE_ASSIGN_OR_RETURN(const PathNames path, split_path(claim.name.path));
  const Creator creator{claim.name.uid, claim.name.gid, MayReplace::kAll};
  Effects effects;
  BLOBCACHE_ASSIGN_OR_RETURN(
      const FileRow row, bind_path(catalog_, path, *blob, creator, claim.name.modified, effects));
  Query query = database_.query(kSetMode);
  query.bind(int64_t{claim.name.mode}).bind(row.id);
  return query.run();
}

absl::Status Rebuild::set_pins() {
  for (const int64_t blob : pinned_) {
    BLOBCACHE_RETURN_IF_ERROR(catalog_.set_pinned(blob, true));
  }
  return absl::OkStatus();
}

/// A damaged file is no loss when another one holds the same blob.
absl::Status Rebuild::report_damaged() {
  std::vector<Damaged> lost;
  for (Damaged& damaged : damaged_) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> blob,
                               catalog_.find_blob(damaged.file.key));
    if (blob) continue;
    report(damaged.file.key,
           fmt::format("left out: {}; its file stays as {}{}", base::message(damaged.why),
                       damaged.file.path.string(), damaged.file.set_aside ? "" : ".damaged"));
    lost.push_back(std::move(damaged));
  }
  damaged_ = std::move(lost);
  summary_.left_out = damaged_.size() + volumes_.left_out() + files_.left_out();
  summary_.names_lost += files_.found();
  return absl::OkStatus();
}

absl::Status Rebuild::rename_files() {
  for (const Damaged& damaged : damaged_) {
    BLOBCACHE_RETURN_IF_ERROR(page::set_aside(damaged.file));
  }
  for (const page::StoredFile& file : returning_) {
    BLOBCACHE_RETURN_IF_ERROR(page::bring_back(file));
  }
  BLOBCACHE_RETURN_IF_ERROR(volumes_.set_aside());
  return files_.set_aside();
}

void remove_database(const fs::path& file) {
  std::error_code ignored;
  fs::remove(file, ignored);
  for (const char* suffix : kCompanions) fs::remove(file.string() + suffix, ignored);
}

absl::StatusOr<RebuildSummary> rebuild_into(const RebuildOptions& options, const fs::path& made,
                                            const fs::path& file) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<Database> database,
                             Database::open(made, Database::Access::kReadWrite));
  Rebuild rebuild(options, *database);
  BLOBCACHE_RETURN_IF_ERROR(rebuild.fill());
  RebuildSummary summary = rebuild.summary();
  BLOBCACHE_RETURN_IF_ERROR(rebuild.rename_files());
  database = nullptr;
  BLOBCACHE_RETURN_IF_ERROR(sync_store(options.path));
  const absl::Time now = options.clock ? options.clock() : absl::Now();
  BLOBCACHE_RETURN_IF_ERROR(replace_catalog(made, file, now, summary));
  return summary;
}

}  // namespace

absl::StatusOr<RebuildSummary> rebuild_catalog(const RebuildOptions& options) {
  std::error_code error;
  if (!fs::is_directory(options.path / "objects", error)) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: there is no store here: it has no directory objects/", options.path.string()));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::shared_ptr<StoreLock> lock,
                             StoreLock::acquire(options.path));
  const fs::path file = options.path / "catalog.sqlite";
  BLOBCACHE_RETURN_IF_ERROR(refuse_whole_catalog(file));
  const fs::path made = options.path / "catalog.sqlite.rebuilding";
  remove_database(made);
  absl::StatusOr<RebuildSummary> summary = rebuild_into(options, made, file);
  if (!summary.ok()) remove_database(made);
  return summary;
}

}  // namespace blobcache::tree
