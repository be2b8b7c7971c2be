#include "base/status.h"

#include <fmt/format.h>

#include <cerrno>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/types/optional.h"

namespace blobcache::base {
namespace {

constexpr const char* kOffsetPayload = "blobcache/offset";

}  // namespace

absl::Status errno_error(int error, std::string_view what) {
  // Not RESOURCE_EXHAUSTED, which says that the store is full: it passes, and nothing of it is.
  if (error == EMFILE || error == ENFILE) {
    return absl::UnavailableError(fmt::format("{}: too many open files", what));
  }
  return absl::ErrnoToStatus(error, absl::string_view(what.data(), what.size()));
}

absl::Status annotate(const absl::Status& status, std::string_view what) {
  if (status.ok()) return status;
  return absl::Status(status.code(), fmt::format("{}: {}", what, message(status)));
}

absl::Status at_offset(absl::Status status, uint64_t offset) {
  const std::string text = fmt::format("{}", offset);
  // Not of a std::string: clang and g++ have different names for that constructor, a template.
  status.SetPayload(kOffsetPayload, absl::Cord(absl::string_view(text.data(), text.size())));
  return status;
}

std::optional<uint64_t> offset_of(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kOffsetPayload);
  if (!payload) return std::nullopt;
  return std::stoull(std::string(*payload));
}

absl::Status error(absl::StatusCode code, std::string_view message) {
  return absl::Status(code, absl::string_view(message.data(), message.size()));
}

}  // namespace blobcache::base
