#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/page/content_hash.h"
#include "store/page/impl/disk_tier.h"
#include "store/page/impl/object_file.h"

namespace blobcache::page {

class ObjectImpl;

/// Makes a damaged page map again from the object's file, for objects that nobody else has: reads
/// the file from end to end, and if its hash is the object's key, every page's checksum is known
/// anew. One object at a time, on a thread of its own, in the memory of one megabyte.
///
/// An object whose file does not match its key cannot be repaired; it is not tried again while it
/// is in use, so that its readers fail fast. Thread-safe. The line of objects is bounded by the
/// reads in flight.
class MapRepairer {
 public:
  using Repaired = absl::AnyInvocable<void(absl::Status)>;

  MapRepairer(DiskTier& disk, ContentHashFactory hash);
  ~MapRepairer();
  MapRepairer(const MapRepairer&) = delete;
  MapRepairer& operator=(const MapRepairer&) = delete;

  /// Calls `done` on the repairer's thread: OK when the map is whole again, else DATA_LOSS with the
  /// reason.
  void repair(std::shared_ptr<ObjectImpl> object, Repaired done);

 private:
  void run();
  [[nodiscard]] absl::Status repair_now(ObjectImpl& object);
  [[nodiscard]] absl::Status rebuild(ObjectImpl& object, const OpenFilesRef& files);
  /// Makes the map file again; an attempt that fails leaves the old one.
  [[nodiscard]] absl::Status rebuild_file(ObjectImpl& object, const OpenFilesRef& files);
  [[nodiscard]] absl::Status write_map(ObjectImpl& object, const OpenFiles& files, int fd);
  /// Reads the whole (open) file into `builder` and the hash; DATA_LOSS when the hash is not the
  /// object's key.
  [[nodiscard]] absl::Status scan(ObjectImpl& object, const OpenFiles& files,
                                  class MapBuilder& builder);

  DiskTier& disk_;
  const ContentHashFactory hash_;
  absl::Mutex mutex_;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::deque<std::shared_ptr<ObjectImpl>> line_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<uint64_t, std::vector<Repaired>> waiting_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace blobcache::page
