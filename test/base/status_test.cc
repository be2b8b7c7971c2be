#include "base/status.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <cstdint>
#include <optional>
#include <utility>

namespace blobcache::base {

TEST_CASE("status: an error may tell its place") {
  const absl::Status plain = absl::DataLossError("gone");
  CHECK(offset_of(plain) == std::nullopt);
  CHECK(offset_of(absl::OkStatus()) == std::nullopt);
  for (const uint64_t offset : {uint64_t{0}, uint64_t{20480}, UINT64_MAX}) {
    const absl::Status placed = at_offset(plain, offset);
    CHECK(offset_of(placed) == offset);
    CHECK(absl::IsDataLoss(placed));
    CHECK(message(placed) == "gone");
    // Of another thing, it may be at another place.
    CHECK(offset_of(annotate(placed, "the whole")) == std::nullopt);
  }
  CHECK(at_offset(absl::OkStatus(), 1).ok());
}

TEST_CASE(
    "status: an error for a system call's caller keeps its errno, and the code that goes with it") {
  CHECK(posix_errno_of(absl::NotFoundError("gone")) == std::nullopt);
  for (const auto& [number, code] : {std::pair{ENOTEMPTY, absl::StatusCode::kFailedPrecondition},
                                     std::pair{EEXIST, absl::StatusCode::kAlreadyExists},
                                     std::pair{ENOENT, absl::StatusCode::kNotFound},
                                     std::pair{ENOSPC, absl::StatusCode::kResourceExhausted}}) {
    const absl::Status status = posix_error(number, "files/a: why");
    CHECK(posix_errno_of(status) == number);
    CHECK(status.code() == code);
    CHECK(message(status) == "files/a: why");
  }
}

TEST_CASE("status: an error may tell how much was done") {
  CHECK(bytes_done_of(absl::ResourceExhaustedError("full")) == 0);
  CHECK(bytes_done_of(partly_done(absl::ResourceExhaustedError("full"), 4096)) == 4096);
  CHECK(partly_done(absl::OkStatus(), 7).ok());
}

}  // namespace blobcache::base
