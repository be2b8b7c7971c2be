#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace blobcache::tree {

/// A place in an SQLite write-ahead log: after so many frames of the log with these salts, which it
/// gets anew whenever it begins anew. Value type.
struct LogPosition {
  std::array<std::byte, 8> salts{};
  uint32_t frames = 0;

  friend bool operator==(const LogPosition&, const LogPosition&) = default;
};

/// The catalog's write-ahead log as a file that is synced, and beside it a small one, the mark,
/// that says up to where it was. A power cut may tear the log behind that place; before it all
/// frames must check, or the log was damaged. The mark is never synced but when it is made: one
/// that is behind, or that a power cut emptied, costs some of that knowledge and nothing else.
///
/// Thread-safe.
class CatalogLog {
 public:
  /// Opens the log, which must be there while a connection is, and makes the mark if need be.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<CatalogLog>> open(
      const std::filesystem::path& log, const std::filesystem::path& mark);

  /// What a mark says; one that cannot be understood says that nothing was synced. nullopt: there
  /// is none.
  [[nodiscard]] static std::optional<LogPosition> read_mark(const std::filesystem::path& mark);

  /// The place of a commit that `frames` frames of the log precede now. By whoever commits.
  [[nodiscard]] LogPosition position(uint32_t frames) const;
  /// Makes all that was written to the log durable.
  [[nodiscard]] absl::Status sync();
  /// All up to there is durable.
  void note_synced(const LogPosition& position);

 private:
  CatalogLog(std::filesystem::path path, base::UniqueFd log, base::UniqueFd mark)
      : path_(std::move(path)), log_(std::move(log)), mark_(std::move(mark)) {}

  const std::filesystem::path path_;
  const base::UniqueFd log_;
  const base::UniqueFd mark_;
};

}  // namespace blobcache::tree
