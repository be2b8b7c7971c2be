#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace blobcache::ctl {

/// The program's exit statuses, as blobcachectl(1) promises them. A program that a signal ends
/// would have 128 + the signal's number; so do ours that tidy up first.
enum class ExitStatus : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kUnreachable = 3,
  kBrokenPipe = 141,
};

/// How a command ended: a status and the one line for stderr, without the program's name (empty:
/// nothing is left to say). Value type.
struct [[nodiscard]] Outcome {
  ExitStatus exit = ExitStatus::kDone;
  std::string message;

  [[nodiscard]] static Outcome done() { return {}; }
  /// "what: why". A status that says "cannot reach ..." is about the daemon, not about `what`.
  [[nodiscard]] static Outcome failed(std::string_view what, const absl::Status& why);
  /// The command line can never be right.
  [[nodiscard]] static Outcome usage(std::string_view what, std::string_view why);
  /// Whoever read our standard output has gone. Nothing is said, as with any filter.
  [[nodiscard]] static Outcome broken_pipe() { return {ExitStatus::kBrokenPipe, ""}; }
};

/// UNAVAILABLE, worded so that Outcome::failed knows it: "cannot reach ENDPOINT: why".
[[nodiscard]] absl::Status unreachable(std::string_view endpoint, std::string_view why);

}  // namespace blobcache::ctl
