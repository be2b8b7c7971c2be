#pragma once

namespace blobcache::net {

/// Starts gRPC's library and keeps it for as long as the process lives. gRPC would start with its
/// first object and end with its last one, and an end waits up to 10 s for a poller of its own: too
/// long for a daemon that is to stop, or for a command that has done its work. Thread-safe.
void keep_grpc_running();

}  // namespace blobcache::net
