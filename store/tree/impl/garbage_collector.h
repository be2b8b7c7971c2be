#pragma once

#include <functional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "store/page/page_store.h"
#include "store/tree/garbage.h"
#include "store/tree/impl/ballast.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/edit_runner.h"

namespace blobcache::tree {

/// Removes what nothing names: blobs whose time without a name is over, and files that no blob
/// owns.
///
/// Which blobs go is decided in the transaction that removes them, so whoever names one comes
/// before it or finds it gone. A file is looked at once more under EditRunner's removal_mutex
/// before it goes: nobody can attach its object meanwhile, and whoever has it open keeps it. No
/// object's file goes on the word of a catalog that cannot be trusted (Catalog::vouch).
///
/// Thread-safe. What it is given must outlive it.
class GarbageCollector {
 public:
  GarbageCollector(Catalog& catalog, page::PageStore& store, EditRunner& edits, Ballast& ballast)
      : catalog_(catalog), store_(store), edits_(edits), ballast_(ballast) {}

  /// Blobs that are cached and, of the kept ones without a name, those that have had none since
  /// `before` or longer.
  [[nodiscard]] absl::Status collect_blobs(absl::Time before, bool dry_run,
                                           GarbageWatcher& watcher);
  /// Files under objects/ and tmp/. One that cannot be removed does not keep the others from it;
  /// the first error is returned.
  [[nodiscard]] absl::Status collect_files(bool dry_run, GarbageWatcher& watcher);

 private:
  [[nodiscard]] absl::Status collect_blobs(page::Retention retention, absl::Time before,
                                           bool dry_run, GarbageWatcher& watcher);
  [[nodiscard]] absl::StatusOr<bool> remove_file(const page::Leftover& leftover);
  /// In doubt (an error) it is known.
  [[nodiscard]] bool is_known(const page::ObjectKey& key, const page::Incarnation& incarnation);

  Catalog& catalog_;
  page::PageStore& store_;
  EditRunner& edits_;
  Ballast& ballast_;
};

}  // namespace blobcache::tree
