#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

struct sqlite3;
struct sqlite3_stmt;

namespace blobcache::tree {

class Database;

/// One run of a prepared statement: bind in order, step, read columns. It resets the statement when
/// it is destroyed, so that no read transaction outlives it. Bound bytes and read columns are
/// borrowed: the former must live until the last step, the latter are valid until the next one.
/// Errors of preparing and binding show at the first step.
class Query {
 public:
  Query(Database& database, sqlite3_stmt* statement, absl::Status status);
  ~Query();
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  Query& bind(int64_t value);
  Query& bind(std::string_view bytes);  ///< as a BLOB, also when empty
  Query& bind(absl::Time time);         ///< as nanoseconds since 1970
  Query& bind_null();

  /// True: a row is there. False: that was all.
  [[nodiscard]] absl::StatusOr<bool> step();
  /// Steps to the end; rows are dropped.
  [[nodiscard]] absl::Status run();

  [[nodiscard]] int64_t integer(int column) const;
  [[nodiscard]] std::string_view bytes(int column) const;
  [[nodiscard]] absl::Time time(int column) const;
  [[nodiscard]] bool is_null(int column) const;

 private:
  void note(int code);

  Database& database_;
  sqlite3_stmt* statement_;
  absl::Status status_;
  int next_parameter_ = 1;
};

/// One SQLite connection with its prepared statements. One thread at a time. This and Query are the
/// only places that call SQLite: its error codes become statuses here and nowhere else.
class Database {
 public:
  enum class Access : uint8_t {
    kReadWrite,  ///< the file is made when it is absent
    kRead,
  };

  /// The connection alone: nothing is read or written, so a damaged file shows at the first
  /// statement.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Database>> open(
      const std::filesystem::path& file, Access access);
  ~Database();
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  /// Runs statements that give no rows that matter, separated by semicolons.
  [[nodiscard]] absl::Status execute(const char* sql);

  /// `sql` must be a literal: the prepared statement is kept under its address. A statement runs
  /// once at a time; the Query before must be gone.
  [[nodiscard]] Query query(const char* sql);

  [[nodiscard]] int64_t last_insert_id() const;
  /// Rows that the last INSERT, UPDATE or DELETE touched.
  [[nodiscard]] int64_t changes() const;
  /// Counts the frames of the write-ahead log from now on, and copies them into the database when
  /// they are so many, in the place of SQLite's own wal_autocheckpoint.
  void watch_log(uint32_t checkpoint_frames);
  /// In the log as of the last commit of this connection; 0 before the first one.
  [[nodiscard]] uint32_t log_frames() const { return log_frames_; }
  /// How many commits wrote to the log since it is watched: one that changed nothing does not.
  [[nodiscard]] uint64_t log_commits() const { return log_commits_; }
  /// False once an error (a full disk, an I/O error) has made SQLite roll back by itself.
  [[nodiscard]] bool in_transaction() const;

  /// What a result code of this connection means, naming the file:
  ///   RESOURCE_EXHAUSTED  the disk is full, or no memory
  ///   DATA_LOSS           the file is damaged or no database
  ///   PERMISSION_DENIED   the file or its directory is not ours to write
  ///   UNAVAILABLE         another process holds the database locked
  ///   INTERNAL            a statement of ours is wrong; errno's meaning for an I/O error
  [[nodiscard]] absl::Status error(int code) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };

  Database(std::filesystem::path file, sqlite3* connection);
  static int on_commit(void* self, sqlite3* connection, const char* name, int frames);

  std::filesystem::path file_;
  sqlite3* connection_;
  uint32_t log_frames_ = 0;
  uint64_t log_commits_ = 0;
  uint32_t checkpoint_frames_ = 0;
  absl::flat_hash_map<const char*, std::unique_ptr<sqlite3_stmt, Finalize>> statements_;
};

}  // namespace blobcache::tree
