#pragma once

#include <cstdint>

namespace blobcache::net {

/// What an NbdLoop waits for with poll(2). On the loop's thread alone.
class NbdWatched {
 public:
  virtual ~NbdWatched() = default;
  /// Negative when there is none.
  [[nodiscard]] virtual int fd() = 0;
  /// POLLIN, POLLOUT.
  [[nodiscard]] virtual int16_t events() = 0;
  virtual void notify(int16_t revents) = 0;
};

}  // namespace blobcache::net
