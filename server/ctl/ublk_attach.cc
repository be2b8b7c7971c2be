#include "server/ctl/impl/ublk_attach.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "blockdev/nbd_devices.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;

absl::StatusOr<v1::AttachUblkResponse> ask_to_attach(const v1::AttachUblkRequest& request,
                                                     Session& session) {
  BLOBCACHE_ASSIGN_OR_RETURN(const net::RpcClient* const client, session.connect());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client->channel());
  return call(*client, *stub, &v1::Admin::Stub::AttachUblk, request);
}

absl::Status ask_to_detach(uint32_t id, Session& session) {
  BLOBCACHE_ASSIGN_OR_RETURN(const net::RpcClient* const client, session.connect());
  BLOBCACHE_RETURN_IF_ERROR(check_unused(fmt::format("ublkb{}", id)));
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client->channel());
  v1::DetachUblkRequest request;
  request.set_id(id);
  return call(*client, *stub, &v1::Admin::Stub::DetachUblk, request).status();
}

}  // namespace

absl::Status check_unused(const std::string& device) {
  const std::vector<std::string> users = blockdev::NbdDevices().users(device);
  if (users.empty()) return absl::OkStatus();
  return base::error(absl::StatusCode::kFailedPrecondition,
                     fmt::format("it is {}", escape(fmt::format("{}", fmt::join(users, ", ")))));
}

Outcome attach_ublk(const std::string& argument, const std::string& device, Session& session) {
  const std::string what = fmt::format("attach {}", escape(argument));
  const absl::StatusOr<std::string> path = parse_path(argument);
  if (!path.ok()) return Outcome::usage(what, base::message(path.status()));
  v1::AttachUblkRequest request;
  request.set_path(*path);
  if (!device.empty()) {
    const absl::StatusOr<uint32_t> id = blockdev::parse_ublk_device(device);
    if (!id.ok()) {
      return Outcome::usage(fmt::format("attach --device {}", escape(device)),
                            base::message(id.status()));
    }
    request.set_id(*id);
  }
  const absl::StatusOr<v1::AttachUblkResponse> attached = ask_to_attach(request, session);
  if (!attached.ok()) return Outcome::failed(what, with_hint(attached.status(), *path));
  const std::string name = blockdev::ublk_device_name(attached->id());
  if (!session.options().json) return print(name + "\n");
  return print_json(Json{{"device", name},
                         {"path", *path},
                         {"size", attached->size()},
                         {"read_only", attached->read_only()},
                         {"reconnected", attached->reconnected()}});
}

std::vector<v1::ListUblkResponse::Device> list_ublk(Session& session) {
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return {};
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub((*client)->channel());
  const absl::StatusOr<v1::ListUblkResponse> response =
      call(**client, *stub, &v1::Admin::Stub::ListUblk, v1::ListUblkRequest());
  if (!response.ok()) return {};
  return {response->devices().begin(), response->devices().end()};
}

Outcome detach_ublk(const std::string& argument, Session& session) {
  const std::string what = fmt::format("detach {}", escape(argument));
  const absl::StatusOr<uint32_t> id = blockdev::parse_ublk_device(argument);
  if (!id.ok()) return Outcome::usage(what, base::message(id.status()));
  const absl::Status detached = ask_to_detach(*id, session);
  if (!detached.ok()) return Outcome::failed(what, detached);
  if (!session.options().json) return Outcome::done();
  return print_json(Json{{"device", blockdev::ublk_device_name(*id)}});
}

}  // namespace blobcache::ctl
