#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/object_key.h"

namespace blobcache::tree {

struct CommittedBlob {
  page::ObjectKey key;
  uint64_t size_bytes = 0;
  bool existed = false;  ///< the blob was here already; the new copy took the old one's place
};

/// A put under way: hashes and writes what is appended, and becomes a blob in one step. Destroyed
/// before commit() has succeeded it leaves nothing behind. Bounded memory (under 16 MiB). One
/// thread at a time.
class BlobWriter {
 public:
  virtual ~BlobWriter() = default;

  /// As page::ObjectWriter::append.
  [[nodiscard]] virtual absl::Status append(absl::Span<const std::byte> bytes) = 0;

  /// The blob (and its name, if one was asked for) is durable and visible when this returns OK.
  /// With `expected`, DATA_LOSS when the digest is another one.
  [[nodiscard]] virtual absl::StatusOr<CommittedBlob> commit(
      const page::ObjectKey* expected = nullptr) = 0;
};

}  // namespace blobcache::tree
