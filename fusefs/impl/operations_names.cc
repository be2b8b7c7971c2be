// The part of the operations that changes names and attributes.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cerrno>
#include <climits>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "fusefs/impl/operations.h"
#include "fusefs/impl/reply.h"
#include "fusefs/impl/write_rules.h"
#include "store/tree/files.h"
#include "store/tree/name_editor.h"

namespace blobcache::fusefs {
namespace {

constexpr mode_t kPermissions = 07777;

/// A name that the caller makes, and so his. The kernel has applied his umask.
tree::NewName name_of_caller(fuse_req_t request, tree::NodeId parent, const char* name,
                             mode_t mode) {
  const fuse_ctx* caller = fuse_req_ctx(request);
  return {.parent = parent,
          .name = name,
          .mode = mode & kPermissions,
          .uid = caller->uid,
          .gid = caller->gid};
}

}  // namespace

void Operations::reply_made(fuse_req_t request, const absl::StatusOr<tree::Node>& node,
                            tree::NodeId parent) {
  if (!node.ok()) {
    return fail(request, errno_of(node.status()), node.status(), "make a name in", parent);
  }
  const fuse_entry_param entry = entry_for(*node, timeout_of(parent));
  fuse_reply_entry(request, &entry);
}

void Operations::create(fuse_req_t request, tree::NodeId parent, const char* name, mode_t mode,
                        fuse_file_info* file) {
  OpenFile opened;
  absl::StatusOr<tree::FileRef> made =
      names_.files().create(name_of_caller(request, parent, name, mode));
  if (!made.ok()) {
    // Another door was faster. Who does not insist on a new file gets that one, but by the way of
    // open(2), on which the kernel looks at its mode: ESTALE makes it look the name up again.
    const bool insists = (file->flags & O_EXCL) != 0;
    const bool is_there = errno_of(made.status()) == EEXIST;
    if (is_there && !insists) return fail(request, ESTALE);
    return fail(request, errno_of(made.status()), made.status(), "make a file in", parent);
  }
  opened.file = *std::move(made);
  opened.node = opened.file->node();
  opened.is_written = true;
  opened.is_append = is_append_handle(opened, file->flags);
  file->direct_io = opened.is_append ? 1 : 0;
  const fuse_entry_param entry = entry_for(opened.node, timeout_of(parent));
  file->keep_cache = 1;
  keep_open(std::move(opened), *file);
  const uint64_t handle = file->fh;
  if (fuse_reply_create(request, &entry, file) == -ENOENT) close_opened(handle);
}

void Operations::mknod(fuse_req_t request, tree::NodeId parent, const char* name, mode_t mode,
                       dev_t /*device*/) {
  if ((mode & S_IFMT) != 0 && !S_ISREG(mode)) return fail(request, EPERM);
  const absl::StatusOr<tree::FileRef> made =
      names_.files().create(name_of_caller(request, parent, name, mode));
  if (!made.ok()) return reply_made(request, made.status(), parent);
  reply_made(request, (*made)->node(), parent);
}

void Operations::mkdir(fuse_req_t request, tree::NodeId parent, const char* name, mode_t mode) {
  reply_made(request, names_.editor().make_directory(name_of_caller(request, parent, name, mode)),
             parent);
}

void Operations::symlink(fuse_req_t request, const char* target, fuse_ino_t parent_inode,
                         const char* name) {
  constexpr mode_t kAll = 0777;  // what every symbolic link shows
  const tree::NodeId parent = node_of(parent_inode);
  reply_made(request,
             names_.editor().make_symlink(name_of_caller(request, parent, name, kAll), target),
             parent);
}

void Operations::link(fuse_req_t request, tree::NodeId node, fuse_ino_t parent_inode,
                      const char* name) {
  const tree::NodeId parent = node_of(parent_inode);
  absl::StatusOr<tree::Node> linked = names_.editor().link(node, parent, name);
  if (linked.ok()) linked = as_open(*std::move(linked));
  reply_made(request, linked, parent);
}

void Operations::readlink(fuse_req_t request, tree::NodeId node) {
  const absl::StatusOr<std::string> target = names_.editor().read_symlink(node);
  if (!target.ok()) {
    return fail(request, errno_of_node(target.status()), target.status(), "read the link", node);
  }
  fuse_reply_readlink(request, target->c_str());
}

void Operations::unlink(fuse_req_t request, tree::NodeId parent, const char* name) {
  const absl::Status status = names_.editor().remove_file(parent, name);
  if (!status.ok()) return fail(request, errno_of(status), status, "remove a name from", parent);
  fuse_reply_err(request, 0);
}

void Operations::rmdir(fuse_req_t request, tree::NodeId parent, const char* name) {
  const absl::Status status = names_.editor().remove_directory(parent, name);
  if (!status.ok()) return fail(request, errno_of(status), status, "remove a name from", parent);
  fuse_reply_err(request, 0);
}

void Operations::rename(fuse_req_t request, tree::NodeId parent, const char* name,
                        fuse_ino_t new_parent_inode, const char* new_name, unsigned flags) {
  if (std::strlen(new_name) > NAME_MAX) return fail(request, ENAMETOOLONG);
  const std::optional<tree::RenameMode> mode = rename_mode_of(flags);
  if (!mode.has_value()) return fail(request, EINVAL);
  const tree::NodeId new_parent = node_of(new_parent_inode);
  const absl::Status status = names_.editor().rename(parent, name, new_parent, new_name, *mode);
  if (!status.ok()) return fail(request, errno_of(status), status, "rename in", parent);
  fuse_reply_err(request, 0);
}

void Operations::setattr(fuse_req_t request, tree::NodeId node, struct stat* attributes, int which,
                         fuse_file_info* file) {
  const bool sets_size = (which & FUSE_SET_ATTR_SIZE) != 0;
  const tree::AttributeChange change = change_of(*attributes, which, absl::Now());
  const absl::StatusOr<tree::Node> found = stat(node);
  if (!found.ok()) {
    return fail(request, errno_of_node(found.status()), found.status(), "stat", node);
  }
  const auto size = static_cast<uint64_t>(attributes->st_size);
  if (found->type == tree::NodeType::kImage) {
    // Its size is its own, and so is the rest, as volumes have it from the daemon.
    const bool as_it_is = sets_size && size == found->size_bytes && !changes_something(change);
    return as_it_is ? reply_attributes(request, *found) : fail(request, EPERM);
  }
  if (!sets_size || changes_something(change)) {
    const absl::StatusOr<tree::Node> changed = names_.editor().set_attributes(node, change);
    if (!changed.ok()) {
      return fail(request, errno_of_node(changed.status()), changed.status(), "set attributes of",
                  node);
    }
    if (!sets_size) return reply_attributes(request, as_open(*changed));
  }
  set_length(request, node, size, file);
}

void Operations::fsyncdir(fuse_req_t request, tree::NodeId node, int /*data_only*/,
                          fuse_file_info* /*file*/) {
  const absl::Status status = names_.editor().sync();
  if (!status.ok()) return fail(request, errno_of(status), status, "sync directory", node);
  fuse_reply_err(request, 0);
}

/// "1" pins the blob that is the file's content, "0" ends that.
void Operations::setxattr(fuse_req_t request, tree::NodeId node, const char* name,
                          const char* value, size_t length, int flags) {
  const std::string_view wanted(value, length);
  if (name != kPinnedAttribute || limits_.writeback_cache) return fail(request, EOPNOTSUPP);
  if (wanted != "0" && wanted != "1") return fail(request, EINVAL);
  if (names_.waits(node)) return fail(request, EOPNOTSUPP);  // an origin's
  if ((flags & XATTR_CREATE) != 0) return fail(request, EEXIST);
  const absl::StatusOr<tree::Node> found = stat(node);
  if (!found.ok()) {
    return fail(request, errno_of_node(found.status()), found.status(), "pin", node);
  }
  if (found->type != tree::NodeType::kFile) return fail(request, EOPNOTSUPP);
  // The pin is the blob's, and a file under writing is none yet.
  if (!found->settled || !found->digest.has_value()) return fail(request, EBUSY);
  const std::string blob = fmt::format("blobs/{}", found->digest->hex());
  const absl::Status status =
      wanted == "1" ? names_.pin(blob).status() : names_.unpin(blob).status();
  if (!status.ok()) return fail(request, errno_of_node(status), status, "pin", node);
  fuse_reply_err(request, 0);
}

void Operations::removexattr(fuse_req_t request, tree::NodeId /*node*/, const char* /*name*/) {
  fail(request, EOPNOTSUPP);
}

}  // namespace blobcache::fusefs
