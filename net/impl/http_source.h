#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/types/span.h"
#include "net/impl/http_client.h"
#include "net/impl/http_range.h"
#include "store/page/object_key.h"
#include "store/page/source.h"

namespace blobcache::net {

/// One version of a file while somebody has it open. All who have it open at a time share it.
/// Thread-safe.
class HttpSource final : public page::Source {
 public:
  HttpSource(std::shared_ptr<HttpClient> client, std::shared_ptr<HttpTarget> target,
             const page::ObjectKey& key);

  [[nodiscard]] const HttpVersion& version() const { return target_->version; }
  [[nodiscard]] const page::ObjectKey& key() const { return key_; }
  /// The server has another version, so nothing more comes of this one.
  [[nodiscard]] bool is_over() const { return target_->is_over; }

  [[nodiscard]] std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                                             FetchDone done) override;
  [[nodiscard]] std::unique_ptr<Fetch> fetch_ahead(uint64_t offset, absl::Span<std::byte> into,
                                                   FetchDone done) override;

 private:
  [[nodiscard]] std::unique_ptr<Fetch> begin(uint64_t offset, absl::Span<std::byte> into,
                                             FetchDone done, bool is_ahead);

  const std::shared_ptr<HttpClient> client_;
  const std::shared_ptr<HttpTarget> target_;
  const page::ObjectKey key_;
};

}  // namespace blobcache::net
