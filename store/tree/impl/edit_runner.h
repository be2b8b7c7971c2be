#pragma once

#include <filesystem>
#include <functional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/page_store.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/describer.h"
#include "store/tree/impl/listener_list.h"
#include "store/tree/impl/tree_edit.h"

namespace blobcache::tree {

/// Runs edits of the tree and sees their effects through, in an order that survives a kill at any
/// moment: the new object's files, catalog commit, then the page store's accounts, then the
/// descriptions of blobs with other names or a new copy, then the files of what was removed (a new
/// copy has taken over by then what the former one's files tell), then the listeners. A kill before
/// the commit or before the files are removed leaves orphans, which the next start removes.
///
/// Thread-safe. What it is given must outlive it.
class EditRunner {
 public:
  /// As WriteQueue::Apply. `effects` is empty at each call.
  using Edit = absl::FunctionRef<absl::Status(CatalogWriter&, Effects& effects)>;

  /// `mark` as Describer.
  EditRunner(Catalog& catalog, page::PageStore& store, ListenerList& listeners,
             std::filesystem::path mark)
      : catalog_(catalog),
        store_(store),
        listeners_(listeners),
        describer_(catalog, store, std::move(mark)) {}

  /// Returns when the edit is durable, or just committed where that is asked for, and its effects
  /// are done. `committed` as
  /// WriteQueue::Committed; `object` (sealed) is made durable first.
  [[nodiscard]] absl::StatusOr<Effects> run(Edit edit, WriteQueue::Committed committed,
                                            page::ObjectWriter* object = nullptr);
  [[nodiscard]] absl::StatusOr<Effects> run(Edit edit);
  /// The same without a sync (Durability::kLater).
  [[nodiscard]] absl::StatusOr<Effects> run_later(Edit edit, WriteQueue::Committed committed);
  [[nodiscard]] absl::StatusOr<Effects> run_later(Edit edit);

  /// Called with each file that an edit took the last name of, once that is committed, though
  /// perhaps not durable as yet, on the thread that made it. Set before the first edit.
  using OnGone = std::function<void(const GoneFile& file)>;
  void set_on_gone(OnGone on_gone) { on_gone_ = std::move(on_gone); }

  [[nodiscard]] Describer& describer() { return describer_; }

  /// Held shared from the look-up of a blob until its object is attached, so that the files of a
  /// blob are removed either before the look-up or when the page store knows who reads them.
  [[nodiscard]] absl::Mutex& removal_mutex() ABSL_LOCK_RETURNED(removal_mutex_) {
    return removal_mutex_;
  }

 private:
  [[nodiscard]] absl::StatusOr<Effects> run(Edit edit, WriteQueue::Committed committed,
                                            page::ObjectWriter* object, Durability durability);
  void remove_files(const Effects& effects) ABSL_LOCKS_EXCLUDED(removal_mutex_);

  Catalog& catalog_;
  page::PageStore& store_;
  ListenerList& listeners_;
  Describer describer_;
  OnGone on_gone_;
  absl::Mutex removal_mutex_;
};

}  // namespace blobcache::tree
