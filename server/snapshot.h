#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "base/door_stats.h"
#include "server/mount_view.h"
#include "server/scrub_runner.h"
#include "store/page/stats.h"
#include "store/tree/namespace.h"
#include "store/tree/origin.h"

namespace blobcache::server {

/// Where a door or the metrics can be reached.
struct Listener {
  std::string door;  ///< "grpc", "nbd" or "metrics"
  std::string address;
};

/// An origin and how it is.
struct OriginState {
  std::string name;
  std::string description;
  tree::OriginHealth health;
};

/// What the daemon has to say about itself, taken at one moment. Value type.
struct Snapshot {
  std::string version;
  pid_t pid = 0;
  absl::Time started;
  std::filesystem::path store_path;
  page::Stats store;
  std::optional<tree::Namespace::Counts> counts;  ///< absent when the catalog does not answer
  std::vector<MountView> mounts;
  std::vector<Listener> listeners;
  base::DoorStats fuse;
  base::DoorStats nbd;
  base::DoorStats grpc;
  uint64_t ublk_devices = 0;  ///< that are served now
  ScrubStats scrub;
  std::vector<OriginState> origins;
};

/// Who can be asked for a Snapshot: the daemon, of which the admin service and the metrics need to
/// know no more than this. Thread-safe.
class SnapshotSource {
 public:
  virtual ~SnapshotSource() = default;
  [[nodiscard]] virtual Snapshot snapshot() = 0;
};

}  // namespace blobcache::server
