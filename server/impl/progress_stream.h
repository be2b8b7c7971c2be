#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/sync_stream.h>

#include <cstdint>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace blobcache::server {

/// Tells who called how far something is, a few times a second, until he has gone. `Response` has a
/// `progress` with `done` and `total`. For one thread.
template <typename Response>
class ProgressStream {
 public:
  ProgressStream(grpc::ServerContext& context, grpc::ServerWriter<Response>& writer)
      : context_(context), writer_(writer) {}

  /// Both in bytes. False when he has gone.
  bool tell(uint64_t done, uint64_t total) {
    if (gone_ || context_.IsCancelled()) return false;
    const absl::Time now = absl::Now();
    if (now < next_) return true;
    next_ = now + kInterval;
    Response response;
    response.mutable_progress()->set_done(done);
    response.mutable_progress()->set_total(total);
    gone_ = !writer_.Write(response);
    return !gone_;
  }

 private:
  static constexpr absl::Duration kInterval = absl::Milliseconds(200);

  grpc::ServerContext& context_;
  grpc::ServerWriter<Response>& writer_;
  absl::Time next_ = absl::InfinitePast();
  bool gone_ = false;
};

}  // namespace blobcache::server
