#pragma once

#include <algorithm>
#include <cstdint>

namespace blobcache::net {

/// Whether a server's answer to a flush may be believed: of a server that died, and came back, what
/// it had answered and not yet flushed may be gone, and its next flush succeeds all the same. So a
/// flush of changes that were answered before a connection was lost fails once, and then all starts
/// afresh. Not thread-safe.
class FlushLedger {
 public:
  /// Which changes a flush answers for: those after the first `flushed`, up to `covers`.
  struct Flush {
    uint64_t flushed = 0;
    uint64_t covers = 0;
  };

  /// A change was answered that is not on stable storage yet.
  void changed() { ++changes_; }
  /// A connection was lost, and the server with it for all we know.
  void lost() { lost_ = changes_; }

  [[nodiscard]] Flush begin() const { return {flushed_, changes_}; }
  /// The server has answered with success. False: the flush must fail.
  [[nodiscard]] bool believed(const Flush& flush) const {
    return std::min(flush.covers, lost_) <= flush.flushed;
  }
  /// Who asked is told how it ended: the changes are through, or given up.
  void told(const Flush& flush) { flushed_ = std::max(flushed_, flush.covers); }

 private:
  uint64_t changes_ = 0;  ///< answered since the start
  uint64_t flushed_ = 0;  ///< of them
  uint64_t lost_ = 0;     ///< were answered before the last loss
};

}  // namespace blobcache::net
