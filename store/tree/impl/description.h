#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object_key.h"

namespace blobcache::tree {

// What a blob's file says of itself, so that a lost catalog can be made again: a description in an
// attribute or, when that has no room for all names, records in a names file. The formats are in
// docs/disk-format.md. Pure: text in, values out; what comes in is never trusted.

/// No description is longer. ext4 gives all extended attributes of a file one block, 4 KiB, unless
/// it has large ones, and other attributes want some of it.
inline constexpr size_t kMaxDescriptionBytes = 2048;

/// One name of a blob, and what its `file` row says. Value type.
struct DescribedName {
  std::string path;  ///< "files/..."
  mode_t mode = 0;   ///< permission bits only
  uid_t uid = 0;
  gid_t gid = 0;
  absl::Time modified;  ///< when the name was bound

  friend bool operator==(const DescribedName&, const DescribedName&) = default;
};

/// Value type.
struct Description {
  page::ObjectKey key;
  uint64_t size_bytes = 0;
  bool pinned = false;
  std::vector<DescribedName> names;
  bool more_names = false;  ///< the blob has names that are not among these

  friend bool operator==(const Description&, const Description&) = default;
};

/// nullopt when it would be longer than kMaxDescriptionBytes; one that has no names never is.
[[nodiscard]] std::optional<std::string> format_description(const Description& description);

/// What a description says when all names are in the names file: all but its names, and that there
/// are more than these none. Never longer than kMaxDescriptionBytes.
[[nodiscard]] std::string format_names_elsewhere(const Description& description);

/// DATA_LOSS with the reason for anything that format_description() does not write; names are
/// checked as Namespace::bind() does. Allocates no more than a few times the text's size.
[[nodiscard]] absl::StatusOr<Description> parse_description(std::string_view text);

/// A record of a names file: that the blob has a name from then on, or has it no more, or whether
/// it is pinned.
[[nodiscard]] std::string format_bound(const DescribedName& name);
[[nodiscard]] std::string format_gone(std::string_view path);
[[nodiscard]] std::string format_pinned(bool pinned);

/// The names and the pin that a names file's records leave, the later ones having the say.
class NameReplay {
 public:
  /// What no function above writes is passed over and makes whole() false.
  void take(std::string_view record);
  [[nodiscard]] bool whole() const { return whole_; }
  [[nodiscard]] bool pinned() const { return pinned_; }
  [[nodiscard]] const absl::flat_hash_map<std::string, DescribedName>& names() const {
    return names_;
  }

 private:
  absl::flat_hash_map<std::string, DescribedName> names_;  ///< by path
  bool pinned_ = false;
  bool whole_ = true;
};

}  // namespace blobcache::tree
