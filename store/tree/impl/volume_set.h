#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "store/page/object.h"
#include "store/tree/impl/ballast.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/edit_runner.h"
#include "store/tree/impl/volume_base.h"
#include "store/tree/impl/volume_edit.h"
#include "store/tree/impl/volume_table.h"
#include "store/tree/namespace.h"
#include "store/tree/volumes.h"
#include "store/volume/space_budget.h"
#include "store/volume/volume.h"
#include "store/volume/workers.h"

namespace blobcache::tree {

/// The volumes of a store over its catalog and the store's folder `volumes/`, which has a folder
/// for each, called by the row's incarnation in hex; what the volume is called stands in a file
/// there, for a rebuild. As Volumes. What it is given must outlive it, and every VolumeRef must be
/// gone before it.
class VolumeSet final : public Volumes {
 public:
  using Clock = std::function<absl::Time()>;

  /// What volumes may take of the disk. Value type.
  struct Space {
    uint64_t budget_bytes = 0;   ///< all together
    uint64_t reserve_bytes = 0;  ///< stays free of the file system, whatever the budget has
  };

  /// What a volume is called, in its folder.
  static constexpr const char* kNameFile = "name";
  /// Which path of which origin it is laid over, if it is: "ORIGIN/PATH".
  static constexpr const char* kBaseFile = "base";

  /// `names` is where bases are found and blobs are put; it may be the set's own owner, which need
  /// not be whole yet. `folder` is the store's.
  VolumeSet(Namespace& names, Catalog& catalog, EditRunner& edits, Ballast& ballast,
            const std::filesystem::path& folder, const Space& space, Clock clock);

  /// What the volumes that files under writing are share with those here.
  [[nodiscard]] volume::Workers& workers() { return workers_; }
  [[nodiscard]] volume::SpaceBudget& budget() { return budget_; }

  /// Counts what the volumes that are there take of the budget. Once, before any other call.
  [[nodiscard]] absl::Status count();
  /// The origin that the volume of this node is laid over; "" for any other node. Waits for
  /// nothing.
  [[nodiscard]] std::string origin_of(NodeId node) ABSL_LOCKS_EXCLUDED(mutex_);
  /// What the volume of this node takes of the disk, its own pages: what is its base's is not the
  /// volume's. One over a base takes at least a page, since programs take a file without blocks for
  /// zeros. nullopt for any other node. A look into the catalog, and no further.
  [[nodiscard]] std::optional<uint64_t> allocated_bytes(NodeId node) ABSL_LOCKS_EXCLUDED(mutex_);
  /// Removes folders that no row of the catalog knows: what a kill left. Returns how many.
  [[nodiscard]] absl::StatusOr<uint64_t> remove_orphans() ABSL_LOCKS_EXCLUDED(mutex_);

  [[nodiscard]] absl::StatusOr<VolumeInfo> create(std::string_view name, uint64_t size_bytes,
                                                  std::string_view base_path,
                                                  const Creator& creator) override;
  [[nodiscard]] absl::Status remove(std::string_view name) override;
  [[nodiscard]] absl::StatusOr<std::vector<VolumeInfo>> list() override;
  [[nodiscard]] VolumeUsage usage() const override;
  [[nodiscard]] absl::StatusOr<VolumeRef> open(NodeId node) override;
  [[nodiscard]] absl::StatusOr<VolumeInfo> resize(std::string_view name,
                                                  uint64_t size_bytes) override;
  [[nodiscard]] absl::StatusOr<CommittedBlob> commit(std::string_view name,
                                                     std::string_view bind_path,
                                                     const Creator& creator,
                                                     CommitWatcher& watcher) override;
  [[nodiscard]] absl::StatusOr<VolumeInfo> copy(std::string_view name, std::string_view new_name,
                                                bool snapshot, const Creator& creator,
                                                CommitWatcher& watcher) override;

 private:
  [[nodiscard]] std::filesystem::path folder_of(const VolumeRow& row) const;
  [[nodiscard]] volume::VolumeOptions options_for(const VolumeRow& row, page::ObjectRef base);
  [[nodiscard]] absl::StatusOr<NamedVolume> find(std::string_view name);
  /// The volume of an entry of volumes/ that was read before.
  [[nodiscard]] absl::StatusOr<NamedVolume> find(const EntryRow& entry);
  /// What a new volume is and begins as. Value type.
  struct Plan {
    std::string name;
    VolumeRow row;
    VolumeBase base;  ///< without an object: zeros
    mode_t mode = kVolumeMode;
    Creator creator;
  };
  /// Fills a new volume before anybody sees it.
  using Fill = absl::FunctionRef<absl::Status(volume::Volume&)>;

  [[nodiscard]] absl::StatusOr<VolumeInfo> make(const Plan& plan, Fill fill)
      ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::Status make_files(const Plan& plan, Fill fill);
  [[nodiscard]] absl::StatusOr<NamedVolume> make_known(const Plan& plan);
  [[nodiscard]] absl::Status copy_cut(volume::VolumeCut& cut, volume::Volume& to,
                                      CommitWatcher& watcher);
  [[nodiscard]] absl::StatusOr<VolumeRef> open(const VolumeRow& row);
  [[nodiscard]] absl::StatusOr<std::shared_ptr<volume::Volume>> open_files(const VolumeRow& row);
  [[nodiscard]] absl::StatusOr<VolumeInfo> describe(const NamedVolume& volume);
  /// `open`: the volume, if somebody has it open.
  [[nodiscard]] uint64_t own_bytes(int64_t volume, const VolumeRef& open)
      ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] absl::Status find_origins();
  void note_origin(NodeId node, const VolumeRow& row) ABSL_LOCKS_EXCLUDED(mutex_);
  /// A volume that is not open takes what its folder tells, from now on.
  void charge_idle(const VolumeRow& row) ABSL_LOCKS_EXCLUDED(mutex_);
  void discharge_idle(const VolumeRow& row) ABSL_LOCKS_EXCLUDED(mutex_);

  Namespace& names_;
  VolumeBases bases_;
  Catalog& catalog_;
  EditRunner& edits_;
  Ballast& ballast_;
  const std::filesystem::path folder_;
  const Clock clock_;
  volume::SpaceBudget budget_;
  volume::Workers workers_;

  absl::Mutex mutex_;
  /// Folders that are there before their rows are.
  absl::flat_hash_set<std::string> making_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<int64_t, uint64_t> idle_bytes_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<NodeId, std::string> origins_ ABSL_GUARDED_BY(mutex_);
  /// There may be none, which is then all there is to know of any node.
  std::atomic<bool> any_origins_ = false;
  VolumeTable table_;
};

}  // namespace blobcache::tree
