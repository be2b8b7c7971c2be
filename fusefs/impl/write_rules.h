#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "fusefs/impl/fuse.h"
#include "store/tree/name_editor.h"
#include "store/tree/namespace.h"

namespace blobcache::fusefs {

// What a request that changes something comes to. Pure functions.

struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;

  [[nodiscard]] uint64_t end() const { return offset + length; }
  /// What of it lies before `size`.
  [[nodiscard]] ByteRange before(uint64_t size) const;

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

/// What fallocate(2) is to do: make a range zero, or nothing, or fail. Value type.
struct Allocation {
  int error = 0;             ///< an errno; nothing else counts then
  ByteRange zeros;           ///< becomes zeros; empty: nothing is to be done
  bool keeps_space = false;  ///< of the zeros: later writes find room
};

/// Of a file of `size` bytes, which grows. To allocate what it has already makes sure of nothing,
/// as in any file system that never writes in place; what lies beyond its end is taken and makes it
/// longer. EOPNOTSUPP for room beyond the end that is to be taken without that.
[[nodiscard]] Allocation allocation_in_file(int mode, ByteRange range, uint64_t size);

/// Of an image, whose size is fixed: as a block device of the kernel has it. EOPNOTSUPP for mode 0,
/// since what is there cannot be promised room; EINVAL for what would have to lie beyond the end.
[[nodiscard]] Allocation allocation_in_image(int mode, ByteRange range, uint64_t size);

/// What of a write's `range` fits into an image of `size` bytes: what lies before its end. Empty,
/// which is ENOSPC, when all of it lies beyond.
[[nodiscard]] ByteRange write_in_image(ByteRange range, uint64_t size);

/// Whether a mount of this subtree may have its kernel hold back what is written. INVALID_ARGUMENT
/// with a sentence, unless it is within files/ and can be written.
[[nodiscard]] absl::Status check_writeback(std::string_view subtree, bool read_only);

/// A node as a mount shows it whose kernel holds back what is written: a file that is not settled
/// may have bytes that we do not know of, and so takes something, since 0 means zeros throughout.
[[nodiscard]] tree::Node as_written_back(tree::Node node);

/// Whether what is opened so is opened for direct I/O: to append, and no more. The kernel cuts a
/// write that goes through its cache where a page ends, of which it has not all, so that two mounts
/// would mix what they append at once; of direct I/O each write(2) is one request, of up to its
/// largest. Who only appends neither reads nor maps the file by that handle, and so misses nothing.
[[nodiscard]] bool opens_to_append(int open_flags);

/// Whether a WRITE goes to the file's end, wherever the kernel thinks that this is: by the flags of
/// the open file. Not what the kernel writes back from its cache (`from_cache`), which has its
/// place. Nor one with O_DIRECT: the requests of a large one come side by side, each with its own
/// offset, and nothing tells them from those of another writer who has made the file longer since.
[[nodiscard]] bool is_append(int open_flags, bool from_cache);

/// The attributes that SETATTR changes (FUSE_SET_ATTR_*), all but the size. Access times are not
/// kept. A time that comes with a size and is "now" is left to the change of the size.
[[nodiscard]] tree::AttributeChange change_of(const struct stat& attributes, int which,
                                              absl::Time now);
[[nodiscard]] bool changes_something(const tree::AttributeChange& change);

/// rename(2)'s flags; empty for what no file system here does.
[[nodiscard]] std::optional<tree::RenameMode> rename_mode_of(unsigned flags);

}  // namespace blobcache::fusefs
