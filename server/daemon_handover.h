#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/listen_address.h"
#include "base/parcel.h"
#include "base/unique_fd.h"

namespace blobcache::server {

/// A listening socket that is handed over. Moves, never copies.
struct HandedSocket {
  std::string door;    ///< "nbd", "grpc"
  std::string wanted;  ///< the address as the configuration had it
  std::string actual;  ///< and with the port that it has
  base::UniqueFd socket;
};

/// A block device of the ublk driver that waits for the next process. Value type.
struct HandedDevice {
  uint32_t id = 0;
  std::string path;
};

/// What a daemon hands to the next one, its parts' parcels unopened. Moves, never copies.
struct DaemonHandover {
  base::Parcel lock;
  base::Parcel tree;
  std::vector<base::Parcel> mounts;
  std::vector<HandedSocket> sockets;
  std::string metrics_wanted;  ///< as HandedSocket; the socket itself stays behind
  std::string metrics_actual;
  std::vector<HandedDevice> devices;
};

[[nodiscard]] base::Parcel pack(DaemonHandover handover);
/// With duplicates of the parcel's descriptors. DATA_LOSS for one that is damaged.
[[nodiscard]] absl::StatusOr<DaemonHandover> unpack(const base::Parcel& parcel);

/// The listening sockets that doors have not taken yet. Not thread-safe.
class HandedSockets {
 public:
  explicit HandedSockets(std::vector<HandedSocket> sockets) : sockets_(std::move(sockets)) {}

  /// The socket of `door` for `address`, whose port is filled in, or without one a new one, as
  /// base::listen_on().
  [[nodiscard]] absl::StatusOr<base::UniqueFd> take(std::string_view door,
                                                    base::ListenAddress& address);
  /// Closes those that nobody wants any more, and removes their files.
  void close_rest();

 private:
  std::vector<HandedSocket> sockets_;
};

}  // namespace blobcache::server
