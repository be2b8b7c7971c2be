#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/types/span.h"
#include "fusefs/impl/fuse.h"

namespace blobcache::fusefs {

/// Whether a listing carries names alone, or attributes too (READDIRPLUS), which spare a lookup
/// each.
enum class Listing : uint8_t { kNames, kAttributes };

// The offsets that the kernel gets. It hands them back to go on, in any order and after any change,
// so they are the tree's own cookies, moved up by two for "." and "..", which the tree does not
// list.
inline constexpr off_t kAfterDot = 1;
inline constexpr off_t kAfterDotDot = 2;

/// The offset after an entry whose cookie is this; empty when no offset can carry it.
[[nodiscard]] std::optional<off_t> offset_of_cookie(uint64_t cookie);
/// The cookie to go on after; `offset` is at least kAfterDotDot.
[[nodiscard]] uint64_t cookie_of_offset(off_t offset);

/// One answer to a directory read: entries packed as the kernel wants them, up to the bytes it has
/// room for. One thread at a time.
class DirectoryBuffer {
 public:
  DirectoryBuffer(Listing listing, size_t capacity_bytes);

  /// Adds an entry; `next` is the offset after it. False, and nothing is added, when there is no
  /// room.
  [[nodiscard]] bool add(const std::string& name, const fuse_entry_param& entry, off_t next);

  [[nodiscard]] absl::Span<const char> bytes() const { return {buffer_.get(), used_}; }
  [[nodiscard]] bool empty() const { return used_ == 0; }
  /// How many entries with short names the rest has room for, at most: how many are worth asking
  /// the tree for. 0 when there is no room for any.
  [[nodiscard]] size_t room_for() const;

 private:
  const Listing listing_;
  const size_t capacity_;
  const std::unique_ptr<char[]> buffer_;
  size_t used_ = 0;
};

}  // namespace blobcache::fusefs
