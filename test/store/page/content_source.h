#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "store/page/source.h"

namespace blobcache::page {

/// A source that has the bytes at hand, and counts what is asked of it.
class ContentSource final : public Source {
 public:
  explicit ContentSource(std::vector<std::byte> content) : content_(std::move(content)) {}

  std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                               FetchDone done) override {
    std::copy_n(content_.begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
    ++fetches;
    bytes += into.size();
    done(absl::OkStatus());
    return nullptr;
  }
  [[nodiscard]] const std::vector<std::byte>& content() const { return content_; }

  std::atomic<int> fetches{0};
  std::atomic<uint64_t> bytes{0};

 private:
  const std::vector<std::byte> content_;
};

}  // namespace blobcache::page
