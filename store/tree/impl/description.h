#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/object_key.h"

namespace blobcache::tree {

// What a blob's file says of itself, so that a lost catalog can be made again. The format is in
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
  std::vector<DescribedName> names;
  bool more_names = false;  ///< the blob has names that are not among these

  friend bool operator==(const Description&, const Description&) = default;
};

/// At most kMaxDescriptionBytes: names from the first that does not fit on are left out, and the
/// text says so.
[[nodiscard]] std::string format_description(const Description& description);

/// DATA_LOSS with the reason for anything that format_description() does not write; names are
/// checked as Namespace::bind() does. Allocates no more than a few times the text's size.
[[nodiscard]] absl::StatusOr<Description> parse_description(std::string_view text);

}  // namespace blobcache::tree
