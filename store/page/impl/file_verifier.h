#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/geometry.h"
#include "store/page/impl/aligned_memory.h"
#include "store/page/impl/map_cache.h"

namespace blobcache::page {

class ObjectImpl;
struct StoreCore;

/// Reads from disk the pages of an object that only memory vouches for, and compares them with
/// their checksums, so that the object's file can be lent (see Lending). A put, or a fetch from a
/// source, leaves such pages: what was written was not read back.
///
/// One object at a time, on a thread of its own that holds back while readers' fetches are under
/// way. What is not verified by then, as a page is missing or bad, stays as it is. Thread-safe.
class FileVerifier {
 public:
  explicit FileVerifier(StoreCore& core) : core_(core) {}
  ~FileVerifier() { stop(); }
  FileVerifier(const FileVerifier&) = delete;
  FileVerifier& operator=(const FileVerifier&) = delete;

  /// Does not wait. An object that waits its turn already is not queued again, and none is when
  /// kMost wait.
  void request(std::shared_ptr<ObjectImpl> object) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Ends the thread, soon; what waits is dropped. Idempotent.
  void stop() ABSL_LOCKS_EXCLUDED(mutex_);

  static constexpr size_t kMost = 256;

 private:
  void run() ABSL_LOCKS_EXCLUDED(mutex_);
  void verify(const std::shared_ptr<ObjectImpl>& object);
  /// False when there is no sense in going on with this object.
  [[nodiscard]] bool verify_extent(ObjectImpl& object, uint64_t index, const MapBlock& block);
  [[nodiscard]] bool verify_run(ObjectImpl& object, uint64_t index, PageMask run,
                                const MapBlock& block);
  [[nodiscard]] absl::StatusOr<MapCache::Block> load_block(
      const std::shared_ptr<ObjectImpl>& object, uint64_t number);
  [[nodiscard]] bool ending() const ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::ReaderMutexLock lock(&mutex_);
    return ending_;
  }

  StoreCore& core_;
  AlignedMemory buffer_;  ///< the thread's
  mutable absl::Mutex mutex_;
  std::deque<std::shared_ptr<ObjectImpl>> waiting_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_set<uint64_t> queued_ ABSL_GUARDED_BY(mutex_);  ///< ObjectImpl::id()
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
