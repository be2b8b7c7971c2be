#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/tree/namespace.h"

namespace blobcache::server {

/// What is to be imported. Value type.
struct ImportWish {
  std::string path;                         ///< "origins/NAME/...", a file
  std::string bind;                         ///< "files/..." to bind in the same step, or empty
  std::optional<page::ObjectKey> expected;  ///< the SHA-256 that the content must have

  friend bool operator==(const ImportWish&, const ImportWish&) = default;
};

/// Told a few times a second how far an import is, in bytes; false: nobody wants it any more.
using ImportProgress = absl::FunctionRef<bool(uint64_t done, uint64_t total)>;

/// Makes blobs of origins' files: reads one version whole through the page store, which asks the
/// origin for several stretches side by side and remembers what it brought, and puts it.
///
/// Who wishes for what is under way already, the same version under the same name, shares that; it
/// ends when the last one has gone. Others are imports of their own, whose bytes still come from
/// the origin once.
///
/// Thread-safe. Before it is destroyed no run() may be under way: stop() ends them.
class ImportRunner {
 public:
  /// As many wait at a time: each takes a thread of its caller's.
  static constexpr size_t kMostCallers = 16;

  /// `memory_bytes` is the store's budget of memory; a sixteenth of it is used for each import, up
  /// to 16 MiB.
  ImportRunner(tree::Namespace& names, uint64_t memory_bytes);
  ImportRunner(const ImportRunner&) = delete;
  ImportRunner& operator=(const ImportRunner&) = delete;
  ~ImportRunner();

  /// Returns when the blob, and its name, are durable and visible; nothing of an import that failed
  /// is left. FAILED_PRECONDITION for what is no file of an origin, DATA_LOSS for another digest
  /// than the expected one, CANCELLED when `progress` ended it, UNAVAILABLE after stop() and with
  /// kMostCallers, else what the origin or the tree say.
  [[nodiscard]] absl::StatusOr<tree::CommittedBlob> run(const ImportWish& wish,
                                                        ImportProgress progress)
      ABSL_LOCKS_EXCLUDED(mutex_);

  /// Ends all, within a moment, and lets none begin any more. Does not wait.
  void stop() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  /// One under way, with a thread of its own, so that any of those who share it may go.
  struct Transfer {
    ImportWish wish;
    page::ObjectRef object;
    size_t callers = 0;
    uint64_t done_bytes = 0;
    std::optional<absl::StatusOr<tree::CommittedBlob>> result;
    std::thread thread;
  };
  using TransferRef = std::shared_ptr<Transfer>;

  [[nodiscard]] absl::StatusOr<page::ObjectRef> open(const std::string& path);
  [[nodiscard]] absl::Status admit() ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] TransferRef join(const ImportWish& wish, page::ObjectRef object)
      ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::StatusOr<tree::CommittedBlob> wait(Transfer& transfer,
                                                         ImportProgress progress)
      ABSL_LOCKS_EXCLUDED(mutex_);
  void leave(const TransferRef& transfer) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::StatusOr<tree::CommittedBlob> transfer(Transfer& transfer)
      ABSL_LOCKS_EXCLUDED(mutex_);

  tree::Namespace& names_;
  const size_t reads_;
  absl::Mutex mutex_;  ///< a leaf; guards what is in a Transfer, too
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  size_t callers_ ABSL_GUARDED_BY(mutex_) = 0;
  std::list<TransferRef> transfers_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::server
