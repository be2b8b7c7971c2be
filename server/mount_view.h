#pragma once

#include <filesystem>
#include <string>

namespace blobcache::server {

/// Which part of the tree a mount shows, where and how. Value type.
struct MountView {
  std::filesystem::path mountpoint;
  std::string subtree;  ///< the path of a directory of the tree; "": all of it
  bool read_only = false;
  bool no_exec = false;          ///< no program can be run from it
  bool writeback_cache = false;  ///< as fusefs::MountOptions has it

  /// "/mnt/images (files/images, read-only)", in one line for a log.
  [[nodiscard]] std::string to_string() const;
};

}  // namespace blobcache::server
