#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/parcel.h"
#include "store/page/object.h"
#include "store/page/page_store.h"
#include "store/tree/files.h"
#include "store/tree/impl/append_thread.h"
#include "store/tree/impl/ballast.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/edit_runner.h"
#include "store/tree/impl/file_volumes.h"
#include "store/tree/impl/inode.h"
#include "store/tree/impl/listener_list.h"
#include "store/tree/impl/settler.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/name_editor.h"
#include "store/tree/namespace.h"
#include "store/volume/workers.h"

namespace blobcache::tree {

/// The files beneath files/ that are in use or not settled: who has them open, what they are
/// written to, and when they settle. One that is settled and that nobody has open is in the catalog
/// alone. As Files.
///
///     opened             Inode over the blob's object
///     begin_writing()    a volume over it; the catalog's row names the volume instead of the blob
///     last writer gone   after a while at rest the settler reads it through, hashed: a blob again
///     another writer     comes before that and ends the reading; it begins anew after he is gone
///
/// What is unsettled stays in the table, open, until it is settled. When much is, create() and
/// begin_writing() wait for the settler; when there are too many for the process's descriptors,
/// they fail with ENFILE.
///
/// Thread-safe. What it is given must outlive it, and every FileRef be gone before it.
class InodeTable final : public Files, private SettleWork {
 public:
  using Clock = std::function<absl::Time()>;
  struct Parts {
    Namespace& names;  ///< need not be whole yet
    /// The blob of a node, or of a file that is settled: Namespace::open() without what is here.
    std::function<absl::StatusOr<page::ObjectRef>(NodeId)> open_settled;
    page::PageStore& store;
    Catalog& catalog;
    EditRunner& edits;
    Ballast& ballast;
    NameEditor& editor;
    FileVolumes& volumes;
    volume::Workers& workers;
    AppendThreads& append_threads;
    ListenerList& listeners;
    Clock clock;
  };

  /// A file settles when nobody has written to it for `rest`.
  InodeTable(const Parts& parts, absl::Duration rest);
  /// Closes what is unsettled, durably.
  ~InodeTable() override;
  InodeTable(const InodeTable&) = delete;
  InodeTable& operator=(const InodeTable&) = delete;

  /// Takes over what was not settled when the store was last in use. Once, before any other call.
  /// From a process before that has handed over it settles nothing until end_take_over(): what is
  /// settled then in vain, as somebody writes to it still, would take the time of all who wait.
  [[nodiscard]] absl::Status begin(bool was_handed_over) ABSL_LOCKS_EXCLUDED(mutex_);

  // Files
  [[nodiscard]] absl::StatusOr<FileRef> create(const NewName& name) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::StatusOr<FileRef> open(NodeId node) override ABSL_LOCKS_EXCLUDED(mutex_);

  /// How many are not settled.
  [[nodiscard]] uint64_t unsettled() ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    return unsettled_;
  }
  /// Length and time of a file that is not settled, as they are now, in place of the row's. False
  /// when it is not here: it has settled since its row was read, which is to be read again.
  [[nodiscard]] bool bring_up_to_date(Node& node) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Somebody set the time of a file.
  void set_modified(NodeId node, absl::Time time) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Changes what is told of a file that has no name any more, if it is open; nullopt: it is not.
  [[nodiscard]] std::optional<Node> change_gone(NodeId node, const AttributeChange& change)
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// A file lost its last name, and its row is gone.
  void on_gone(const GoneFile& file) ABSL_LOCKS_EXCLUDED(mutex_);

  /// A file without a name, of the process before. Moves, never copies.
  struct HandedFile {
    Node node;
    absl::Time modified;
    std::optional<page::Incarnation> volume;  ///< of one that is written to
    std::optional<page::HeldObject> object;   ///< its bytes, or what the volume is over
  };
  /// Settles no more, and packs the files without a name, which whoever has them open may close
  /// then: nothing of them is removed any more.
  void hand_over(base::ParcelWriter& parcel) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] static std::vector<HandedFile> read_handed(base::ParcelReader& parcel);
  /// Has such files again, for who opens their nodes. After begin(), and before any other call. One
  /// that cannot be had again is logged.
  void take_over_handed(std::vector<HandedFile> files);
  /// Lets go of those that nobody has opened by now, and settles from now on.
  void end_take_over() ABSL_LOCKS_EXCLUDED(mutex_);

  /// What a file holds at this moment, as a blob: the file settles for it, or, when somebody writes
  /// to it, its present state is put beside it. Null for one that is settled. Reads all of it.
  [[nodiscard]] absl::StatusOr<page::ObjectRef> snapshot(NodeId node) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class OpenedFile;
  using InodeRef = std::shared_ptr<Inode>;

  // For OpenedFile.
  [[nodiscard]] absl::Status begin_writing(const InodeRef& inode) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::StatusOr<page::LentFile> lend(const InodeRef& inode)
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// For as long as it is held nobody begins to write.
  [[nodiscard]] std::shared_ptr<const void> keep_writers_away(const InodeRef& inode)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    return make_lease(inode);
  }
  [[nodiscard]] std::shared_ptr<const void> make_lease(const InodeRef& inode)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] absl::Status reserve_writing(Inode& inode) ABSL_LOCKS_EXCLUDED(mutex_);
  void release_writing(Inode& inode) ABSL_LOCKS_EXCLUDED(mutex_) {
    const absl::MutexLock lock(&mutex_);
    --inode.use.reserved;
  }
  void leave(const InodeRef& inode, bool was_writer) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] const Parts& parts() const { return parts_; }

  // SettleWork
  [[nodiscard]] absl::Status settle(const InodeRef& inode) override ABSL_LOCKS_EXCLUDED(mutex_);

  /// Takes an inode off the table that nobody can ask for any more. True when its volume's files
  /// are to be removed.
  [[nodiscard]] bool drop_if_over(const InodeRef& inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] FileRef hold(const InodeRef& inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] InodeRef find(NodeId node) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::StatusOr<InodeRef> load(NodeId node);
  [[nodiscard]] absl::StatusOr<InodeRef> await(NodeId node) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] absl::Status take_over(const FileRow& file);
  [[nodiscard]] absl::Status take_over(HandedFile file) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::StatusOr<VolumeRow> find_volume_row(const FileRow& file);
  [[nodiscard]] absl::StatusOr<WrittenTo> open_written(const FileRow& file, const VolumeRow& row);
  void note_all(const std::vector<InodeRef>& inodes);
  [[nodiscard]] absl::Status make_written(const InodeRef& inode);
  /// For one more that is not settled: ENFILE when there is none.
  [[nodiscard]] absl::Status make_place() ABSL_LOCKS_EXCLUDED(mutex_);

  /// Whether nobody has begun to write since `writings`, and from here on nobody does.
  [[nodiscard]] bool stop_writers(Inode& inode, uint64_t writings) ABSL_LOCKS_EXCLUDED(mutex_);
  void let_writers(const InodeRef& inode) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] bool was_written_since(const Inode& inode, uint64_t writings)
      ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::Status settle_in_turn(const InodeRef& inode, uint64_t writings);
  [[nodiscard]] absl::Status switch_to(const InodeRef& inode, int64_t blob)
      ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::StatusOr<page::ObjectRef> put_beside(const InodeRef& inode);

  const Parts parts_;
  const size_t most_unsettled_;  ///< in use or not
  const size_t most_resting_;    ///< from here on who wants one more waits for the settler
  absl::Mutex mutex_;
  absl::flat_hash_map<NodeId, InodeRef> inodes_ ABSL_GUARDED_BY(mutex_);
  /// In the catalog and not settled, but could not be opened.
  absl::flat_hash_set<NodeId> unopened_ ABSL_GUARDED_BY(mutex_);
  size_t unsettled_ ABSL_GUARDED_BY(mutex_) = 0;
  /// Inodes that came or changed what they are over: a look-up that began before is stale.
  uint64_t changes_ ABSL_GUARDED_BY(mutex_) = 0;
  Settler settler_;
};

}  // namespace blobcache::tree
