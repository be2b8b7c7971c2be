#include "net/impl/origin_vitals.h"

#include <spdlog/spdlog.h>

#include <string>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "store/tree/origin.h"

namespace blobcache::net {

void OriginVitals::reached() {
  const absl::MutexLock lock(&mutex_);
  tried_ = true;
  if (!reachable_) spdlog::info("{}: is back", what_);
  reachable_ = true;
  trouble_.clear();
}

void OriginVitals::failed(const absl::Status& why) {
  if (connections > 0) return;
  const absl::MutexLock lock(&mutex_);
  tried_ = true;
  if (reachable_) {
    spdlog::warn("{}: cannot be had: {}; trying again as long as somebody asks", what_,
                 base::message(why));
  }
  reachable_ = false;
  trouble_ = std::string(base::message(why));
}

tree::OriginHealth OriginVitals::health() const {
  tree::OriginHealth health;
  {
    const absl::MutexLock lock(&mutex_);
    health.tried = tried_;
    health.reachable = reachable_;
    health.trouble = trouble_;
  }
  health.connections = connections + open_files;
  health.requests = requests;
  health.bytes_read = bytes_read;
  health.bytes_written = bytes_written;
  health.retries = retries;
  return health;
}

}  // namespace blobcache::net
