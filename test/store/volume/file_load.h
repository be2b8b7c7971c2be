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
/// since the last flush; and a length on the way from one to the next, where that was reached by
/// steps and may have been in part.
class FileVersions {
 public:
  explicit FileVersions(Bytes content) { add(std::move(content), false); }

  [[nodiscard]] const Bytes& last() const { return versions_.back().content; }
  /// `in_part`: perhaps no more was reached than a part of the way from the version before.
  void add(Bytes content, bool in_part) { versions_.push_back({std::move(content), in_part}); }
  /// Only the last version is left.
  void settle() { versions_.erase(versions_.begin(), versions_.end() - 1); }
  /// What is wrong with the content; empty: nothing.
  [[nodiscard]] std::string problem(const Bytes& content) const;

 private:
  [[nodiscard]] bool may_be_long(uint64_t length) const;
  [[nodiscard]] bool holds(const Bytes& content, uint64_t begin, uint64_t end) const;

  struct Version {
    Bytes content;
    bool in_part = false;
  };
  std::vector<Version> versions_;
};

}  // namespace blobcache::volume
