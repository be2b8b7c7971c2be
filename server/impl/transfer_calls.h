#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/sync_stream.h>

#include "absl/status/status.h"
#include "blobcache.grpc.pb.h"
#include "server/import_runner.h"
#include "server/warm_runner.h"

namespace blobcache::server {

// The calls of blobcache.v1.Admin that move bytes of origins. Each returns when its work has ended;
// a caller who goes ends it.

[[nodiscard]] absl::Status serve_import(ImportRunner& imports, grpc::ServerContext& context,
                                        const v1::ImportRequest& request,
                                        grpc::ServerWriter<v1::ImportResponse>& writer);

[[nodiscard]] absl::Status serve_warm(WarmRunner& warmer, grpc::ServerContext& context,
                                      const v1::WarmRequest& request,
                                      grpc::ServerWriter<v1::WarmResponse>& writer);

}  // namespace blobcache::server
