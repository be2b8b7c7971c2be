#include "base/status.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <optional>

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

}  // namespace blobcache::base
