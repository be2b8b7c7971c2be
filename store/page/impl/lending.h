#pragma once

#include <atomic>
#include <cstdint>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "store/page/geometry.h"
#include "store/page/impl/extent_table.h"

namespace blobcache::page {

/// Whether an object's file may be read by others, past all checks: only what was compared with its
/// checksums after it was written, and is as it was then.
///
/// Which pages were is a word of each extent, and is forgotten with the object; that they all were
/// is looked up once. An object's file of which pages can go (ObjectImpl::in_cache()) keeps them
/// while it is lent: who would clear a page asks is_lent() under the extent's lock, and a borrower
/// says that he is one before he looks at the extents.
///
/// Thread-safe.
class Lending {
 public:
  enum class Answer : uint8_t {
    kWhole,     ///< every page is verified
    kInMemory,  ///< those that are not are in memory, so somebody wanted them; the disk has them
    kNo,
  };

  /// These pages came from the disk and were right. The caller holds the extent's lock, or what
  /// keeps them from being cleared. `written_ns` is when the file was last written to; of a file
  /// that changes by the store's own doing 0.
  void note_verified(Extent& extent, PageMask pages, int64_t written_ns) {
    int64_t first = kUnknown;
    // A file that somebody else wrote to is never lent again.
    if (!written_ns_.compare_exchange_strong(first, written_ns) && first != written_ns) return;
    extent.verified.fetch_or(pages, std::memory_order_relaxed);
  }
  /// These pages are bad, or gone. Under the extent's lock.
  void forget(Extent& extent, PageMask pages) {
    extent.verified.fetch_and(~pages, std::memory_order_relaxed);
    whole_.store(false, std::memory_order_release);
    lent_ns_.store(kUnknown, std::memory_order_relaxed);
  }
  /// Whether a file that changes by the store's own doing, and is whole, is as it was when it was
  /// first lent; `written_ns` is when it was last written to.
  [[nodiscard]] bool is_as_first_lent(int64_t written_ns) {
    int64_t first = kUnknown;
    return lent_ns_.compare_exchange_strong(first, written_ns) || first == written_ns;
  }
  /// When the file was last written to, as far as what was verified goes; kUnknown: nothing was.
  [[nodiscard]] int64_t written_ns() const { return written_ns_.load(std::memory_order_relaxed); }

  /// Looks at the extents of an object. Takes up to 20 ms for 100 GB, and at most a twentieth of
  /// the time of who asks again and again: sooner it is kNo.
  [[nodiscard]] Answer look(const ExtentTable& extents, uint64_t size_bytes) {
    if (whole_.load(std::memory_order_acquire)) return Answer::kWhole;
    const int64_t begin = absl::GetCurrentTimeNanos();
    if (begin < next_look_ns_.load(std::memory_order_relaxed)) return Answer::kNo;
    const Answer answer = look_now(extents, size_bytes);
    if (answer == Answer::kWhole) whole_.store(true, std::memory_order_release);
    const int64_t end = absl::GetCurrentTimeNanos();
    next_look_ns_.store(end + kRest * (end - begin), std::memory_order_relaxed);
    return answer;
  }

  void borrow() { borrowers_.fetch_add(1, std::memory_order_seq_cst); }
  void give_back() { borrowers_.fetch_sub(1, std::memory_order_seq_cst); }
  [[nodiscard]] bool is_lent() const { return borrowers_.load(std::memory_order_seq_cst) != 0; }

  static constexpr int64_t kUnknown = -1;

 private:
  static constexpr int64_t kRest = 20;

  [[nodiscard]] static Answer look_now(const ExtentTable& extents, uint64_t size_bytes) {
    Answer answer = Answer::kWhole;
    for (uint64_t index = 0; index < page::extent_count(size_bytes); ++index) {
      const Extent* extent = extents.find(index);
      if (extent == nullptr) return Answer::kNo;
      PageMask missing = pages_of_extent(index, size_bytes) & ~extent->verified.load();
      if (extent->map_loaded.load(std::memory_order_acquire)) missing &= ~extent->zero.load();
      if (missing == 0) continue;
      if ((missing & ~extent->in_memory.load()) != 0) return Answer::kNo;
      answer = Answer::kInMemory;
    }
    return answer;
  }

  std::atomic<bool> whole_{false};
  std::atomic<int64_t> written_ns_{kUnknown};
  std::atomic<int64_t> lent_ns_{kUnknown};
  std::atomic<int64_t> next_look_ns_{0};
  std::atomic<uint32_t> borrowers_{0};
};

}  // namespace blobcache::page
