#pragma once

#include <cstdint>
#include <optional>

#include "store/tree/namespace.h"

namespace blobcache::tree {

// How node ids are made. One of the catalog is never used again, since SQLite's AUTOINCREMENT never
// reuses an id:
//
//     1 .. 5              the directories that always are
//     16 .. 2^56 - 1      a row of the table `file`: a directory or file under files/
//     2^56 + n            row n of the table `blob`: blobs/<64 hex>
//     2^62 .. 2^63 - 1    something beneath origins/, in memory alone; see origin_nodes.h
//
// They stay below 2^63, so that programs with a signed 64-bit ino_t read them right.

inline constexpr NodeId kBlobsNode = 2;
inline constexpr NodeId kFilesNode = 3;
inline constexpr NodeId kOriginsNode = 4;
inline constexpr NodeId kVolumesNode = 5;
inline constexpr NodeId kLastFixedNode = kVolumesNode;
inline constexpr uint32_t kBlobTagShift = 56;
inline constexpr NodeId kBlobTag = NodeId{1} << kBlobTagShift;

inline constexpr NodeId kOriginTag = NodeId{1} << 62;

/// A number for something of an origin, from the low bits of any.
[[nodiscard]] constexpr NodeId origin_node(uint64_t bits) {
  return kOriginTag | (bits & (kOriginTag - 1));
}
[[nodiscard]] constexpr bool is_origin_node(NodeId node) { return (node & kOriginTag) != 0; }

[[nodiscard]] constexpr NodeId blob_node(int64_t blob) {
  return kBlobTag + static_cast<uint64_t>(blob);
}

/// The row of `blob` that `node` stands for, if it stands for one.
[[nodiscard]] constexpr std::optional<int64_t> blob_of_node(NodeId node) {
  if (node >> kBlobTagShift != 1) return std::nullopt;
  return static_cast<int64_t>(node - kBlobTag);
}

/// The row of `file` that `node` stands for; 0, which is none, for every other node.
[[nodiscard]] constexpr int64_t file_of_node(NodeId node) {
  return node < kBlobTag ? static_cast<int64_t>(node) : 0;
}

}  // namespace blobcache::tree
