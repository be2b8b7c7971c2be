#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// What keeps an origin from a directory that leads back to this daemon. Thread-safe.
class DirGuard {
 public:
  virtual ~DirGuard() = default;
  /// FAILED_PRECONDITION with the reason, for people, when the path must not even be looked up.
  /// Touches no file system.
  [[nodiscard]] virtual absl::Status check_path(const std::string& path) = 0;
  /// The same of the directory that was found there, open as `directory`.
  [[nodiscard]] virtual absl::Status check_directory(int directory) = 0;
};

/// A directory as an origin. Value type.
struct DirOriginOptions {
  static constexpr uint32_t kMaxReads = 16;

  std::string name;    ///< one component, as tree::check_name() has it
  std::string path;    ///< absolute; may lead through symbolic links, and need not be there
  uint32_t reads = 4;  ///< as many are under way at a time, at most; 1 to kMaxReads
  absl::Duration request_timeout =
      absl::Seconds(30);            ///< of a read, a look-up, a listing; positive
  std::shared_ptr<DirGuard> guard;  ///< absent: any directory will do
};

/// An origin that shows what is beneath a directory, as far as that lies on one mount: regular
/// files, directories, and symbolic links as their text. A version of a file is its inode, size,
/// and times of modification and change. Does not look at the directory yet. INVALID_ARGUMENT with
/// the reason for options that cannot be.
///
/// The file system may hang: everything that touches it is done by threads that nobody waits for
/// longer than request_timeout, and that write into memory of their own. A thread that hangs when
/// the origin is destroyed is left behind with what it needs.
///
/// After stop() calls end with CANCELLED at once, and what is open fails after two seconds.
[[nodiscard]] absl::StatusOr<std::shared_ptr<tree::Origin>> make_dir_origin(
    const DirOriginOptions& options);

}  // namespace blobcache::net
