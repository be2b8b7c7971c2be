#include "store/tree/impl/node_lookup.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/hex.h"
#include "base/status.h"
#include "store/page/page_map.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

constexpr mode_t kBlobMode = 0400;

/// blobs/ and the other fixed directories belong to whoever runs the daemon, whoever made the
/// store.
bool belongs_to_daemon(const FileRow& row) {
  const auto id = static_cast<NodeId>(row.id);
  return id <= kLastFixedNode && id != kFilesNode;
}

NodeType to_type(FileKind kind) {
  switch (kind) {
    case FileKind::kDirectory:
      return NodeType::kDirectory;
    case FileKind::kVolume:
      return NodeType::kImage;
    case FileKind::kSymlink:
      return NodeType::kSymlink;
    case FileKind::kFile:
      break;
  }
  return NodeType::kFile;
}

/// What of a blob's `disk_bytes` are its pages, all but those that are zeros. The rest is its map.
uint64_t page_bytes(uint64_t disk_bytes, uint64_t size_bytes) {
  if (size_bytes <= page::kInlineMapMaxObject) return disk_bytes;
  const uint64_t map = page::map_block_offset(page::map_block_count(size_bytes));
  return disk_bytes - std::min(disk_bytes, map);
}

}  // namespace

Node to_node(const FileRow& row) {
  Node node;
  node.id = static_cast<NodeId>(row.id);
  node.type = to_type(row.kind);
  node.size_bytes = row.size_bytes;
  node.mode = row.mode;
  node.uid = belongs_to_daemon(row) ? ::geteuid() : row.uid;
  node.gid = belongs_to_daemon(row) ? ::getegid() : row.gid;
  // 1 tells programs that a directory's links say nothing about what it holds.
  node.links = row.kind == FileKind::kDirectory ? 1 : row.links;
  node.modified = row.modified;
  node.changed = row.changed;
  node.digest = row.key;
  if (row.key) node.allocated_bytes = page_bytes(row.disk_bytes, row.size_bytes);
  node.pinned = row.pinned;
  node.settled = !row.is_under_writing();
  return node;
}

Node to_node(const BlobRow& row, const Aging& aging) {
  Node node;
  node.id = blob_node(row.id);
  node.type = NodeType::kFile;
  node.size_bytes = row.size_bytes;
  node.mode = kBlobMode;
  node.uid = ::geteuid();
  node.gid = ::getegid();
  node.modified = row.created;
  node.changed = row.created;
  node.digest = row.key;
  node.allocated_bytes = page_bytes(row.disk_bytes, row.size_bytes);
  node.pinned = row.pinned;
  node.retention = row.retention;
  if (row.pinned || !row.unnamed_since || row.retention == page::Retention::kCached) return node;
  node.expires = *row.unnamed_since + aging.unnamed_ttl;
  if (*node.expires > aging.now) return node;
  node.retention = page::Retention::kCached;
  node.expires = std::nullopt;
  return node;
}

std::optional<page::ObjectKey> parse_blob_name(std::string_view name) {
  page::ObjectKey key;
  if (!base::from_hex(name, absl::MakeSpan(key.bytes)) || key.hex() != name) return std::nullopt;
  return key;
}

absl::Status no_such_node(NodeId node) {
  return absl::NotFoundError(fmt::format("node {}: removed or replaced", node));
}

absl::Status no_such_name(std::string_view name) {
  return absl::NotFoundError(fmt::format("{}: no such file or directory", printable(name)));
}

absl::Status is_a_directory(std::string_view path, std::string_view hint) {
  return absl::FailedPreconditionError(
      fmt::format("{}: is a directory{}", path.empty() ? "/" : printable(path), hint));
}

absl::Status is_a_volume(std::string_view path) {
  return absl::FailedPreconditionError(
      fmt::format("{}: is a volume, which is no blob", printable(path)));
}

absl::Status is_a_symlink(std::string_view path) {
  return absl::FailedPreconditionError(
      fmt::format("{}: is a symbolic link; name the file itself", printable(path)));
}

absl::Status is_under_writing(std::string_view path) {
  return absl::FailedPreconditionError(
      fmt::format("{}: is being written to, and is no blob until it has settled", printable(path)));
}

absl::Status check_settled_file(const Node& node, std::string_view path,
                                std::string_view directory_hint) {
  switch (node.type) {
    case NodeType::kDirectory:
      return is_a_directory(path, directory_hint);
    case NodeType::kImage:
      return is_a_volume(path);
    case NodeType::kSymlink:
      return is_a_symlink(path);
    case NodeType::kFile:
      break;
  }
  return node.settled ? absl::OkStatus() : is_under_writing(path);
}

absl::Status not_a_directory(std::string_view name) {
  return absl::FailedPreconditionError(fmt::format("{}: not a directory", printable(name)));
}

absl::StatusOr<std::optional<Node>> find_node(CatalogReader& catalog, NodeId parent,
                                              std::string_view name, const Aging& aging) {
  if (parent == kBlobsNode) {
    const std::optional<page::ObjectKey> key = parse_blob_name(name);
    if (!key) return std::optional<Node>();
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> blob, catalog.find_blob(*key));
    return blob ? std::optional<Node>(to_node(*blob, aging)) : std::nullopt;
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<EntryRow> entry,
                             catalog.find_entry(file_of_node(parent), name));
  return entry ? std::optional<Node>(to_node(entry->file)) : std::nullopt;
}

absl::StatusOr<Node> find_node(CatalogReader& catalog, NodeId node, const Aging& aging) {
  if (const std::optional<int64_t> blob = blob_of_node(node)) {
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> row, catalog.find_blob_by_id(*blob));
    if (row) return to_node(*row, aging);
    return no_such_node(node);
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<FileRow> row,
                             catalog.find_file(file_of_node(node)));
  if (row) return to_node(*row);
  return no_such_node(node);
}

absl::StatusOr<Node> find_node(CatalogReader& catalog, std::string_view path,
                               const PathNames& names, const Aging& aging) {
  BLOBCACHE_ASSIGN_OR_RETURN(Node node, find_node(catalog, kRootNode, aging));
  for (const std::string_view name : names) {
    if (node.type != NodeType::kDirectory) return not_a_directory(path);
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<Node> found,
                               find_node(catalog, node.id, name, aging));
    if (!found) return no_such_name(path);
    node = *found;
  }
  return node;
}

absl::StatusOr<BlobRow> find_blob(CatalogReader& catalog, std::string_view path,
                                  const PathNames& names, const Aging& aging) {
  BLOBCACHE_ASSIGN_OR_RETURN(const Node node, find_node(catalog, path, names, aging));
  BLOBCACHE_RETURN_IF_ERROR(check_settled_file(node, path, "; name its files"));
  std::optional<BlobRow> row;
  if (node.digest) {
    BLOBCACHE_ASSIGN_OR_RETURN(row, catalog.find_blob(*node.digest));
  }
  if (row) return *std::move(row);
  return absl::DataLossError(
      fmt::format("{}: its content is unknown: the catalog is damaged", printable(path)));
}

absl::Status check_directory(CatalogReader& catalog, NodeId node, const Aging& aging) {
  BLOBCACHE_ASSIGN_OR_RETURN(const Node found, find_node(catalog, node, aging));
  if (found.type != NodeType::kDirectory) return not_a_directory(fmt::format("node {}", node));
  return absl::OkStatus();
}

}  // namespace blobcache::tree
