#include "store/tree/impl/sqlite.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <cassert>
#include <cerrno>
#include <utility>

#include "base/status.h"

namespace blobcache::tree {

Query::Query(Database& database, sqlite3_stmt* statement, absl::Status status)
    : database_(database), statement_(statement), status_(std::move(status)) {
  assert(statement_ == nullptr || sqlite3_stmt_busy(statement_) == 0);
}

Query::~Query() {
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

void Query::note(int code) {
  if (code != SQLITE_OK && status_.ok()) status_ = database_.error(code);
}

Query& Query::bind(int64_t value) {
  if (status_.ok()) note(sqlite3_bind_int64(statement_, next_parameter_++, value));
  return *this;
}

Query& Query::bind(std::string_view bytes) {
  // A null pointer would bind NULL instead of no bytes. No destructor: SQLite borrows the bytes.
  const char* data = bytes.empty() ? "" : bytes.data();
  if (status_.ok()) {
    note(sqlite3_bind_blob64(statement_, next_parameter_++, data, bytes.size(), nullptr));
  }
  return *this;
}

Query& Query::bind(absl::Time time) { return bind(absl::ToUnixNanos(time)); }

Query& Query::bind_null() {
  if (status_.ok()) note(sqlite3_bind_null(statement_, next_parameter_++));
  return *this;
}

absl::StatusOr<bool> Query::step() {
  if (!status_.ok()) return status_;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code == SQLITE_DONE) return false;
  status_ = database_.error(code);
  return status_;
}

absl::Status Query::run() {
  for (;;) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool row, step());
    if (!row) return absl::OkStatus();
  }
}

int64_t Query::integer(int column) const { return sqlite3_column_int64(statement_, column); }

std::string_view Query::bytes(int column) const {
  const void* data = sqlite3_column_blob(statement_, column);
  if (data == nullptr) return {};
  return {static_cast<const char*>(data),
          static_cast<size_t>(sqlite3_column_bytes(statement_, column))};
}

absl::Time Query::time(int column) const { return absl::FromUnixNanos(integer(column)); }

bool Query::is_null(int column) const {
  return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

void Database::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Database::Database(std::filesystem::path file, sqlite3* connection)
    : file_(std::move(file)), connection_(connection) {}

Database::~Database() {
  statements_.clear();
  sqlite3_close(connection_);
}

absl::StatusOr<std::unique_ptr<Database>> Database::open(const std::filesystem::path& file,
                                                         Access access) {
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                    (access == Access::kReadWrite ? SQLITE_OPEN_CREATE : 0);
  sqlite3* connection = nullptr;
  const int code = sqlite3_open_v2(file.c_str(), &connection, flags, nullptr);
  // Even a connection that could not be opened has to be closed, and tells why.
  if (connection == nullptr) return absl::ResourceExhaustedError("no memory for SQLite");
  std::unique_ptr<Database> database(new Database(file, connection));
  if (code != SQLITE_OK) return database->error(code);
  sqlite3_extended_result_codes(connection, 1);
  return database;
}

absl::Status Database::execute(const char* sql) {
  const int code = sqlite3_exec(connection_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : error(code);
}

Query Database::query(const char* sql) {
  auto& statement = statements_[sql];
  absl::Status status;
  if (statement == nullptr) {
    sqlite3_stmt* prepared = nullptr;
    const int code =
        sqlite3_prepare_v3(connection_, sql, -1, SQLITE_PREPARE_PERSISTENT, &prepared, nullptr);
    if (code != SQLITE_OK) status = error(code);
    statement.reset(prepared);
  }
  return Query(*this, statement.get(), std::move(status));
}

int64_t Database::last_insert_id() const { return sqlite3_last_insert_rowid(connection_); }

int64_t Database::changes() const { return sqlite3_changes64(connection_); }

void Database::watch_log(uint32_t checkpoint_frames) {
  checkpoint_frames_ = checkpoint_frames;
  sqlite3_wal_hook(connection_, &Database::on_commit, this);
}

/// What SQLite's own hook does, and what it knows.
int Database::on_commit(void* self, sqlite3* connection, const char* name, int frames) {
  auto* const database = static_cast<Database*>(self);
  database->log_frames_ = static_cast<uint32_t>(frames);
  ++database->log_commits_;
  if (database->log_frames_ >= database->checkpoint_frames_) {
    // What it cannot copy now, as somebody reads it, the next one will; an error shows again,
    // there.
    static_cast<void>(
        sqlite3_wal_checkpoint_v2(connection, name, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr));
  }
  return SQLITE_OK;
}

bool Database::in_transaction() const { return sqlite3_get_autocommit(connection_) == 0; }

absl::Status Database::error(int code) const {
  const std::string file = file_.string();
  const char* why = sqlite3_errmsg(connection_);
  const int system_error = sqlite3_system_errno(connection_);
  switch (code & 0xff) {
    case SQLITE_FULL:
      return absl::ResourceExhaustedError(fmt::format("{}: the disk is full", file));
    case SQLITE_NOMEM:
      return absl::ResourceExhaustedError(fmt::format("{}: no memory", file));
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
      return absl::DataLossError(fmt::format("{}: the catalog is damaged: {}", file, why));
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
      return absl::PermissionDeniedError(fmt::format("{}: cannot be written: {}", file, why));
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
      return absl::UnavailableError(fmt::format("{}: another process holds it locked", file));
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
      if (system_error != 0) {
        return base::errno_error(system_error, fmt::format("{}: {}", file, why));
      }
      return absl::UnavailableError(fmt::format("{}: {}", file, why));
    default:
      return absl::InternalError(fmt::format("{}: {} (SQLite {})", file, why, code));
  }
}

}  // namespace blobcache::tree
