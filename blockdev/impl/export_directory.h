#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "blockdev/impl/device.h"
#include "blockdev/nbd_server.h"

namespace blobcache::blockdev {

/// An export that a client has opened.
struct OpenExport {
  std::string name;  ///< its path in the tree
  DeviceRef device;
};

/// Which exports there are, as a handshake asks. Thread-safe.
class ExportDirectory {
 public:
  virtual ~ExportDirectory() = default;
  /// The export that a client calls `name`, which is any bytes at all; "" is the default export.
  [[nodiscard]] virtual absl::StatusOr<OpenExport> open(std::string_view name) = 0;
  /// As NbdServer::exports.
  [[nodiscard]] virtual absl::StatusOr<ExportList> list(size_t limit) = 0;
};

}  // namespace blobcache::blockdev
