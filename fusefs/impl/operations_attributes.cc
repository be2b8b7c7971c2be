// The part of the operations that has extended attributes.

#include <cerrno>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "fusefs/impl/operations.h"
#include "fusefs/impl/reply.h"
#include "store/page/object.h"
#include "store/tree/digest.h"

namespace blobcache::fusefs {

absl::StatusOr<std::string> Operations::attribute(tree::NodeId node, std::string_view name) {
  if (name == kOriginAttribute) return names_.origin_of(node);
  tree::Node found;
  BLOBCACHE_ASSIGN_OR_RETURN(found, stat(node));
  if (found.type != tree::NodeType::kFile) return std::string();
  if (name == kDigestAttribute) {
    return found.digest.has_value() ? tree::format_digest(*found.digest) : std::string();
  }
  if (name == kPinnedAttribute) return std::string(found.pinned ? "1" : "0");
  if (name == kSettledAttribute) return std::string(found.settled ? "1" : "0");
  if (!found.settled) return std::string();
  absl::StatusOr<page::ObjectRef> object = names_.open(node);
  if (absl::IsNotFound(object.status())) {
    const std::shared_ptr<const OpenFile> open = open_files_.find(node);
    if (open != nullptr) object = open->file ? open->file->content().object : open->object;
  }
  BLOBCACHE_RETURN_IF_ERROR(object.status());
  if (*object == nullptr) return std::string();  // somebody writes by now
  const absl::StatusOr<page::Residency> residency = (*object)->residency();
  if (absl::IsNotFound(residency.status())) return std::string();  // no file that could tell
  BLOBCACHE_RETURN_IF_ERROR(residency.status());
  return format_residency(*residency);
}

void Operations::getxattr(fuse_req_t request, tree::NodeId node, const char* name, size_t room) {
  if (limits_.writeback_cache) {
    // Or the kernel asks before each write whether the file has capabilities (security.capability),
    // which takes as long as to pass the write on. From now on it asks no more.
    fuse_reply_err(request, ENOSYS);
    return;
  }
  // The kernel and ls ask for attributes that no file has (security.*, system.*) all the time: no
  // error of anyone's. Where whole kinds of them are not supported ls asks once, and not for each
  // file.
  if (!is_attribute(name)) {
    fuse_reply_err(request, std::string_view(name).starts_with("user.") ? ENODATA : EOPNOTSUPP);
    return;
  }
  const absl::StatusOr<std::string> value = attribute(node, name);
  if (!value.ok()) {
    return fail(request, errno_of_node(value.status()), value.status(), "tell an attribute of",
                node);
  }
  if (value->empty()) {
    fuse_reply_err(request, ENODATA);
    return;
  }
  reply_attribute(request, *value, room);
}

void Operations::listxattr(fuse_req_t request, tree::NodeId node, size_t room) {
  if (limits_.writeback_cache) return reply_attribute(request, "", room);
  const absl::StatusOr<tree::Node> found = stat(node);
  if (!found.ok()) {
    return fail(request, errno_of_node(found.status()), found.status(), "list attributes of", node);
  }
  const absl::StatusOr<std::string> origin = names_.origin_of(node);
  reply_attribute(request, attribute_names(*found, origin.ok() && !origin->empty()), room);
}

void Operations::reply_attribute(fuse_req_t request, std::string_view value, size_t room) {
  if (room == 0) {
    fuse_reply_xattr(request, value.size());
  } else if (value.size() > room) {
    fuse_reply_err(request, ERANGE);
  } else {
    fuse_reply_buf(request, value.data(), value.size());
  }
}

}  // namespace blobcache::fusefs
