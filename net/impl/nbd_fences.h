#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/unique_fd.h"
#include "net/impl/nbd_watched.h"

namespace blobcache::net {

/// The connections to an export that were given up while changes were under way on them, and that
/// the server has not closed: it may still make those changes, at any time. Each is a fence: it
/// holds the bytes of its changes until the server has closed it, too, and until then no other
/// change of these bytes may be sent, as a late first copy would undo it.
///
/// A server is taken to be through with a connection when it ends it: the sending side is shut, so
/// that it sees the end once it has read all that was sent, and what it sends is thrown away. Where
/// its machine is gone, keepalive ends the fence.
///
/// Of an export, not of a session: a fence outlives the session that left it, and the next has to
/// heed it. On the loop's thread alone.
class NbdFences {
 public:
  /// Beyond this no change may be sent, as its connection could not be given up.
  static constexpr size_t kMaxFences = 64;

  /// [begin, end) in bytes. Value type.
  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
    friend bool operator==(const Range&, const Range&) = default;
  };

  NbdFences();
  ~NbdFences();
  NbdFences(const NbdFences&) = delete;
  NbdFences& operator=(const NbdFences&) = delete;

  /// `socket` is a duplicate of that of a connection that was closed here. No fence is made where
  /// the server has ended it, too. `alone`: the server does not promise that what another
  /// connection does meanwhile fits with what this one did.
  void add(base::UniqueFd socket, std::vector<Range> held, bool alone);
  void clear();

  [[nodiscard]] bool empty() const;
  [[nodiscard]] size_t size() const;
  [[nodiscard]] bool holds(Range range) const;
  [[nodiscard]] bool alone() const;
  [[nodiscard]] std::vector<Range> held() const;
  void watch(std::vector<NbdWatched*>& watched) const;
  /// Lets go of those that are over. Returns how many that were so far: what waits for a fence
  /// looks again when this has grown.
  uint64_t sweep();

 private:
  class Fence;

  std::vector<std::unique_ptr<Fence>> fences_;
  uint64_t over_ = 0;
};

}  // namespace blobcache::net
