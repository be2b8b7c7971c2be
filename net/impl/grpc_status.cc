#include "net/impl/grpc_status.h"

#include <string>

#include "base/status.h"

namespace blobcache::net {

grpc::Status to_grpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  // Metadata is limited to 8 KiB a call, and a byte may travel as three.
  constexpr size_t kMaxMessage = 1024;
  std::string text(base::message(status));
  if (text.size() > kMaxMessage) {
    text.resize(kMaxMessage);
    text += "...";
  }
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), text);
}

absl::Status from_grpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return base::error(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace blobcache::net
