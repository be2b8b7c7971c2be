// The part of the operations that lists directories. The tree's cookies carry a walk, so an open
// directory has no state here.

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "fusefs/impl/directory_buffer.h"
#include "fusefs/impl/operations.h"
#include "fusefs/impl/reply.h"

namespace blobcache::fusefs {

void Operations::opendir(fuse_req_t request, tree::NodeId node, fuse_file_info* file) {
  const absl::StatusOr<tree::Node> found = names_.stat(node);
  if (!found.ok()) {
    return fail(request, errno_of_node(found.status()), found.status(), "open directory", node);
  }
  if (found->type != tree::NodeType::kDirectory) return fail(request, ENOTDIR);
  fuse_reply_open(request, file);
}

void Operations::readdir(fuse_req_t request, tree::NodeId node, size_t room, off_t offset,
                         fuse_file_info* /*file*/) {
  list(request, node, room, offset, Listing::kNames);
}

void Operations::readdirplus(fuse_req_t request, tree::NodeId node, size_t room, off_t offset,
                             fuse_file_info* /*file*/) {
  list(request, node, room, offset, Listing::kAttributes);
}

void Operations::releasedir(fuse_req_t request, tree::NodeId /*node*/, fuse_file_info* /*file*/) {
  fuse_reply_err(request, 0);
}

void Operations::list(fuse_req_t request, tree::NodeId node, size_t room, off_t offset,
                      Listing listing) {
  constexpr size_t kMostBytes = size_t{64} << 10;  // the catalog is not held for longer at a time
  DirectoryBuffer buffer(listing, std::min(room, kMostBytes));
  const absl::Status status = fill(buffer, listing, node, offset);
  // A directory that was removed while it was open is empty. After other errors what came before
  // them counts; they come again when the kernel goes on.
  if (!status.ok() && !absl::IsNotFound(status) && buffer.empty()) {
    return fail(request, errno_of(status), status, "list directory", node);
  }
  fuse_reply_buf(request, buffer.bytes().data(), buffer.bytes().size());
}

absl::Status Operations::fill(DirectoryBuffer& buffer, Listing listing, tree::NodeId node,
                              off_t offset) {
  fuse_entry_param dot = {};  // no node: the kernel takes the name alone
  dot.attr.st_mode = S_IFDIR;
  dot.attr.st_ino = inode_of(node);
  if (offset < kAfterDot && !buffer.add(".", dot, kAfterDot)) return absl::OkStatus();
  constexpr ino_t kUnknown = 0xffffffff;  // what libfuse gives for a parent, and nobody relies on
  dot.attr.st_ino = node == places_.root ? ino_t{FUSE_ROOT_ID} : kUnknown;
  if (offset < kAfterDotDot && !buffer.add("..", dot, kAfterDotDot)) return absl::OkStatus();

  const absl::Duration timeout =
      listing == Listing::kAttributes ? timeout_of(node) : absl::ZeroDuration();
  uint64_t cookie = cookie_of_offset(std::max(offset, kAfterDotDot));
  while (const size_t wanted = buffer.room_for()) {
    std::vector<tree::NamedNode> entries;
    BLOBCACHE_ASSIGN_OR_RETURN(entries, names_.list(node, cookie, wanted));
    for (const tree::NamedNode& entry : entries) {
      cookie = entry.cookie;
      const std::optional<off_t> next = offset_of_cookie(cookie);
      if (!next.has_value()) {
        return base::error(absl::StatusCode::kInternal,
                           fmt::format("no offset can carry cookie {}", cookie));
      }
      const fuse_entry_param shown = entry_for(as_open(entry.node), timeout);
      if (!buffer.add(entry.name, shown, *next)) return absl::OkStatus();
    }
    if (entries.size() < wanted) break;
  }
  return absl::OkStatus();
}

}  // namespace blobcache::fusefs
