#include "net/impl/data_service.h"

#include <memory>

#include "absl/status/status.h"
#include "base/status.h"
#include "net/impl/grpc_status.h"
#include "net/impl/put_stream.h"
#include "net/impl/read_stream.h"

namespace blobcache::net {
namespace {

v1::Node to_message(const tree::Node& node) {
  v1::Node message;
  message.set_type(node.type == tree::NodeType::kDirectory ? v1::Node::DIRECTORY : v1::Node::FILE);
  message.set_size(node.size_bytes);
  message.set_mode(node.mode);
  message.set_uid(node.uid);
  message.set_gid(node.gid);
  message.set_links(node.links);
  message.set_modified_ns(absl::ToUnixNanos(node.modified));
  message.set_changed_ns(absl::ToUnixNanos(node.changed));
  if (node.digest.has_value()) {
    message.set_digest(node.digest->bytes.data(), node.digest->bytes.size());
  }
  message.set_node_id(node.id);
  return message;
}

absl::Status stat(tree::Namespace& names, const v1::StatRequest& request,
                  v1::StatResponse& response) {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node node, names.resolve(request.path()));
  *response.mutable_node() = to_message(node);
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
    door.senders().run(
        [this, &request, &response] { finish(stat(door_.names(), request, response)); });
  }

  void OnDone() override {
    door_.leave();
    const std::unique_ptr<StatCall> self(this);
  }

 private:
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
