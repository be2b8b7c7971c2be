#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/status.h>
#include <grpcpp/support/sync_stream.h>

#include "blobcache.grpc.pb.h"
#include "server/scrub_runner.h"
#include "store/tree/namespace.h"

namespace blobcache::server {

// The streaming calls of blobcache.v1.Admin. Each returns when its work has ended; a caller who
// goes ends it.

[[nodiscard]] absl::Status serve_scrub(ScrubRunner& scrubs, grpc::ServerContext& context,
                                       const v1::ScrubRequest& request,
                                       grpc::ServerWriter<v1::ScrubResponse>& writer);

[[nodiscard]] absl::Status serve_gc(tree::Namespace& names, grpc::ServerContext& context,
                                    const v1::GcRequest& request,
                                    grpc::ServerWriter<v1::GcResponse>& writer);

void fill(const ScrubStats& stats, v1::ScrubStatus& out);

}  // namespace blobcache::server
