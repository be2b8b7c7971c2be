#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "store/page/object.h"

namespace blobcache::server {

/// How an object is read from end to end. Value type.
struct StreamOptions {
  uint64_t offset = 0;  ///< [offset, offset + length) must lie within the object
  uint64_t length = 0;
  /// So many reads of page::Object::kMaxRead are under way at a time: so much memory is taken, and
  /// a source is asked for so much side by side. At least 1.
  size_t reads = 8;
};

/// Takes the next bytes, in the object's order. An error ends the stream with it.
using TakeBytes = absl::FunctionRef<absl::Status(absl::Span<const std::byte> bytes)>;
/// Asked ten times a second and after each read: false ends the stream.
using GoesOn = absl::FunctionRef<bool()>;

/// Reads a range of an object in order, several reads side by side. What arrives before its turn is
/// copied out, so that no frame is held for longer than a moment, however slow what comes before it
/// is. When it returns nothing is under way any more. CANCELLED when it must not go on, else the
/// first error. Blocks; for one thread.
[[nodiscard]] absl::Status stream_object(page::Object& object, const StreamOptions& options,
                                         TakeBytes take, GoesOn goes_on);

}  // namespace blobcache::server
