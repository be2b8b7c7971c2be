#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <memory>

#include "absl/status/statusor.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "net/rpc_client.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/progress_bar.h"

namespace blobcache::ctl {

/// Reads a stream of progress to its end; the last message, or one without anything.
template <typename Response, typename Request>
[[nodiscard]] absl::StatusOr<Response> follow(
    const net::RpcClient& client, const Request& request, ProgressBar& bar,
    std::unique_ptr<grpc::ClientReader<Response>> (v1::Admin::Stub::*method)(grpc::ClientContext*,
                                                                             const Request&)) {
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client.channel());
  grpc::ClientContext context;
  prepare(client, context);
  const auto reader = ((*stub).*method)(&context, request);
  Response last;
  for (Response response; reader->Read(&response);) {
    if (response.has_progress()) {
      bar.set_total(response.progress().total());
      bar.advance_to(response.progress().done());
    }
    last = response;
  }
  BLOBCACHE_RETURN_IF_ERROR(outcome_of(client, reader->Finish()));
  return last;
}

}  // namespace blobcache::ctl
