#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/ctl/outcome.h"

namespace blobcache::ctl {

/// Understands the arguments (without the program's name) and does what they say. Output goes to
/// standard output; the outcome's message is left for the caller to print.
[[nodiscard]] Outcome run(const std::vector<std::string>& arguments);

/// The script that gives a shell ("bash", "zsh" or "fish") completion for this program.
/// INVALID_ARGUMENT for another shell.
[[nodiscard]] absl::StatusOr<std::string> completion_script(const std::string& shell);

}  // namespace blobcache::ctl
