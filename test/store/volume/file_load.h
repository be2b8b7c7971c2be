#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "store/volume/volume.h"
#include "test/store/volume/volume_fixture.h"

namespace blobcache::volume {

/// One change of a file volume.
struct FileOp {
  enum class Kind : uint8_t {
    kWrite,
    kSetLength,  ///< to `offset`
    kZero,       ///< grows
    kFill,       ///< the same, keeping the space
    kPunch,      ///< of the range what is in the file
    kFlush,
  };
  Kind kind = Kind::kWrite;
  uint64_t offset = 0;
  uint64_t length = 0;
  uint64_t seed = 0;  ///< of the bytes

  [[nodiscard]] std::string text() const;
};

/// A random operation on a file of `length` bytes that becomes no longer than `most`.
[[nodiscard]] FileOp random_file_op(std::mt19937_64& random, uint64_t length, uint64_t most);
[[nodiscard]] absl::Status run_file_op(Volume& volume, const FileOp& op);
/// What the operation makes of a file's content.
void apply_file_op(const FileOp& op, Bytes& content);

/// What a file may hold after a crash: a length, and in each sector the bytes, of some version
/// since the last flush.
class FileVersions {
 public:
  explicit FileVersions(Bytes content) { versions_.push_back(std::move(content)); }

  [[nodiscard]] const Bytes& last() const { return versions_.back(); }
  void add(Bytes content) { versions_.push_back(std::move(content)); }
  /// Only the last version is left.
  void settle() { versions_.erase(versions_.begin(), versions_.end() - 1); }
  /// The last version was perhaps reached in part.
  void end_in_part() { in_part_ = true; }
  /// What is wrong with the content; empty: nothing.
  [[nodiscard]] std::string problem(const Bytes& content) const;

 private:
  [[nodiscard]] bool may_be_long(uint64_t length) const;
  [[nodiscard]] bool holds(const Bytes& content, uint64_t begin, uint64_t end) const;

  std::vector<Bytes> versions_;
  bool in_part_ = false;
};

}  // namespace blobcache::volume
