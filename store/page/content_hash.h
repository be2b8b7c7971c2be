#pragma once

#include <cstddef>
#include <functional>
#include <memory>

#include "absl/types/span.h"
#include "store/page/object_key.h"

namespace blobcache::page {

/// The hash that an object's key is made of: for blobs, SHA-256. store/page knows none; who makes
/// the keys hands it in. One thread at a time.
class ContentHash {
 public:
  virtual ~ContentHash() = default;
  virtual void update(absl::Span<const std::byte> bytes) = 0;
  /// The key of all that came in. The hash is used up.
  [[nodiscard]] virtual ObjectKey finish() = 0;
};

using ContentHashFactory = std::function<std::unique_ptr<ContentHash>()>;

}  // namespace blobcache::page
