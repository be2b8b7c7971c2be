#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "blobcache.grpc.pb.h"
#include "net/rpc_client.h"
#include "server/ctl/outcome.h"
#include "server/ctl/session.h"

namespace blobcache::ctl {

/// Does something to one path of the tree; returns what --json lists of it.
using PathAction = absl::FunctionRef<absl::StatusOr<nlohmann::ordered_json>(
    const net::RpcClient& client, v1::Admin::Stub& stub, const std::string& path)>;

/// Runs `action` for each argument, and goes on after a path that fails, as rm does: each failure
/// is a line, the last one the outcome. With --json, prints what was done as {"`done`": [...]}.
/// Nothing is done, and nobody asked, when an argument can never be a path.
[[nodiscard]] Outcome for_each_path(std::string_view command, std::string_view done,
                                    const std::vector<std::string>& arguments, Session& session,
                                    PathAction action);

}  // namespace blobcache::ctl
