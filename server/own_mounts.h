#pragma once

#include <sys/types.h>

#include <vector>

namespace blobcache::server {

/// The mounts of this daemon, of which nothing can be read while it is upgraded. Who has to be
/// started meanwhile is tried before, and must not need them. Thread-safe; one at a time watches.
class OwnMounts {
 public:
  virtual ~OwnMounts() = default;
  OwnMounts() = default;
  OwnMounts(const OwnMounts&) = delete;
  OwnMounts& operator=(const OwnMounts&) = delete;

  /// Their device numbers.
  [[nodiscard]] virtual std::vector<dev_t> devices() const = 0;
  /// Has them note from now on who uses them.
  virtual void watch_callers() = 0;
  /// The process groups that have, and notes no more.
  [[nodiscard]] virtual std::vector<pid_t> take_callers() = 0;
};

}  // namespace blobcache::server
