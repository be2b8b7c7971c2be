#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/listen_address.h"
#include "base/size.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "blobcache.grpc.pb.h"
#include "blockdev/kernel_nbd.h"
#include "blockdev/nbd_client.h"
#include "blockdev/nbd_devices.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/device_growth.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/impl/ublk_attach.h"
#include "server/ctl/nbd_listener.h"
#include "server/ctl/table.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;
using blockdev::DeviceContent;
using blockdev::KernelNbd;
using blockdev::NbdDevice;
using blockdev::NbdDevices;

/// Every partitioning tool and boot loader can do with this one; images are made for it.
constexpr uint32_t kBlockBytes = 512;
constexpr uint32_t kDefaultConnections = 4;
constexpr absl::Duration kHandshake = absl::Seconds(20);
constexpr absl::Duration kDetach = absl::Seconds(20);

struct AttachOptions {
  std::optional<std::string> path;
  std::string device;
  bool ublk = false;
  uint32_t connections = 0;  // 0: as many as seem good
  int64_t timeout = 30;
  int64_t dead_timeout = 300;
};

// ----------------------------------------------------------------------------------------- attach

/// What a device is made of: the connections to one export, all to the same bytes.
struct Connected {
  DeviceContent content;
  uint64_t size_bytes = 0;
  uint16_t transmission_flags = 0;
  bool read_only = false;
  std::vector<base::UniqueFd> connections;
};

struct Attached {
  uint32_t index = 0;
  Connected made;
  bool reconnected = false;
};

/// By which a volume is known as long as there is one.
absl::StatusOr<DeviceContent> look_up_volume(const net::RpcClient& client,
                                             const std::string& path) {
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client.channel());
  BLOBCACHE_ASSIGN_OR_RETURN(
      const v1::ListVolumesResponse response,
      call(client, *stub, &v1::Admin::Stub::ListVolumes, v1::ListVolumesRequest()));
  for (const v1::Volume& volume : response.volumes()) {
    if (DeviceContent content = content_of(volume); content.path == path) return content;
  }
  return absl::NotFoundError("the volume has just gone");
}

absl::StatusOr<DeviceContent> look_up(const net::RpcClient& client, const std::string& path) {
  const std::unique_ptr<v1::Data::Stub> stub = v1::Data::NewStub(client.channel());
  v1::StatRequest request;
  request.set_path(path);
  const absl::StatusOr<v1::StatResponse> response =
      call(client, *stub, &v1::Data::Stub::Stat, request);
  if (!response.ok()) return with_hint(response.status(), path);
  const v1::Node& node = response->node();
  if (node.type() == v1::Node::DIRECTORY) {
    return absl::FailedPreconditionError("a directory cannot be attached, a file or an image can");
  }
  if (node.type() == v1::Node::SYMLINK) {
    return absl::FailedPreconditionError("a symbolic link cannot be attached, a file can");
  }
  if (node.type() == v1::Node::VOLUME && path.starts_with("volumes/")) {
    return look_up_volume(client, path);
  }
  // What has a digest has bytes that stay; what has none is known by its place in the tree.
  std::string id =
      node.digest().empty() ? fmt::format("node:{}", node.node_id()) : format_digest(node.digest());
  return DeviceContent{.id = std::move(id), .path = path};
}

absl::StatusOr<base::ListenAddress> find_listener(const net::RpcClient& client, Session& session) {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::ListenAddress endpoint, session.endpoint());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client.channel());
  v1::ExportsRequest request;
  request.set_limit(1);  // only where it listens matters
  BLOBCACHE_ASSIGN_OR_RETURN(const v1::ExportsResponse response,
                             call(client, *stub, &v1::Admin::Stub::Exports, request));
  return choose_nbd_listener(endpoint, {response.listeners().begin(), response.listeners().end()});
}

absl::StatusOr<uint32_t> count_connections(const AttachOptions& arguments,
                                           const blockdev::OpenedExport& opened) {
  if (opened.can_multi_conn()) {
    if (arguments.connections > 0) return arguments.connections;
    return std::clamp(std::thread::hardware_concurrency(), 1U, kDefaultConnections);
  }
  if (arguments.connections <= 1) return 1;
  return absl::FailedPreconditionError(
      "--connections: the export does not bear more than one connection");
}

absl::StatusOr<blockdev::OpenedExport> open_one(const base::ListenAddress& listener,
                                                const std::string& path) {
  absl::StatusOr<blockdev::OpenedExport> opened =
      blockdev::open_export(listener, path, absl::Now() + kHandshake);
  if (!absl::IsNotFound(opened.status())) return opened;
  return base::error(absl::StatusCode::kNotFound,
                     "the daemon does not export it (nbd.exports), or it has just gone");
}

absl::StatusOr<Connected> connect_all(const AttachOptions& arguments, const std::string& path,
                                      const base::ListenAddress& listener) {
  Connected made;
  uint32_t count = 1;
  while (made.connections.size() < count) {
    BLOBCACHE_ASSIGN_OR_RETURN(blockdev::OpenedExport opened, open_one(listener, path));
    if (made.connections.empty()) {
      BLOBCACHE_ASSIGN_OR_RETURN(count, count_connections(arguments, opened));
      if (opened.min_block_bytes > kBlockBytes) {
        return absl::UnimplementedError("the export wants blocks of more than 512 bytes");
      }
      made.size_bytes = opened.size_bytes / kBlockBytes * kBlockBytes;
      made.transmission_flags = opened.transmission_flags;
      made.read_only = opened.read_only();
    }
    made.connections.push_back(std::move(opened.socket));
  }
  if (made.size_bytes == 0) {
    return absl::FailedPreconditionError("it is smaller than a sector, 512 bytes");
  }
  return made;
}

/// Looks the path up before and after, since a name may be bound anew at any time, and all
/// connections have to lead to the same bytes.
absl::StatusOr<Connected> connect_export(const AttachOptions& arguments, const std::string& path,
                                         Session& session) {
  BLOBCACHE_ASSIGN_OR_RETURN(const net::RpcClient* const client, session.connect());
  BLOBCACHE_ASSIGN_OR_RETURN(DeviceContent content, look_up(*client, path));
  BLOBCACHE_ASSIGN_OR_RETURN(const base::ListenAddress listener, find_listener(*client, session));
  BLOBCACHE_ASSIGN_OR_RETURN(Connected made, connect_all(arguments, path, listener));
  BLOBCACHE_ASSIGN_OR_RETURN(const DeviceContent after, look_up(*client, path));
  if (after.id != content.id) {
    return absl::AbortedError("the name was bound to another blob meanwhile; try again");
  }
  made.content = std::move(content);
  return made;
}

/// Gives an attached device that lost its daemon the new connections.
absl::Status reconnect(KernelNbd& kernel, const NbdDevice& device, const Connected& made) {
  const std::optional<DeviceContent> shown = DeviceContent::parse(device.identifier);
  const std::string name = blockdev::nbd_device_name(device.index);
  if (!shown) {
    return base::error(absl::StatusCode::kAlreadyExists, fmt::format("{} is in use", name));
  }
  // A volume may have grown.
  if (shown->id != made.content.id || device.size_bytes > made.size_bytes) {
    return base::error(absl::StatusCode::kFailedPrecondition,
                       fmt::format("{} is attached to other content, that of {} ({}); detach it "
                                   "first",
                                   name, escape(shown->path), shown->id));
  }
  BLOBCACHE_RETURN_IF_ERROR(kernel.reconnect(device.index, device.identifier, made.connections));
  if (device.size_bytes == made.size_bytes) return absl::OkStatus();
  return kernel.resize(device.index, device.identifier, made.size_bytes);
}

absl::StatusOr<Attached> attach_export(const AttachOptions& arguments, const std::string& path,
                                       const std::optional<uint32_t>& index, Session& session) {
  Attached attached;
  BLOBCACHE_ASSIGN_OR_RETURN(attached.made, connect_export(arguments, path, session));
  const Connected& made = attached.made;
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<KernelNbd> kernel, KernelNbd::open());
  const NbdDevices devices;
  if (index) {
    if (const std::optional<NbdDevice> device = devices.find(*index)) {
      BLOBCACHE_RETURN_IF_ERROR(reconnect(*kernel, *device, made));
      attached.index = *index;
      attached.reconnected = true;
      return attached;
    }
  }
  blockdev::NbdDeviceOptions options;
  options.index = index;
  options.size_bytes = made.size_bytes;
  options.block_bytes = kBlockBytes;
  options.transmission_flags = made.transmission_flags;
  options.timeout = absl::Seconds(arguments.timeout);
  options.dead_timeout = absl::Seconds(arguments.dead_timeout);
  options.identifier = made.content.to_identifier();
  BLOBCACHE_ASSIGN_OR_RETURN(attached.index, kernel->connect(options, made.connections));
  // So that partitions are there when we say so, and that nobody has to read to detach it later.
  devices.settle(fmt::format("nbd{}", attached.index));
  return attached;
}

Outcome attach(const AttachOptions& arguments, Session& session) {
  const std::string what = fmt::format("attach {}", escape(*arguments.path));
  const absl::StatusOr<std::string> path = parse_path(*arguments.path);
  if (!path.ok()) return Outcome::usage(what, base::message(path.status()));
  std::optional<uint32_t> index;
  if (!arguments.device.empty()) {
    const absl::StatusOr<uint32_t> parsed = blockdev::parse_nbd_device(arguments.device);
    if (!parsed.ok()) {
      return Outcome::usage(fmt::format("attach --device {}", escape(arguments.device)),
                            base::message(parsed.status()));
    }
    index = *parsed;
  }
  const absl::StatusOr<Attached> attached = attach_export(arguments, *path, index, session);
  if (!attached.ok()) return Outcome::failed(what, attached.status());
  const std::string device = blockdev::nbd_device_name(attached->index);
  if (!session.options().json) return print(device + "\n");
  const Connected& made = attached->made;
  return print_json(Json{{"device", device},
                         {"path", *path},
                         {"content", made.content.id},
                         {"size", made.size_bytes},
                         {"read_only", made.read_only},
                         {"connections", made.connections.size()},
                         {"reconnected", attached->reconnected}});
}

// ----------------------------------------------------------------------------------- the devices

/// Those of the kernel's nbd driver, which knows what they show whether there is a daemon or not,
/// and those by ublk of the daemon that can be reached.
Outcome list_devices(Session& session) {
  Json items = Json::array();
  Table table({{"DEVICE", Table::Align::kLeft},
               {"SIZE", Table::Align::kRight},
               {"ACCESS", Table::Align::kLeft},
               {"PATH", Table::Align::kLeft}});
  for (const NbdDevice& device : NbdDevices().attached()) {
    const std::optional<DeviceContent> content = DeviceContent::parse(device.identifier);
    if (!content) continue;
    const std::string name = blockdev::nbd_device_name(device.index);
    table.add_row({name, base::format_size(device.size_bytes),
                   device.read_only ? "read-only" : "read-write", escape(content->path)});
    items.push_back({{"device", name},
                     {"path", content->path},
                     {"content", content->id},
                     {"size", device.size_bytes},
                     {"read_only", device.read_only}});
  }
  for (const v1::ListUblkResponse::Device& device : list_ublk(session)) {
    const std::string name = blockdev::ublk_device_name(device.id());
    table.add_row({name, base::format_size(device.size()),
                   device.read_only() ? "read-only" : "read-write", escape(device.path())});
    items.push_back({{"device", name},
                     {"path", device.path()},
                     {"content", nullptr},
                     {"size", device.size()},
                     {"read_only", device.read_only()}});
  }
  if (session.options().json) return print_json(Json{{"devices", std::move(items)}});
  return print(items.empty() ? "no device is attached\n" : table.render());
}

// ----------------------------------------------------------------------------------------- detach

absl::Status detach_device(uint32_t index) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<KernelNbd> kernel, KernelNbd::open());
  const NbdDevices devices;
  const std::optional<NbdDevice> device = devices.find(index);
  if (!device) return absl::NotFoundError("it is not attached");
  if (!DeviceContent::parse(device->identifier)) {
    return absl::FailedPreconditionError("blobcachectl did not attach it; nbd-client -d detaches");
  }
  const std::string name = fmt::format("nbd{}", index);
  BLOBCACHE_RETURN_IF_ERROR(check_unused(name));
  BLOBCACHE_ASSIGN_OR_RETURN(base::UniqueFd claim, devices.claim(name));
  // What was written to the device itself is in the kernel's cache as yet.
  if (!device->read_only && claim.valid() && ::fsync(claim.get()) != 0) {
    return base::errno_error(errno, "what was written cannot be brought to the daemon");
  }
  BLOBCACHE_RETURN_IF_ERROR(kernel->disconnect(index));
  claim.reset();
  if (devices.wait_gone(index, kDetach)) return absl::OkStatus();
  return absl::DeadlineExceededError(
      "its connections are gone, and the device will be when the programs that have it open close "
      "it");
}

Outcome detach(const std::string& argument, Session& session) {
  if (blockdev::parse_ublk_device(argument).ok()) return detach_ublk(argument, session);
  const std::string what = fmt::format("detach {}", escape(argument));
  const absl::StatusOr<uint32_t> index = blockdev::parse_nbd_device(argument);
  if (!index.ok()) return Outcome::usage(what, base::message(index.status()));
  const absl::Status detached = detach_device(*index);
  if (!detached.ok()) return Outcome::failed(what, detached);
  if (!session.options().json) return Outcome::done();
  return print_json(Json{{"device", blockdev::nbd_device_name(*index)}});
}

// -------------------------------------------------------------------------------- the command line

Outcome attach_or_list(const AttachOptions& arguments, bool with_options, Session& session) {
  if (arguments.path && arguments.ublk)
    return attach_ublk(*arguments.path, arguments.device, session);
  if (arguments.path) return attach(arguments, session);
  if (with_options) return Outcome::usage("attach", "a path is missing");
  return list_devices(session);
}

void add_attach(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<AttachOptions>();
  CLI::App* const command = app.add_subcommand(
      "attach", "Make a file a block device of this machine; without PATH, list those");
  command->group("Block devices");
  command->add_option("PATH", options->path, "A file, blob, volume or image of the tree")
      ->type_name("");
  CLI::Option* const device =
      command
          ->add_option("--device", options->device,
                       "Which one, /dev/nbdN; one that lost its daemon is given the new one")
          ->type_name("DEVICE");
  CLI::Option* const connections =
      command
          ->add_option("--connections", options->connections,
                       "How many to the daemon, 1 to 64 (4, or one a processor)")
          ->type_name("N")
          ->check(CLI::Range(1, 64));
  CLI::Option* const timeout =
      command
          ->add_option("--timeout", options->timeout,
                       "Send a request again that was not answered for so long (30)")
          ->type_name("SECONDS")
          ->check(CLI::Range(1, 86'400));
  CLI::Option* const dead_timeout =
      command
          ->add_option("--dead-timeout", options->dead_timeout,
                       "Without a daemon, let requests wait so long before they fail (300)")
          ->type_name("SECONDS")
          ->check(CLI::Range(1, 86'400));
  CLI::Option* const ublk = command->add_flag(
      "--ublk", options->ublk, "By the ublk driver, which the daemon serves: /dev/ublkbN");
  for (CLI::Option* const other : {connections, timeout, dead_timeout}) ublk->excludes(other);
  command->footer(
      "Needs root, and the kernel's nbd driver (modprobe nbd). Prints the device.\n"
      "Examples:\n"
      "  blobcachectl attach files/images/debian.raw\n"
      "  blobcachectl attach files/images/debian.raw --device /dev/nbd0    # after the daemon's "
      "restart");
  const std::vector<CLI::Option*> all = {device, connections, timeout, dead_timeout, ublk};
  command->callback([options, all, &selected] {
    const bool with_options = std::any_of(
        all.begin(), all.end(), [](const CLI::Option* option) { return option->count() > 0; });
    selected = [options, with_options](Session& session) {
      return attach_or_list(*options, with_options, session);
    };
  });
}

}  // namespace

void add_device_commands(CLI::App& app, Action& selected) {
  add_attach(app, selected);
  const auto device = std::make_shared<std::string>();
  CLI::App* const command = app.add_subcommand("detach", "Take a block device away again");
  command->group("Block devices");
  command->add_option("DEVICE", *device, "The device, /dev/nbdN or /dev/ublkbN")
      ->required()
      ->type_name("");
  command->callback([device, &selected] {
    selected = [device](Session& session) { return detach(*device, session); };
  });
}

}  // namespace blobcache::ctl
