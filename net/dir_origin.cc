#include "net/dir_origin.h"

#include <fmt/format.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "net/impl/dir_tree.h"
#include "store/tree/origin.h"
#include "store/tree/path.h"

namespace blobcache::net {

absl::StatusOr<std::shared_ptr<tree::Origin>> make_dir_origin(const DirOriginOptions& options) {
  BLOBCACHE_RETURN_IF_ERROR(tree::check_name(options.name));
  if (options.path.empty() || options.path.front() != '/') {
    return absl::InvalidArgumentError("path is not absolute");
  }
  if (options.path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("path has a NUL byte");
  }
  if (options.reads < 1 || options.reads > DirOriginOptions::kMaxReads) {
    return absl::InvalidArgumentError(
        fmt::format("connections is not 1 to {}", DirOriginOptions::kMaxReads));
  }
  if (options.request_timeout <= absl::ZeroDuration()) {
    return absl::InvalidArgumentError("a timeout is not positive");
  }
  return std::make_shared<DirTree>(options);
}

}  // namespace blobcache::net
