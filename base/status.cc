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
constexpr const char* kErrnoPayload = "blobcache/errno";
constexpr const char* kDonePayload = "blobcache/done";

void set_number(absl::Status& status, const char* payload, uint64_t number) {
  const std::string text = fmt::format("{}", number);
  // Not of a std::string: clang and g++ have different names for that constructor, a template.
  status.SetPayload(payload, absl::Cord(absl::string_view(text.data(), text.size())));
}

std::optional<uint64_t> number_of(const absl::Status& status, const char* payload) {
  const absl::optional<absl::Cord> number = status.GetPayload(payload);
  if (!number) return std::nullopt;
  return std::stoull(std::string(*number));
}

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
  set_number(status, kOffsetPayload, offset);
  return status;
}

std::optional<uint64_t> offset_of(const absl::Status& status) {
  return number_of(status, kOffsetPayload);
}

absl::Status partly_done(absl::Status status, uint64_t bytes) {
  if (!status.ok()) set_number(status, kDonePayload, bytes);
  return status;
}

uint64_t bytes_done_of(const absl::Status& status) {
  return number_of(status, kDonePayload).value_or(0);
}

absl::Status posix_error(int error, std::string_view message) {
  absl::Status status = base::error(absl::ErrnoToStatusCode(error), message);
  set_number(status, kErrnoPayload, static_cast<uint64_t>(error));
  return status;
}

std::optional<int> posix_errno_of(const absl::Status& status) {
  const std::optional<uint64_t> number = number_of(status, kErrnoPayload);
  if (!number) return std::nullopt;
  return static_cast<int>(*number);
}

absl::Status error(absl::StatusCode code, std::string_view message) {
  return absl::Status(code, absl::string_view(message.data(), message.size()));
}

}  // namespace blobcache::base
