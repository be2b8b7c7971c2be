#include "net/impl/data_door.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "base/status.h"

namespace blobcache::net {

absl::Status DataDoor::enter() {
  requests_.fetch_add(1, std::memory_order_relaxed);
  const uint64_t open = open_.fetch_add(1, std::memory_order_relaxed);
  if (stopping_.load(std::memory_order_relaxed)) {
    return absl::UnavailableError("blobcached is stopping");
  }
  if (open >= max_streams_) {
    return base::error(
        absl::StatusCode::kResourceExhausted,
        fmt::format("{} calls are under way, and [grpc] max_streams allows no more", max_streams_));
  }
  return absl::OkStatus();
}

void DataDoor::report(const char* what, const absl::Status& status) {
  if (status.ok()) return;
  errors_.fetch_add(1, std::memory_order_relaxed);
  switch (status.code()) {
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kResourceExhausted:
      spdlog::warn("grpc: {} failed: {}", what, base::message(status));
      break;
    default:  // the caller's own doing, and the caller is told
      spdlog::debug("grpc: {} failed: {}", what, base::message(status));
  }
}

base::DoorStats DataDoor::stats() const {
  base::DoorStats stats;
  stats.requests = requests_.load(std::memory_order_relaxed);
  stats.bytes_out = bytes_out_.load(std::memory_order_relaxed);
  stats.bytes_in = bytes_in_.load(std::memory_order_relaxed);
  stats.errors = errors_.load(std::memory_order_relaxed);
  stats.open = open_.load(std::memory_order_relaxed);
  return stats;
}

}  // namespace blobcache::net
