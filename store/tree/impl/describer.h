#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "store/page/page_store.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/description.h"

namespace blobcache::tree {

/// Keeps what blobs' files say of themselves in step with the catalog: after a change of a blob's
/// names is durable, its description is written anew, from what the catalog says then. Nothing
/// waits for a disk: a power cut may bring an earlier description back, and a kill in between
/// leaves one, which describe_all() mends at the next start.
///
/// A description that cannot be written is logged and no error: only the loss of the catalog would
/// miss it. Thread-safe. What it is given must outlive it.
class Describer {
 public:
  Describer(Catalog& catalog, page::PageStore& store) : catalog_(catalog), store_(store) {}

  /// Rows of `blob`; those that are gone by now are passed over.
  void describe(const std::vector<int64_t>& blobs) ABSL_LOCKS_EXCLUDED(mutex_);

  /// Every blob, one after the other, until `stop` says so. Slow: it looks at every file.
  void describe_all(absl::FunctionRef<bool()> stop) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  /// More never fit into kMaxDescriptionBytes.
  static constexpr size_t kMaxNames = 64;

  [[nodiscard]] absl::Status describe_one(int64_t blob) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] absl::Status write(const page::Incarnation& incarnation, Description description)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  Catalog& catalog_;
  page::PageStore& store_;
  /// Held from the look-up to the writing, so that what was read later is written later. Taken with
  /// no other lock held.
  absl::Mutex mutex_;
};

}  // namespace blobcache::tree
