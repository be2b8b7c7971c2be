#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/config.h"

namespace blobcache::server {

/// Takes one problem: the key that it is about ("nbd.listen") and what is wrong.
using ReportProblem = std::function<void(std::string_view full_name, std::string what)>;

/// What no key can say alone: keys that need one another, listeners that would let strangers in,
/// what this version does not serve, and what this machine must have (groups, memory). Changes
/// nothing.
void check_config(const Config& config, const ReportProblem& report);

/// The number of a group of this machine; NOT_FOUND ("there is no group ...") or what the system
/// says.
[[nodiscard]] absl::StatusOr<gid_t> group_id(const std::string& name);

/// FAILED_PRECONDITION ("it lies beneath the store, /STORE") for a mountpoint that lies beneath the
/// store or contains it: the tree would hide the pages that it is made of. Symbolic links are
/// followed as far as the paths exist.
[[nodiscard]] absl::Status check_apart(const std::filesystem::path& mountpoint,
                                       const std::filesystem::path& store);

}  // namespace blobcache::server
