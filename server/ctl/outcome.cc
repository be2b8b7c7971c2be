#include "server/ctl/outcome.h"

#include <fmt/format.h>

#include "base/status.h"

namespace blobcache::ctl {
namespace {

constexpr std::string_view kCannotReach = "cannot reach ";

/// The daemon's messages name their subject ("files/a: no such file"), as ours have done already.
std::string_view without_subject(std::string_view message, std::string_view what) {
  const size_t colon = message.find(": ");
  if (colon == std::string_view::npos) return message;
  const std::string_view subject = message.substr(0, colon);
  const bool named = what.ends_with(subject) && what.size() > subject.size() &&
                     what[what.size() - subject.size() - 1] == ' ';
  return named ? message.substr(colon + 2) : message;
}

}  // namespace

Outcome Outcome::failed(std::string_view what, const absl::Status& why) {
  if (absl::IsUnavailable(why) && base::message(why).starts_with(kCannotReach)) {
    return {ExitStatus::kUnreachable, std::string(base::message(why))};
  }
  const std::string_view hint = absl::IsUnauthenticated(why) ? " (see --token-file)" : "";
  return {ExitStatus::kFailed,
          fmt::format("{}: {}{}", what, without_subject(base::message(why), what), hint)};
}

Outcome Outcome::usage(std::string_view what, std::string_view why) {
  return {ExitStatus::kUsage, fmt::format("{}: {}", what, why)};
}

absl::Status unreachable(std::string_view endpoint, std::string_view why) {
  return base::error(absl::StatusCode::kUnavailable,
                     fmt::format("{}{}: {}", kCannotReach, endpoint, why));
}

}  // namespace blobcache::ctl
