#include "fusefs/impl/directory_buffer.h"

#include <limits>

namespace blobcache::fusefs {
namespace {

size_t pack(Listing listing, char* into, size_t room, const char* name,
            const fuse_entry_param& entry, off_t next) {
  // libfuse wants a request here and never looks at it.
  if (listing == Listing::kNames) {
    return fuse_add_direntry(nullptr, into, room, name, &entry.attr, next);
  }
  return fuse_add_direntry_plus(nullptr, into, room, name, &entry, next);
}

}  // namespace

std::optional<off_t> offset_of_cookie(uint64_t cookie) {
  constexpr auto kLast = static_cast<uint64_t>(std::numeric_limits<off_t>::max() - kAfterDotDot);
  if (cookie > kLast) return std::nullopt;
  return static_cast<off_t>(cookie) + kAfterDotDot;
}

uint64_t cookie_of_offset(off_t offset) { return static_cast<uint64_t>(offset - kAfterDotDot); }

DirectoryBuffer::DirectoryBuffer(Listing listing, size_t capacity_bytes)
    : listing_(listing),
      capacity_(capacity_bytes),
      buffer_(std::make_unique_for_overwrite<char[]>(capacity_bytes)) {}

bool DirectoryBuffer::add(const std::string& name, const fuse_entry_param& entry, off_t next) {
  const size_t room = capacity_ - used_;
  const size_t needed = pack(listing_, buffer_.get() + used_, room, name.c_str(), entry, next);
  if (needed > room) return false;
  used_ += needed;
  return true;
}

size_t DirectoryBuffer::room_for() const {
  const fuse_entry_param entry = {};
  const size_t smallest = pack(listing_, nullptr, 0, "12345678", entry, 0);
  return (capacity_ - used_) / smallest;
}

}  // namespace blobcache::fusefs
