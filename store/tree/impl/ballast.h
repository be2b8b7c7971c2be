#pragma once

#include <cstdint>
#include <filesystem>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace blobcache::tree {

/// Room on the file system that is held for the moment when there is no other: a file without
/// content whose blocks are allocated. To remove something the catalog must be written first, so
/// on a full disk the tool that frees room would fail for want of room. The file then goes, the
/// removal takes its place, and the file is made again once there is room.
///
/// It is a help, not a promise: another program may be quicker to take what was given up, and a
/// file system that allocates nothing before data is written holds nothing by it. Without room
/// there is no file, and that is no error.
///
/// Thread-safe. One for a store, whose lock its owner holds.
class Ballast {
 public:
  /// Some twenty changes of the catalog, if its write-ahead log grows by each.
  static constexpr uint64_t kBytes = uint64_t{1} << 20;

  /// Touches nothing as yet.
  explicit Ballast(std::filesystem::path file) : file_(std::move(file)) {}
  Ballast(const Ballast&) = delete;
  Ballast& operator=(const Ballast&) = delete;

  /// Makes the file, or what is missing of it. True when it is there, whole. Once it is, calls cost
  /// nothing.
  bool make() ABSL_LOCKS_EXCLUDED(mutex_);

  /// Removes the file.
  void give_up() ABSL_LOCKS_EXCLUDED(mutex_);

  /// Runs `change`, which makes room in the end; when there is no room for it (RESOURCE_EXHAUSTED),
  /// gives the ballast up and runs it once more. A failed run must have left nothing behind.
  [[nodiscard]] absl::Status with_room(absl::FunctionRef<absl::Status()> change)
      ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  const std::filesystem::path file_;
  absl::Mutex mutex_;
  bool made_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace blobcache::tree
