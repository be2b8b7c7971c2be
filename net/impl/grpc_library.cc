#include "net/impl/grpc_library.h"

#include <grpc/grpc.h>
#include <grpc/support/log.h>
#include <spdlog/spdlog.h>

namespace blobcache::net {
namespace {

// What goes wrong in a call is in the call's status. What gRPC says beside that (a handshake that a
// stranger broke off) is for those who look closer; on its own it would write to standard error.
void log_message(gpr_log_func_args* args) {
  const bool error = args->severity == GPR_LOG_SEVERITY_ERROR;
  spdlog::log(error ? spdlog::level::debug : spdlog::level::trace, "grpc: {}", args->message);
}

}  // namespace

void keep_grpc_running() {
  static const bool kRunning = [] {
    gpr_set_log_function(&log_message);
    grpc_init();  // without its grpc_shutdown()
    return true;
  }();
  static_cast<void>(kRunning);
}

}  // namespace blobcache::net
