#include "fusefs/impl/write_rules.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>

#include <algorithm>
#include <cerrno>

#include "base/status.h"
#include "store/page/geometry.h"
#include "store/tree/path.h"

namespace blobcache::fusefs {
namespace {

constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;

Allocation no_allocation(int error) {
  Allocation out;
  out.error = error;
  return out;
}

Allocation zeros(ByteRange range, bool keeps_space) {
  Allocation out;
  out.zeros = range;
  out.keeps_space = keeps_space;
  return out;
}

}  // namespace

ByteRange ByteRange::before(uint64_t size) const {
  const uint64_t begin = std::min(offset, size);
  return {begin, std::min(end(), size) - begin};
}

Allocation allocation_in_file(int mode, ByteRange range, uint64_t size) {
  switch (mode) {
    case kPunch:
      return zeros(range.before(size), false);
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
      return zeros(range.before(size), true);
    case FALLOC_FL_ZERO_RANGE:
      return zeros(range, true);
    case 0: {
      const uint64_t begin = std::max(range.offset, size);
      return zeros({begin, std::max(range.end(), begin) - begin}, true);
    }
    default:
      return no_allocation(EOPNOTSUPP);
  }
}

Allocation allocation_in_image(int mode, ByteRange range, uint64_t size) {
  switch (mode) {
    case kPunch:
      return zeros(range.before(size), false);
    case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
      return zeros(range.before(size), true);
    case FALLOC_FL_ZERO_RANGE:
      return range.end() > size ? no_allocation(EINVAL) : zeros(range, true);
    default:
      return no_allocation(EOPNOTSUPP);
  }
}

ByteRange write_in_image(ByteRange range, uint64_t size) { return range.before(size); }

absl::Status check_writeback(std::string_view subtree, bool read_only) {
  const auto refused = [](std::string_view why) {
    return base::error(absl::StatusCode::kInvalidArgument, fmt::format("writeback_cache: {}", why));
  };
  if (read_only) return refused("nothing is written through a mount that is read-only");
  if (tree::is_within_files(subtree)) return absl::OkStatus();
  return refused(
      "only for a subtree of files/, since elsewhere it would hide what others write, such as NBD "
      "clients to volumes");
}

tree::Node as_written_back(tree::Node node) {
  if (node.type != tree::NodeType::kFile || node.settled) return node;
  node.allocated_bytes = std::max(node.allocated_bytes.value_or(node.size_bytes), page::kPageSize);
  return node;
}

bool opens_to_append(int open_flags) {
  return (open_flags & (O_ACCMODE | O_APPEND | O_DIRECT)) == (O_WRONLY | O_APPEND);
}

bool is_append(int open_flags, bool from_cache) {
  return (open_flags & (O_APPEND | O_DIRECT)) == O_APPEND && !from_cache;
}

tree::AttributeChange change_of(const struct stat& attributes, int which, absl::Time now) {
  tree::AttributeChange change;
  if ((which & FUSE_SET_ATTR_MODE) != 0) change.mode = attributes.st_mode & 07777;
  if ((which & FUSE_SET_ATTR_UID) != 0) change.uid = attributes.st_uid;
  if ((which & FUSE_SET_ATTR_GID) != 0) change.gid = attributes.st_gid;
  if ((which & FUSE_SET_ATTR_MTIME_NOW) != 0) {
    if ((which & FUSE_SET_ATTR_SIZE) == 0) change.modified = now;
  } else if ((which & FUSE_SET_ATTR_MTIME) != 0) {
    change.modified = absl::TimeFromTimespec(attributes.st_mtim);
  }
  return change;
}

bool changes_something(const tree::AttributeChange& change) {
  return change.mode.has_value() || change.uid.has_value() || change.gid.has_value() ||
         change.modified.has_value();
}

std::optional<tree::RenameMode> rename_mode_of(unsigned flags) {
  switch (flags) {
    case 0:
      return tree::RenameMode::kReplace;
    case RENAME_NOREPLACE:
      return tree::RenameMode::kNoReplace;
    case RENAME_EXCHANGE:
      return tree::RenameMode::kExchange;
    default:
      return std::nullopt;
  }
}

}  // namespace blobcache::fusefs
