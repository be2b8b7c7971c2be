#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "store/page/source.h"

namespace blobcache::page {

/// A source that makes its bytes up, at the speed of memory: no page is like another, and none is
/// all zeros. Thread-safe.
class BenchSource final : public Source {
 public:
  explicit BenchSource(uint64_t seed) : seed_(seed) {}
  [[nodiscard]] std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                                             FetchDone done) override;

 private:
  const uint64_t seed_;
};

}  // namespace blobcache::page
