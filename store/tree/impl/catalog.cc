#include "store/tree/impl/catalog.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/status.h"
#include "base/unique_fd.h"
#include "store/tree/impl/schema.h"
#include "store/tree/impl/wal_check.h"

namespace blobcache::tree {
namespace {

/// synchronous=FULL syncs the write-ahead log at every commit: what was answered survives a power
/// cut.
constexpr const char* kWriterSettings =
    "PRAGMA synchronous = FULL;"
    "PRAGMA foreign_keys = ON;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA cache_size = -16384;"
    "PRAGMA journal_size_limit = 67108864";
/// 16 MiB of the log, which some seven hundred changes of names fill: a checkpoint syncs the log
/// and the database, and changes that need no sync wait for it.
constexpr uint32_t kCheckpointFrames = 4000;
/// The file is read, not mapped: a bad sector under a mapping is a SIGBUS, and here it is an error.
constexpr const char* kReaderSettings =
    "PRAGMA query_only = ON;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA cache_size = -8192";
/// Only a tool from outside (the sqlite3 shell, a backup) can be in the way at all.
constexpr const char* kPatience = "PRAGMA busy_timeout = 10000";

/// SQLite checks a page when it needs it; the root pages of all tables are needed here.
absl::Status refuse_damaged(const absl::Status& status) {
  if (!absl::IsDataLoss(status)) return status;
  return base::error(status.code(),
                     fmt::format("{}; nothing was changed; \"blobcached --rebuild\" makes it again "
                                 "from the blobs' files",
                                 base::message(status)));
}

absl::Status distrust(const std::filesystem::path& file, std::string_view why) {
  return absl::DataLossError(fmt::format(
      "{}: {}: names and blobs may be missing, so no file that it does not know is "
      "removed; stop the daemon, move the catalog away and run \"blobcached --rebuild\", "
      "which makes it again from the blobs' files",
      file.string(), why));
}

absl::StatusOr<bool> has_files(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(directory, error);
  if (error == std::errc::no_such_file_or_directory) return false;
  for (; !error && entry != std::filesystem::recursive_directory_iterator();
       entry.increment(error)) {
    if (!entry->is_directory(error)) return true;
  }
  if (error) return base::errno_error(error.value(), directory.string());
  return false;
}

absl::Status refuse_lost_catalog(const std::filesystem::path& file,
                                 const std::filesystem::path& objects) {
  for (const auto& [folder, what] :
       {std::pair(objects, "objects"), std::pair(file.parent_path() / "volumes", "volumes")}) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool without_catalog, has_files(folder));
    if (!without_catalog) continue;
    return absl::DataLossError(fmt::format(
        "{}: the catalog is missing or empty, but {} holds {} that would be removed with "
        "it; bring the catalog back, make it again from them with \"blobcached --rebuild\", or "
        "move that directory away to begin anew; nothing was changed",
        file.string(), folder.string(), what));
  }
  return absl::OkStatus();
}

/// A catalog that a rebuild has made has no log yet.
absl::StatusOr<bool> has_write_ahead_log(Database& database) {
  Query query = database.query("PRAGMA journal_mode");
  BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
  return row && query.bytes(0) == "wal";
}

absl::Status use_write_ahead_log(Database& database, const std::filesystem::path& file) {
  Query query = database.query("PRAGMA journal_mode = WAL");
  BLOBCACHE_ASSIGN_OR_RETURN(const bool row, query.step());
  if (row && query.bytes(0) == "wal") return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format(
      "{}: the file system cannot hold a write-ahead log with shared memory", file.string()));
}

/// A new file's name is durable only when its directory is.
absl::Status sync_directory(const std::filesystem::path& directory) {
  const base::UniqueFd fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return base::errno_error(errno, directory.string());
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Database>> open_writer(const std::filesystem::path& file,
                                                      const std::filesystem::path& objects,
                                                      bool& was_closed) {
  std::error_code error;
  // SQLite removes the log when the last connection closes.
  was_closed = !std::filesystem::exists(file.string() + "-wal", error);
  const bool absent = !std::filesystem::exists(file, error);
  if (absent) BLOBCACHE_RETURN_IF_ERROR(refuse_lost_catalog(file, objects));
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<Database> database,
                             Database::open(file, Database::Access::kReadWrite));
  BLOBCACHE_RETURN_IF_ERROR(database->execute(kPatience));
  const absl::StatusOr<int64_t> version = check_schema(*database, file);
  BLOBCACHE_RETURN_IF_ERROR(refuse_damaged(version.status()));
  if (*version == 0) BLOBCACHE_RETURN_IF_ERROR(refuse_lost_catalog(file, objects));
  BLOBCACHE_ASSIGN_OR_RETURN(const bool has_log, has_write_ahead_log(*database));
  was_closed = was_closed && (has_log || *version == 0);
  BLOBCACHE_RETURN_IF_ERROR(use_write_ahead_log(*database, file));
  BLOBCACHE_RETURN_IF_ERROR(database->execute(kWriterSettings));
  database->watch_log(kCheckpointFrames);
  BLOBCACHE_RETURN_IF_ERROR(upgrade_schema(*database, *version));
  if (absent) BLOBCACHE_RETURN_IF_ERROR(sync_directory(file.parent_path()));
  BLOBCACHE_RETURN_IF_ERROR(refuse_damaged(CatalogReader(*database).totals().status()));
  return database;
}

}  // namespace

Catalog::Lease::Lease(Catalog& catalog, std::unique_ptr<Database> database)
    : catalog_(catalog), database_(std::move(database)), reader_(*database_) {}

Catalog::Lease::~Lease() {
  if (frozen_ && database_->in_transaction()) {
    const absl::Status status = database_->execute("COMMIT");
    if (!status.ok()) spdlog::error("catalog: ending a read: {}", base::message(status));
  }
  catalog_.give_back(std::move(database_));
}

absl::Status Catalog::Lease::freeze() {
  frozen_ = true;
  return database_->execute("BEGIN");
}

Catalog::Catalog(std::unique_ptr<Database> writer, std::unique_ptr<CatalogLog> log,
                 WriteQueue::SyncObjects sync_objects, std::filesystem::path file, bool was_closed)
    : file_(std::move(file)),
      writer_(std::move(writer)),
      log_(std::move(log)),
      queue_(*writer_, std::move(sync_objects), log_.get()),
      was_closed_(was_closed) {}

absl::StatusOr<std::unique_ptr<Catalog>> Catalog::open(const std::filesystem::path& file,
                                                       const std::filesystem::path& objects,
                                                       WriteQueue::SyncObjects sync_objects,
                                                       bool ended_cleanly) {
  const std::filesystem::path log_file = file.string() + "-wal";
  const std::filesystem::path mark = file.string() + "-synced";
  const WalState log = inspect_wal(log_file, CatalogLog::read_mark(mark));
  bool was_closed = false;
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<Database> writer,
                             open_writer(file, objects, was_closed));
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<CatalogLog> open_log,
                             CatalogLog::open(log_file, mark));
  std::unique_ptr<Catalog> catalog(new Catalog(std::move(writer), std::move(open_log),
                                               std::move(sync_objects), file, was_closed));
  // SQLite removes its log when it is closed, and only then.
  if (log == WalState::kDamaged || (log == WalState::kAbsent && !ended_cleanly)) {
    const absl::MutexLock lock(&catalog->vouch_mutex_);
    catalog->vouched_ = distrust(file, log == WalState::kDamaged
                                           ? "its write-ahead log is damaged"
                                           : "its write-ahead log is gone, and it was not closed");
    spdlog::error("{}", base::message(*catalog->vouched_));
  }
  for (size_t i = 0; i < kReaders; ++i) {
    BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<Database> reader,
                               Database::open(file, Database::Access::kRead));
    BLOBCACHE_RETURN_IF_ERROR(reader->execute(kPatience));
    BLOBCACHE_RETURN_IF_ERROR(reader->execute(kReaderSettings));
    catalog->give_back(std::move(reader));
  }
  return catalog;
}

absl::Status Catalog::vouch() {
  const absl::MutexLock lock(&vouch_mutex_);
  if (!vouched_) {
    const absl::Status status = read()->check();
    if (!status.ok() && !absl::IsDataLoss(status)) return status;
    vouched_ = status.ok() ? status : distrust(file_, base::message(status));
    if (!status.ok()) spdlog::error("{}", base::message(*vouched_));
  }
  return *vouched_;
}

Catalog::Lease Catalog::read() {
  const absl::MutexLock lock(&mutex_);
  const auto any_idle = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !idle_readers_.empty();
  };
  mutex_.Await(absl::Condition(&any_idle));
  // The last one to come back is the first one to go: its cache is the warmest.
  std::unique_ptr<Database> database = std::move(idle_readers_.back());
  idle_readers_.pop_back();
  return Lease(*this, std::move(database));
}

void Catalog::give_back(std::unique_ptr<Database> database) {
  const absl::MutexLock lock(&mutex_);
  idle_readers_.push_back(std::move(database));
}

absl::Status Catalog::write(WriteQueue::Apply apply, WriteQueue::Committed committed,
                            page::ObjectWriter* object, Durability durability) {
  return queue_.run(apply, committed, object, durability);
}

}  // namespace blobcache::tree
