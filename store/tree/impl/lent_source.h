#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "store/page/source.h"

namespace blobcache::tree {

/// An origin's source for as long as somebody has the object open. The page store may remember an
/// object, and with it the source, for longer; what it has then is this, empty, so that the origin
/// can close what nobody uses. Fetches that are under way keep the origin's source until they are
/// over. Thread-safe.
class LentSource final : public page::Source {
 public:
  explicit LentSource(std::shared_ptr<page::Source> source) : source_(std::move(source)) {}

  /// As page::Source; CANCELLED once it was given back.
  [[nodiscard]] std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                                             FetchDone done) override ABSL_LOCKS_EXCLUDED(mutex_);
  void give_back() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Mutex mutex_;
  std::shared_ptr<page::Source> source_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::tree
