#include "store/volume/impl/base_holes.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "store/page/object.h"
#include "store/volume/image.h"
#include "store/volume/impl/run_list.h"

namespace blobcache::volume {
namespace {

/// What the base told, from its beginning to its end, once.
class BaseAnswer {
 public:
  BaseAnswer(Stretch asked, absl::Span<const page::MapRun> runs)
      : runs_(runs), at_(asked.offset), end_(asked.offset + asked.length) {}

  /// Whether the byte at `offset`, not before that of an earlier call, is told, or beyond what was
  /// asked.
  [[nodiscard]] bool reach(uint64_t offset) {
    while (offset >= at_ && next_ < runs_.size()) {
      is_zero_ = runs_[next_].place == page::Place::kZero;
      at_ += runs_[next_].length;
      ++next_;
    }
    return offset < at_ || at_ >= end_;
  }
  /// As the byte of the last reach().
  [[nodiscard]] Run::Kind kind() const { return is_zero_ ? Run::Kind::kZero : Run::Kind::kBase; }
  /// Where that ends. What is beyond the base's end is as what was before it.
  [[nodiscard]] uint64_t end() const { return at_ >= end_ ? UINT64_MAX : at_; }

 private:
  const absl::Span<const page::MapRun> runs_;
  size_t next_ = 0;
  uint64_t at_;  // the end of the run before `next_`
  const uint64_t end_;
  bool is_zero_ = false;
};

}  // namespace

Stretch base_stretch(absl::Span<const Run> runs, uint64_t offset, uint64_t base_bytes) {
  Stretch stretch;
  uint64_t end = 0;
  for (const Run& run : runs) {
    if (run.kind == Run::Kind::kBase && offset < base_bytes) {
      if (end == 0) stretch.offset = offset;
      end = std::min(offset + run.length_bytes, base_bytes);
    }
    offset += run.length_bytes;
  }
  if (end != 0) stretch.length = end - stretch.offset;
  return stretch;
}

std::vector<Run> with_base_holes(absl::Span<const Run> runs, uint64_t offset, Stretch asked,
                                 absl::Span<const page::MapRun> base, size_t max_runs) {
  RunList told(max_runs);
  BaseAnswer answer(asked, base);
  for (const Run& run : runs) {
    const uint64_t end = offset + run.length_bytes;
    if (run.kind != Run::Kind::kBase) {
      if (!told.add(run.kind, run.length_bytes)) return told.take();
      offset = end;
      continue;
    }
    while (offset < end) {
      if (!answer.reach(offset)) return told.take();
      const uint64_t stop = std::min(end, answer.end());
      if (!told.add(answer.kind(), stop - offset)) return told.take();
      offset = stop;
    }
  }
  return told.take();
}

}  // namespace blobcache::volume
