#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace blobcache::base {

// Debian builds Abseil with a string_view of its own that std::string_view does not convert to or
// from. These few functions are where the two meet; the rest of the code says std::string_view and
// fmt::format.

/// A status's message, valid as long as the status.
[[nodiscard]] inline std::string_view message(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

/// The status that an errno value means, with "what: <strerror>" as its message (ENOSPC and EDQUOT
/// are RESOURCE_EXHAUSTED, ENOENT is NOT_FOUND and so on, as absl::ErrnoToStatus has it).
[[nodiscard]] absl::Status errno_error(int error, std::string_view what);

/// The same status with "what: " before its message. OK stays OK.
[[nodiscard]] absl::Status annotate(const absl::Status& status, std::string_view what);

/// An error with the place that it is about, a byte's offset in what is read or written, for doors
/// that answer with places. OK stays OK; annotate() takes it away.
[[nodiscard]] absl::Status at_offset(absl::Status status, uint64_t offset);
/// That place, if the error tells one.
[[nodiscard]] std::optional<uint64_t> offset_of(const absl::Status& status);

/// An error of something that was done in part: so many bytes from its beginning. annotate() takes
/// it away.
[[nodiscard]] absl::Status partly_done(absl::Status status, uint64_t bytes);
/// How many; 0 where the error does not tell.
[[nodiscard]] uint64_t bytes_done_of(const absl::Status& status);

/// An error that is this errno for whoever made a system call of ours: a door gives it as it is,
/// where the status's code alone would say less (ENOTEMPTY, EISDIR). Not for an error of a system
/// call that we made ourselves, which is errno_error(). The code is what errno_error() has.
[[nodiscard]] absl::Status posix_error(int error, std::string_view message);
/// That errno, if the error has one.
[[nodiscard]] std::optional<int> posix_errno_of(const absl::Status& status);

/// An absl::Status of `code` made from a std::string_view.
[[nodiscard]] absl::Status error(absl::StatusCode code, std::string_view message);

}  // namespace blobcache::base

/// Returns from the calling function when `expression` (an absl::Status) is not OK.
#define BLOBCACHE_RETURN_IF_ERROR(expression)                 \
  do {                                                        \
    if (absl::Status status_ = (expression); !status_.ok()) { \
      return status_;                                         \
    }                                                         \
  } while (false)

#define BLOBCACHE_STATUS_JOIN_(a, b) a##b
#define BLOBCACHE_STATUS_NAME_(a, b) BLOBCACHE_STATUS_JOIN_(a, b)

/// Declares or assigns `left` from `expression` (an absl::StatusOr), or returns its error.
#define BLOBCACHE_ASSIGN_OR_RETURN(left, expression) \
  BLOBCACHE_ASSIGN_OR_RETURN_(BLOBCACHE_STATUS_NAME_(status_or_, __LINE__), left, expression)
#define BLOBCACHE_ASSIGN_OR_RETURN_(temporary, left, expression) \
  auto temporary = (expression);                                 \
  if (!temporary.ok()) return std::move(temporary).status();     \
  left = std::move(temporary).value()
