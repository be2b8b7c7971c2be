#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <ios>
#include <memory>
#include <string>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "net/dir_origin.h"
#include "net/impl/dir_files.h"
#include "net/impl/dir_tree.h"
#include "test/net/fixture.h"

namespace blobcache::net {

namespace fs = std::filesystem;

/// A directory, and origins of it for which its files are as old as they need be.
struct DirWorld {
  DirWorld() { fs::create_directory(root); }

  void write(const std::string& path, const Bytes& content) const {
    std::ofstream out(root / path, std::ios::binary | std::ios::trunc);
    out.write(reinterpret_cast<const char*>(content.data()),
              static_cast<std::streamsize>(content.size()));
  }
  [[nodiscard]] DirOriginOptions options() const {
    DirOriginOptions options;
    options.name = "share";
    options.path = root.string();
    return options;
  }
  /// `age`: so much later than it is.
  [[nodiscard]] std::shared_ptr<DirTree> origin(absl::Duration age = absl::Minutes(1)) const {
    DirSystem system{[age] { return absl::Now() + age; }, &::pread};
    return std::make_shared<DirTree>(options(), system);
  }

  TempDir dir;
  fs::path root = dir.path() / "root";
};

}  // namespace blobcache::net
