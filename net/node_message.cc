#include "net/node_message.h"

#include "absl/time/time.h"
#include "blobcache.pb.h"
#include "store/page/object.h"

namespace blobcache::net {
namespace {

v1::Node::Type to_type(tree::NodeType type) {
  switch (type) {
    case tree::NodeType::kDirectory:
      return v1::Node::DIRECTORY;
    case tree::NodeType::kFile:
      return v1::Node::FILE;
    case tree::NodeType::kImage:
      return v1::Node::VOLUME;
    case tree::NodeType::kSymlink:
      return v1::Node::SYMLINK;
  }
  return v1::Node::TYPE_UNSPECIFIED;
}

/// Of a file.
void fill_retention(const tree::Node& node, v1::Node& message) {
  const bool kept = node.retention == page::Retention::kKept;
  message.set_pinned(node.pinned);
  message.set_retention(kept ? v1::Node::KEPT : v1::Node::CACHED);
  message.set_expires_ns(node.expires ? absl::ToUnixNanos(*node.expires) : 0);
}

}  // namespace

void fill(const tree::Node& node, v1::Node& message) {
  message.set_type(to_type(node.type));
  message.set_size(node.type == tree::NodeType::kDirectory ? 0 : node.size_bytes);
  message.set_mode(node.mode);
  message.set_uid(node.uid);
  message.set_gid(node.gid);
  message.set_links(node.links);
  message.set_modified_ns(absl::ToUnixNanos(node.modified));
  message.set_changed_ns(absl::ToUnixNanos(node.changed));
  if (node.digest) message.set_digest(node.digest->bytes.data(), node.digest->bytes.size());
  message.set_node_id(node.id);
  if (node.type == tree::NodeType::kFile) fill_retention(node, message);
}

}  // namespace blobcache::net
