#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/synchronization/notification.h"
#include "base/unique_fd.h"
#include "fusefs/mount.h"
#include "store/page/page_store.h"
#include "test/fusefs/fake_tree.h"
#include "test/fusefs/temp_dir.h"

namespace blobcache::fusefs {

/// Whether this machine lets us mount; says so, for ctest, when not.
[[nodiscard]] bool can_mount();

/// A real mount of a fake tree over a real page store, in a directory of its own.
class MountedTree {
 public:
  /// Timeouts are an hour, so that nothing becomes right by their passing.
  MountedTree() : MountedTree([](MountOptions&) {}) {}
  explicit MountedTree(const std::function<void(MountOptions&)>& adjust);
  ~MountedTree();
  MountedTree(const MountedTree&) = delete;
  MountedTree& operator=(const MountedTree&) = delete;

  [[nodiscard]] static MountOptions options_for(const std::filesystem::path& mountpoint);

  [[nodiscard]] FakeTree& tree() { return tree_; }
  [[nodiscard]] Mount& mount() { return *mount_; }
  [[nodiscard]] page::PageStore& store() { return *store_; }
  [[nodiscard]] std::filesystem::path at(std::string_view path) const { return mountpoint_ / path; }
  void wait_for_end() { ended_.WaitForNotification(); }
  [[nodiscard]] bool ended() const { return ended_.HasBeenNotified(); }
  /// Destroys the mount; the tree and the store stay.
  void destroy_mount() { mount_.reset(); }

 private:
  TempDir dir_;
  std::filesystem::path mountpoint_;
  std::unique_ptr<page::PageStore> store_;
  FakeTree tree_;
  absl::Notification ended_;
  std::unique_ptr<Mount> mount_;
};

/// An open file; a failed open fails the test.
[[nodiscard]] base::UniqueFd open_file(const std::filesystem::path& path, int flags = O_RDONLY);

/// pread(2) of up to `length` bytes; an error is "errno N".
[[nodiscard]] std::string read_at(int fd, uint64_t offset, uint64_t length);

/// The errno of a call that returned -1 to say so; 0 for any other value.
[[nodiscard]] int error_of(int64_t result);

}  // namespace blobcache::fusefs
