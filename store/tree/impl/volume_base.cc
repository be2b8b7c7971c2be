#include "store/tree/impl/volume_base.h"

#include <fmt/format.h>

#include <array>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "store/page/pinned_range.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/node_lookup.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

/// How an image in QEMU's copy-on-write format, of any version, begins.
constexpr std::array<char, 4> kQcowMagic = {'Q', 'F', 'I', '\xfb'};
constexpr std::string_view kOrigins = "origins/";

/// A format of its own would be served as if its headers and tables were the disk's content.
absl::Status check_raw(page::Object& base, std::string_view path) {
  if (base.size_bytes() < kQcowMagic.size()) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(const page::PinnedRange range, base.read_wait(0, kQcowMagic.size()));
  const iovec& first = range.pieces().front();
  if (std::memcmp(first.iov_base, kQcowMagic.data(), kQcowMagic.size()) != 0) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(fmt::format(
      "{}: is a qcow2 image, and a volume needs a raw one: \"qemu-img convert -O raw IMAGE.qcow2 "
      "IMAGE.raw\", then put that",
      printable(path)));
}

/// The origin and the path in it, of a path that is an origin's.
OriginBase split_origin(std::string_view path) {
  if (path.starts_with('/')) path.remove_prefix(1);
  path.remove_prefix(kOrigins.size());
  const size_t slash = path.find('/');
  OriginBase base;
  base.origin = path.substr(0, slash);
  base.path = path.substr(slash + 1);
  return base;
}

absl::Status check_steady(const Node& node, std::string_view path) {
  if (node.steady) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("{}: nothing tells whether its bytes stay the same: if they do, say \"immutable "
                  "= true\" of the origin in the configuration; if not, put it, and lay the volume "
                  "over the blob",
                  printable(path)));
}

}  // namespace

std::string path_of(const OriginBase& base) {
  return fmt::format("{}{}/{}", kOrigins, base.origin, base.path);
}

absl::StatusOr<VolumeBase> VolumeBases::find(std::string_view path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const Node node, names_.resolve(path));
  if (node.type == NodeType::kDirectory) return is_a_directory(path, "; name an image in it");
  const bool is_origin = is_origin_node(node.id);
  if (node.type == NodeType::kImage) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: is {}, and lay the new one over the blob", printable(path),
        is_origin ? "an image that may change; copy and put it" : "a volume; commit it"));
  }
  BLOBCACHE_RETURN_IF_ERROR(check_settled_file(node, path, ""));
  if (is_origin) BLOBCACHE_RETURN_IF_ERROR(check_steady(node, path));
  VolumeBase base;
  BLOBCACHE_ASSIGN_OR_RETURN(base.object, names_.open(node.id));
  BLOBCACHE_RETURN_IF_ERROR(check_raw(*base.object, path));
  base.key = base.object->key();
  if (is_origin) {
    base.origin = split_origin(path);
    base.origin->key = base.key;
  }
  return base;
}

absl::StatusOr<VolumeBase> VolumeBases::open(const VolumeRow& row) {
  VolumeBase base;
  if (row.origin_base) {
    BLOBCACHE_ASSIGN_OR_RETURN(base, open_origin(*row.origin_base));
  } else if (row.base) {
    BLOBCACHE_ASSIGN_OR_RETURN(base.object, names_.open(blob_node(*row.base)));
    base.key = base.object->key();
  }
  return base;
}

absl::StatusOr<VolumeBase> VolumeBases::open_origin(const OriginBase& wanted) {
  const std::string path = path_of(wanted);
  const absl::StatusOr<Node> node = names_.resolve(path);
  if (absl::IsNotFound(node.status())) {
    return absl::FailedPreconditionError(
        fmt::format("the volume is laid over {}, which is not there any more", printable(path)));
  }
  if (!node.ok()) return base::annotate(node.status(), "the volume's base");
  VolumeBase base;
  if (node->type == NodeType::kFile && node->steady) {
    absl::StatusOr<page::ObjectRef> object = names_.open(node->id);
    // NOT_FOUND: it has changed since it was looked up.
    if (!object.ok() && !absl::IsNotFound(object.status())) {
      return base::annotate(object.status(), "the volume's base");
    }
    if (object.ok()) base.object = *std::move(object);
  }
  if (base.object == nullptr || base.object->key() != wanted.key) {
    return absl::FailedPreconditionError(fmt::format(
        "{} is another version by now than the one that the volume is laid over, or nothing tells "
        "any more whether it is the same",
        printable(path)));
  }
  base.key = wanted.key;
  base.origin = wanted;
  return base;
}

}  // namespace blobcache::tree
