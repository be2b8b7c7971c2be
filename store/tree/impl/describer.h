#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/btree_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "store/page/page_store.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/description.h"
#include "store/tree/impl/tree_edit.h"

namespace blobcache::tree {

/// Keeps what blobs' files say of themselves, their names and whether they are pinned, in step with
/// the catalog, so that a lost one can be made again.
///
/// A blob whose names fit into its file's attribute is described there, anew after each change. All
/// others have a names file, to which a change adds a line, so that a name costs the same whether
/// the blob has a hundred or a hundred thousand; it is written whole from the catalog when it has
/// grown to twice of what it was. A new copy of a blob takes over the file of the former one. The
/// pin is told in the attribute, and in the names file where there is one.
///
/// Changes are told in the order of their commits, before they are answered. Nothing waits for a
/// disk, but for a file that is written whole: a power cut may bring an earlier state back, and a
/// kill in between leaves one, which tell_all() mends at the next start.
///
/// Names beneath a directory that moves are told in the background when they are many.
///
/// What cannot be told is logged and no error: only the loss of the catalog would miss it. It is
/// tried again now and then; until it works the mark is gone, by whose absence the next start knows
/// that not all is told. Thread-safe. What it is given must outlive it.
class Describer {
 public:
  /// `mark`: a file that is there while everything is known to be told. A store of an older version
  /// has none.
  Describer(Catalog& catalog, page::PageStore& store, std::filesystem::path mark);

  /// Changes that are committed now, in the order of the commits, and directories with too much
  /// beneath them to be told so, that went to other places. Cheap. The caller tell()s then.
  void expect(std::vector<DescriptionChange> changes, const std::vector<int64_t>& moved)
      ABSL_LOCKS_EXCLUDED(expected_mutex_);
  /// Returns when all that was expected before is told, but for what is beneath moved directories:
  /// that is for tell_moved(), and the mark is gone until then.
  void tell() ABSL_LOCKS_EXCLUDED(mutex_, expected_mutex_);

  /// Compares what a blob's files tell with the catalog, and writes it anew if need be.
  void look_at(int64_t blob) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Compares every blob, one after the other, until `stop` says so. Slow: it looks at every file.
  void tell_all(absl::FunctionRef<bool()> stop) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Whether there is nothing that tell_all() would have to look for.
  [[nodiscard]] bool has_looked_at_all() ABSL_LOCKS_EXCLUDED(mutex_);
  /// Looks at all that is beneath directories that were moved, until `stop` says so. Slow; in
  /// bounded memory. One thread at a time.
  void tell_moved(absl::FunctionRef<bool()> stop) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool any_moved() ABSL_LOCKS_EXCLUDED(mutex_);
  /// Tells what could not be told.
  void try_again() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  /// More never fit into kMaxDescriptionBytes.
  static constexpr size_t kMaxNames = 64;
  /// With more than so many directories or blobs to look at, all are looked at.
  static constexpr size_t kMostMoved = 1024;
  static constexpr size_t kMostAgain = 65'536;
  using Changes = absl::Span<const DescriptionChange>;

  /// A blob and, where they are few, its names, as the catalog has them at one moment.
  struct Told;

  /// Of one blob.
  [[nodiscard]] absl::Status tell_changes(Changes changes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// False when the blob must be described whole.
  [[nodiscard]] absl::StatusOr<bool> add_to_file(Changes changes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// From the catalog; no error for a row that is gone.
  [[nodiscard]] absl::Status describe(int64_t blob) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// describe(), unless that would change nothing.
  [[nodiscard]] absl::Status mend(int64_t blob) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] absl::Status write_file(const BlobRow& blob) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] absl::StatusOr<bool> file_is_right(const BlobRow& blob)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] absl::Status for_each_name(
      const BlobRow& blob, absl::FunctionRef<absl::Status(const DescribedName&)> visit);
  /// Logs an error and remembers the blob.
  void note(int64_t blob, const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// If there is nothing left to be told.
  void make_mark() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void remove_mark();
  void take_moved(const std::vector<int64_t>& moved) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void bound_moved() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  /// What is beneath a directory. False: to be done again.
  [[nodiscard]] bool look_beneath(int64_t directory, absl::FunctionRef<bool()> stop)
      ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool look_at_each(const absl::btree_set<int64_t>& blobs,
                                  absl::FunctionRef<bool()> stop) ABSL_LOCKS_EXCLUDED(mutex_);

  Catalog& catalog_;
  page::PageStore& store_;
  const std::filesystem::path mark_;

  absl::Mutex expected_mutex_;
  /// As many as edits are under way have made.
  std::vector<DescriptionChange> expected_ ABSL_GUARDED_BY(expected_mutex_);
  std::vector<int64_t> expected_moved_ ABSL_GUARDED_BY(expected_mutex_);

  /// Held while files are written, so that what was committed later is told later. Taken before
  /// expected_mutex_, with no other lock held.
  absl::Mutex mutex_ ABSL_ACQUIRED_BEFORE(expected_mutex_);
  absl::btree_set<int64_t> untold_ ABSL_GUARDED_BY(mutex_);
  /// What is not told is in untold_, moved_ or again_.
  bool looked_at_all_ ABSL_GUARDED_BY(mutex_) = false;
  /// Directories whose names beneath are still told as they were; the first may be under way.
  std::deque<int64_t> moved_ ABSL_GUARDED_BY(mutex_);
  /// Blobs with changes since: their files may tell names that went from beneath these directories.
  absl::btree_set<int64_t> again_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::tree
