#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace blobcache::ctl {

/// What mount(8) asks of the helper for its type "blobcache". Value type.
struct MountOrder {
  std::string mountpoint;
  std::string subtree;   ///< the path of a directory of the tree; "": all of it
  std::string endpoint;  ///< empty: as Session has it
  absl::Duration wait;   ///< how long a daemon that cannot be reached is waited for
  bool read_only = false;
  bool no_exec = false;
  bool writeback_cache = false;
  bool fake = false;  ///< do all but the mounting
  bool verbose = false;
};

/// Understands "SOURCE MOUNTPOINT [-sfnvrw] [-t TYPE] [-o OPTIONS]", as mount(8) calls a helper,
/// with the arguments in any order; see mount.blobcache(8) for the options. INVALID_ARGUMENT names
/// what is not understood. Pure.
[[nodiscard]] absl::StatusOr<MountOrder> parse_mount_order(
    const std::vector<std::string>& arguments);

/// Whether a program that was started by this name is to be mount(8)'s helper.
[[nodiscard]] bool is_mount_helper(std::string_view program);

/// Does what mount(8) asks, and says on stderr why it cannot. Returns the exit status, one of
/// mount(8)'s: 0 done, 1 not understood or not allowed, 32 failed.
[[nodiscard]] int run_mount_helper(const std::vector<std::string>& arguments);

}  // namespace blobcache::ctl
