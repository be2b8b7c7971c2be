#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "net/dir_origin.h"

namespace blobcache::server {

/// Keeps directory origins from what is this daemon's own: its mounts, where it would wait for
/// itself, and its store, whose files are nobody's to read. Links and bind mounts lead past
/// neither.
///
/// Thread-safe.
class LoopGuard final : public net::DirGuard {
 public:
  /// What is mounted now.
  struct Mounts {
    std::vector<std::filesystem::path> mountpoints;
    std::vector<dev_t> devices;
  };
  using ListMounts = std::function<Mounts()>;

  explicit LoopGuard(std::filesystem::path store) : store_(std::move(store)) {}

  /// Absent: there are none. When this returns, the former one is not called any more.
  void set_mounts(ListMounts list) ABSL_LOCKS_EXCLUDED(mutex_);

  [[nodiscard]] absl::Status check_path(const std::string& path) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::Status check_directory(int directory) override ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  [[nodiscard]] absl::Status check_store(int directory) const;

  const std::filesystem::path store_;
  absl::Mutex mutex_;
  ListMounts list_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::server
