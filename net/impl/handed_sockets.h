#pragma once

#include <sys/types.h>

#include "absl/container/flat_hash_map.h"

namespace blobcache::net {

/// The sockets that were handed to gRPC, which owns them from then on. It waits for a write that a
/// client does not take for as long as that lasts, also when its server ends; shut_down() ends such
/// writes.
///
/// Nobody tells when gRPC closes a socket and its number means another file. So a number is
/// remembered together with the file that it meant, and only that one is touched. One entry a
/// number, so they are bounded as descriptors are. Not thread-safe.
class HandedSockets {
 public:
  /// `socket` is open, and about to be handed over.
  void note(int socket);

  /// Shuts down those that are still open, both ways. Returns how many.
  int shut_down() const;

 private:
  absl::flat_hash_map<int, ino_t> inodes_;  ///< by number
};

}  // namespace blobcache::net
