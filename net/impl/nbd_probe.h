#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "net/impl/nbd_connection.h"

namespace blobcache::net {

/// A connection that only asks, in the handshake, what a server has. Waits on the calling thread,
/// so that a look at a name never delays what is under way. One thread at a time.
class NbdProbe {
 public:
  /// UNAVAILABLE when there is no connection within `patience`, which all the answers together may
  /// take once more. CANCELLED, here and later, soon after `stopped` has become true.
  [[nodiscard]] static absl::StatusOr<NbdProbe> connect(const NbdTarget& target,
                                                        absl::Duration patience,
                                                        const std::atomic<bool>& stopped);

  /// UNIMPLEMENTED when the server does not tell, RESOURCE_EXHAUSTED when it tells too much.
  [[nodiscard]] absl::StatusOr<std::vector<std::string>> list();
  /// NOT_FOUND for what it has not.
  [[nodiscard]] absl::StatusOr<NbdExportInfo> info(const std::string& export_name);

 private:
  NbdProbe(std::unique_ptr<NbdConnection> connection, absl::Duration patience,
           const std::atomic<bool>& stopped)
      : connection_(std::move(connection)), patience_(patience), stopped_(&stopped) {}
  [[nodiscard]] absl::Status wait();

  std::unique_ptr<NbdConnection> connection_;
  absl::Duration patience_;
  const std::atomic<bool>* stopped_;
  absl::Time deadline_;
};

}  // namespace blobcache::net
