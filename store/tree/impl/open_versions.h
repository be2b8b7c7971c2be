#pragma once

#include <deque>
#include <memory>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/page/page_store.h"
#include "store/tree/impl/lent_source.h"
#include "store/tree/origin.h"
#include "store/volume/image.h"

namespace blobcache::tree {

/// Versions of origins' files, and origins' images, that somebody has open: one object, one image,
/// for all who do. When the last one lets go, the origin's source is let go of, and of a version
/// that is not lasting everything that the tiers hold is forgotten, on a thread of this class,
/// since the last holder may be any thread. What could not be forgotten yet, or stays after a kill,
/// is under a random key that nobody will ever ask for, and is evicted like anything unused.
///
/// Thread-safe. What it gave may outlive it, but not the page store.
class OpenVersions {
 public:
  explicit OpenVersions(page::PageStore& store);
  /// Forgets what is to be forgotten.
  ~OpenVersions();
  OpenVersions(const OpenVersions&) = delete;
  OpenVersions& operator=(const OpenVersions&) = delete;

  /// Both read a page of the disk at most.
  [[nodiscard]] page::ObjectRef open(OriginFile file);
  /// `file` is an image.
  [[nodiscard]] std::shared_ptr<volume::Image> open_image(OriginFile file);

 private:
  /// What the last holder lets go.
  struct Left {
    page::ObjectRef object;
    std::shared_ptr<LentSource> source;
  };
  /// Shared with what was given away.
  struct State {
    absl::Mutex mutex;
    absl::flat_hash_map<page::ObjectKey, std::weak_ptr<page::Object>> objects
        ABSL_GUARDED_BY(mutex);
    absl::flat_hash_map<page::ObjectKey, std::weak_ptr<volume::Image>> images
        ABSL_GUARDED_BY(mutex);
    /// No longer than as much as was open at once.
    std::deque<Left> to_forget ABSL_GUARDED_BY(mutex);
    bool ended ABSL_GUARDED_BY(mutex) = false;

    void let_go(Left left, bool lasting) ABSL_LOCKS_EXCLUDED(mutex);
    [[nodiscard]] bool is_open(const page::ObjectKey& key) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  };

  [[nodiscard]] page::ObjectRef attach(const OriginFile& file)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(state_->mutex);
  void run();
  void forget(Left left);

  page::PageStore& store_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();
  std::thread thread_;
};

}  // namespace blobcache::tree
