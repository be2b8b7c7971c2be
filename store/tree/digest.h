#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/content_hash.h"
#include "store/page/object_key.h"

namespace blobcache::tree {

/// A running SHA-256 (OpenSSL). One thread at a time.
class Sha256 final : public page::ContentHash {
 public:
  Sha256();
  ~Sha256() override;
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void update(absl::Span<const std::byte> bytes) override;
  /// The digest of all that came in. The object is used up.
  [[nodiscard]] page::ObjectKey finish() override;

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

/// "sha256:<64 hex>".
[[nodiscard]] std::string format_digest(const page::ObjectKey& key);

/// Reads "sha256:<64 hex>" or bare 64 hex digits (either case). INVALID_ARGUMENT with the reason
/// otherwise.
[[nodiscard]] absl::StatusOr<page::ObjectKey> parse_digest(std::string_view text);

}  // namespace blobcache::tree
