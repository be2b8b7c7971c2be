#pragma once

#include <atomic>
#include <cstdint>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/volume/impl/journal.h"

namespace blobcache::volume {

/// How long a volume is, and how much of its base is seen through it. Of an image neither changes
/// but for grow(); a file volume's change with every append and truncation, and are told to the
/// journal in order with the states of pages.
///
/// A file that is shortened is so at once: the length and what it sees of the base go down, and
/// only then its pages beyond are made zero, by a FileCleaner. Until that is done the file is
/// *stale*: it must not become longer, since what was cut off would show. Every writer looks under
/// the lock of the extent that it writes to, and the cleaner takes the lock of every extent beyond
/// the end after the length went down. So a write has either seen that, or is cleaned away.
///
/// Thread-safe. `mutex_` is taken after an extent's lock, and before the journal's.
class FileLength {
 public:
  struct Value {
    uint64_t bytes = 0;
    uint64_t base_bytes = 0;  ///< at most `bytes`, in a file
    bool is_stale = false;    ///< beyond the end there may be something else than zeros
  };

  FileLength(Journal& journal, const Value& value)
      : journal_(journal),
        bytes_(value.bytes),
        base_bytes_(value.base_bytes),
        is_stale_(value.is_stale) {}
  FileLength(const FileLength&) = delete;
  FileLength& operator=(const FileLength&) = delete;

  [[nodiscard]] uint64_t bytes() const { return bytes_.load(); }
  [[nodiscard]] uint64_t base_bytes() const { return base_bytes_.load(); }
  /// Whether a write that ends at `end` needs the file cleaned first. With an extent's lock held.
  [[nodiscard]] bool must_be_cleaned(uint64_t end) const {
    return end > bytes() && is_stale_.load();
  }

  /// Calls `look` with what is now, and with nothing changing until it returns.
  template <typename Look>
  auto visit(const Look& look) const ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    return look(now());
  }
  /// Of an image that has grown, or a file that was recovered: what the header says.
  void set(const Value& value) ABSL_LOCKS_EXCLUDED(mutex_);

  /// Tells the journal of `state`, which may be absent, and of the new length if the file now ends
  /// at `end`, where bytes were written. The extent's lock is held since before must_be_cleaned()
  /// was asked, with false as its answer. After an error neither is told.
  [[nodiscard]] absl::Status wrote(const Record* state, uint64_t end) ABSL_LOCKS_EXCLUDED(mutex_);

  enum class Change : uint8_t {
    kDone,
    kCleanNow,    ///< is shorter, and to be cleaned
    kCleanFirst,  ///< nothing is changed; to be cleaned, and asked again
    kFailed,      ///< nothing is changed: `why`
  };
  /// The file is to be `bytes` long; `only_grows`: if it is shorter. There is room in the journal.
  [[nodiscard]] Change set_length(uint64_t bytes, bool only_grows, absl::Status& why)
      ABSL_LOCKS_EXCLUDED(mutex_);

  /// What has to be cleaned: all from `begin` on. Value type.
  struct Cleaning {
    bool is_needed = false;
    uint64_t begin = 0;
    uint64_t number = 0;
  };
  [[nodiscard]] Cleaning begin_cleaning() const ABSL_LOCKS_EXCLUDED(mutex_);
  /// It is cleaned, unless it has become stale anew since.
  void end_cleaning(const Cleaning& cleaning) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  [[nodiscard]] Value now() const { return {bytes_.load(), base_bytes_.load(), is_stale_.load()}; }
  [[nodiscard]] Record record_of(uint64_t bytes) const;

  Journal& journal_;
  mutable absl::Mutex mutex_;
  // Changed under mutex_.
  std::atomic<uint64_t> bytes_;
  std::atomic<uint64_t> base_bytes_;
  std::atomic<bool> is_stale_;
  uint64_t times_stale_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace blobcache::volume
