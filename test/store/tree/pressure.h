#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "test/store/page/content_source.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {

/// Everything that wants the disk, at once and for a number of steps: puts with names, names and
/// blobs that are removed, blobs without names that expire, and reads of what a source brings. Each
/// thread knows what it has been promised, and looks; nothing but "no room" may be refused.
///
/// run() once, then verify() as often as wanted, also after the store was opened again.
class Pressure {
 public:
  /// `tree` outlives it.
  Pressure(TreeFixture& tree, uint32_t seed);

  /// `meanwhile` is called over and over on this thread; false from it counts as a failure.
  void run(int steps, const std::function<bool()>& meanwhile);
  /// Every promised byte by its digest, nothing else under files/, and the accounts as the disk.
  void verify();

  /// What was not as promised, a line each.
  [[nodiscard]] std::string failures();
  /// Puts that were refused for want of room, and that went.
  [[nodiscard]] int refused() const { return refused_.load(); }
  [[nodiscard]] int stored() const { return stored_.load(); }

 private:
  /// What a thread's names mean: the digest of each.
  using Promises = std::map<std::string, page::ObjectKey>;

  void use_names(size_t thread, int steps);
  void put_named(Promises& promises, const std::string& path, const std::string& content);
  void remove_named(Promises& promises, const std::string& path);
  void use_unnamed(int steps);
  void use_source(size_t thread, int steps);
  /// Whether what `path` means is what was promised, byte for byte.
  [[nodiscard]] bool holds(const std::string& path, const page::ObjectKey& promised);
  void check(bool good, std::string_view what) ABSL_LOCKS_EXCLUDED(mutex_);
  void check_went(const absl::Status& status);

  TreeFixture& tree_;
  const uint32_t seed_;
  std::vector<Promises> promises_;
  std::vector<std::shared_ptr<page::ContentSource>> sources_;
  absl::Mutex mutex_;
  std::string failures_ ABSL_GUARDED_BY(mutex_);
  std::atomic<int> refused_{0};
  std::atomic<int> stored_{0};
};

/// What the disk holds of objects, in whole pages: data and page maps of blobs, of what sources
/// brought, and of what is being written.
[[nodiscard]] uint64_t pages_on_disk(const std::filesystem::path& store);

}  // namespace blobcache::tree
