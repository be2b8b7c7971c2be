#include "fusefs/impl/reply.h"

#include <fmt/format.h>

#include <cerrno>

#include "base/status.h"
#include "store/page/geometry.h"

namespace blobcache::fusefs {
namespace {

mode_t kind_of(tree::NodeType type) {
  switch (type) {
    case tree::NodeType::kDirectory:
      return S_IFDIR;
    case tree::NodeType::kSymlink:
      return S_IFLNK;
    case tree::NodeType::kFile:
    case tree::NodeType::kImage:
      break;
  }
  return S_IFREG;
}

}  // namespace

int errno_of(const absl::Status& status) {
  if (const std::optional<int> told = base::posix_errno_of(status)) {
    return *told == ENOSYS ? EOPNOTSUPP : *told;
  }
  switch (status.code()) {
    case absl::StatusCode::kOk:
      return 0;
    case absl::StatusCode::kCancelled:
      return EINTR;
    case absl::StatusCode::kNotFound:
      return ENOENT;
    case absl::StatusCode::kAlreadyExists:
      return EEXIST;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
      return EINVAL;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
      return EACCES;
    case absl::StatusCode::kResourceExhausted:
      return ENOSPC;
    case absl::StatusCode::kDeadlineExceeded:
      return ETIMEDOUT;
    case absl::StatusCode::kUnimplemented:
      return EOPNOTSUPP;
    default:  // DATA_LOSS, UNAVAILABLE, INTERNAL, ABORTED, UNKNOWN
      return EIO;
  }
}

int errno_of_node(const absl::Status& status) {
  const int error = errno_of(status);
  return error == ENOENT ? ESTALE : error;
}

bool is_our_trouble(const absl::Status& status) {
  if (const std::optional<int> told = base::posix_errno_of(status)) return *told == EIO;
  return is_our_trouble(errno_of(status));
}

bool is_our_trouble(int error) {
  return error == EIO || error == ENOSPC || error == ETIMEDOUT || error == EINVAL ||
         error == EOPNOTSUPP;
}

struct stat attributes_of(const tree::Node& node) {
  struct stat out = {};
  out.st_ino = node.id;
  out.st_mode = node.mode | kind_of(node.type);
  out.st_nlink = node.links;
  out.st_uid = node.uid;
  out.st_gid = node.gid;
  out.st_size = static_cast<off_t>(node.size_bytes);
  out.st_blksize = static_cast<blksize_t>(page::kPageSize);
  constexpr uint64_t kBlock = 512;
  const uint64_t taken = node.allocated_bytes.value_or(node.size_bytes);
  out.st_blocks = static_cast<blkcnt_t>((taken + kBlock - 1) / kBlock);
  out.st_mtim = absl::ToTimespec(node.modified);
  out.st_atim = out.st_mtim;  // reading leaves no trace
  out.st_ctim = absl::ToTimespec(node.changed);
  return out;
}

fuse_entry_param entry_of(const tree::Node& node, absl::Duration timeout) {
  fuse_entry_param out = {};
  out.ino = node.id;
  out.attr = attributes_of(node);
  out.attr_timeout = absl::ToDoubleSeconds(timeout);
  out.entry_timeout = absl::ToDoubleSeconds(timeout);
  return out;
}

fuse_entry_param negative_entry(absl::Duration timeout) {
  fuse_entry_param out = {};
  out.entry_timeout = absl::ToDoubleSeconds(timeout);
  return out;
}

bool is_attribute(std::string_view name) {
  return name == kDigestAttribute || name == kTierAttribute || name == kPinnedAttribute ||
         name == kSettledAttribute || name == kOriginAttribute;
}

std::string attribute_names(const tree::Node& node, bool of_origin) {
  std::string out;
  if (of_origin) out.append(kOriginAttribute).push_back('\0');
  if (node.type != tree::NodeType::kFile || !node.settled) return out;
  if (node.digest.has_value()) out.append(kDigestAttribute).push_back('\0');
  out.append(kTierAttribute).push_back('\0');
  return out;
}

std::string format_residency(const page::Residency& residency) {
  return fmt::format("memory={} disk={} pages={}", residency.memory_pages, residency.disk_pages,
                     residency.pages);
}

}  // namespace blobcache::fusefs
