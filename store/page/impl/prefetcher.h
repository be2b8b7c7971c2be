#pragma once

#include <cstdint>
#include <memory>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/page/impl/prefetch_ledger.h"
#include "store/page/page_store.h"
#include "store/page/readahead.h"

namespace blobcache::page {

class ObjectImpl;
struct StoreCore;

/// What one object's readers are expected to ask for. Thread-safe.
struct ObjectReadahead {
  ObjectReadahead(uint64_t size_bytes, uint64_t max_window) : readahead(size_bytes, max_window) {}

  absl::Mutex mutex;
  Readahead readahead ABSL_GUARDED_BY(mutex);
  uint64_t evictions ABSL_GUARDED_BY(mutex) = 0;  ///< as many it was told of
};

/// Brings what Readahead advises into memory (and, from a source, to the disk), for all doors and
/// objects: within one budget of bytes that are on their way or unread, and in lanes of admission
/// that every other read overtakes.
///
/// It is told of the reads that miss, and of the first that come to pages which were brought so
/// (Extent::unread): those move a stream on whose reads are all hits, and the others are as quick
/// as ever. Thread-safe.
class Prefetcher {
 public:
  /// An object up to this size is read by one request or two.
  static constexpr uint64_t kSmall = uint64_t{128} << 10;

  Prefetcher(const PrefetchOptions& options, uint64_t memory_bytes, PrefetchLedger& ledger);

  [[nodiscard]] bool watches(const ObjectImpl& object) const;
  /// Somebody reads of an object that is watched. Begins what follows from it, and waits for
  /// nothing.
  void on_read(StoreCore& core, ObjectImpl& object, Readahead::Read read);

 private:
  /// How many bytes more may be ahead of one reader.
  [[nodiscard]] uint64_t room_for(PrefetchLedger::From from) const;
  static void bring(StoreCore& core, const std::shared_ptr<ObjectImpl>& object,
                    const Readahead::Stretch& stretch);

  const bool enabled_;
  const uint64_t max_window_;
  const uint64_t budget_;
  PrefetchLedger& ledger_;
};

}  // namespace blobcache::page
