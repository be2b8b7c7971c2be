#include "net/impl/data_service.h"

#include <memory>

#include "absl/status/status.h"
#include "base/status.h"
#include "net/impl/grpc_status.h"
#include "net/impl/put_stream.h"
#include "net/impl/read_stream.h"
#include "net/node_message.h"
#include "store/tree/name_editor.h"

namespace blobcache::net {
namespace {

absl::Status stat(tree::Namespace& names, const v1::StatRequest& request,
                  v1::StatResponse& response) {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node node, names.resolve(request.path()));
  fill(node, *response.mutable_node());
  if (node.type == tree::NodeType::kSymlink) {
    BLOBCACHE_ASSIGN_OR_RETURN(*response.mutable_target(), names.editor().read_symlink(node.id));
  }
  if (!request.residency() || node.type != tree::NodeType::kFile) return absl::OkStatus();
  BLOBCACHE_ASSIGN_OR_RETURN(const page::ObjectRef object, names.open(node.id));
  BLOBCACHE_ASSIGN_OR_RETURN(const page::Residency residency, object->residency());
  v1::Residency& pages = *response.mutable_residency();
  pages.set_pages(residency.pages);
  pages.set_memory_pages(residency.memory_pages);
  pages.set_disk_pages(residency.disk_pages);
  pages.set_zero_pages(residency.zero_pages);
  return absl::OkStatus();
}

/// One Data.Stat. Owns itself, as gRPC has it; on a thread of the door, since page maps are on the
/// disk.
class StatCall final : public grpc::ServerUnaryReactor {
 public:
  StatCall(DataDoor& door, const v1::StatRequest& request, v1::StatResponse& response)
      : door_(door) {
    if (absl::Status status = door.enter(); !status.ok()) {
      finish(status);
      return;
    }
    door.senders().run([this, &request, &response] { run(request, response); });
  }

  void OnDone() override {
    door_.leave();
    const std::unique_ptr<StatCall> self(this);
  }

 private:
  /// On this thread, unless the path is an origin's, which may be away.
  void run(const v1::StatRequest& request, v1::StatResponse& response) {
    const bool runs = door_.names().run(request.path(), [this, &request, &response] {
      finish(stat(door_.names(), request, response));
    });
    if (!runs) finish(absl::UnavailableError("too much waits for its origin"));
  }
  void finish(const absl::Status& status) {
    door_.report("stat", status);
    Finish(to_grpc(status));
  }

  DataDoor& door_;
};

}  // namespace

grpc::ServerUnaryReactor* DataService::Stat(grpc::CallbackServerContext* /*context*/,
                                            const v1::StatRequest* request,
                                            v1::StatResponse* response) {
  return std::make_unique<StatCall>(door_, *request, *response).release();
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* DataService::Read(grpc::CallbackServerContext* context,
                                                              const grpc::ByteBuffer* request) {
  return ReadStream::begin(door_, *context, *request);
}

grpc::ServerReadReactor<grpc::ByteBuffer>* DataService::Put(
    grpc::CallbackServerContext* /*context*/, grpc::ByteBuffer* response) {
  return PutStream::begin(door_, creator_, *response);
}

}  // namespace blobcache::net
