#include "net/impl/http_vitals.h"

#include <spdlog/spdlog.h>

#include <string>

#include "base/status.h"

namespace blobcache::net {

void HttpVitals::reached() {
  const absl::MutexLock lock(&mutex_);
  tried_ = true;
  if (given_up_) spdlog::info("{}: the server is back", what_);
  reachable_ = true;
  given_up_ = false;
  trouble_.clear();
}

void HttpVitals::failed(const absl::Status& why) {
  const absl::MutexLock lock(&mutex_);
  tried_ = true;
  reachable_ = false;
  trouble_ = std::string(base::message(why));
}

void HttpVitals::given_up() {
  const absl::MutexLock lock(&mutex_);
  given_up_ = true;
  spdlog::warn(
      "{}: the server is given up: {}; what is here is served, and it is tried now and then as "
      "long "
      "as somebody asks",
      what_, trouble_);
}

tree::OriginHealth HttpVitals::health() const {
  tree::OriginHealth health;
  {
    const absl::MutexLock lock(&mutex_);
    health.tried = tried_;
    health.reachable = reachable_;
    health.trouble = trouble_;
  }
  health.connections = connections;
  health.requests = requests;
  health.bytes_read = bytes_read;
  health.retries = retries;
  return health;
}

}  // namespace blobcache::net
