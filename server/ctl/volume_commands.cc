#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "base/size.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "blockdev/nbd_devices.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/bar.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/device_growth.h"
#include "server/ctl/impl/follow.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/interrupt.h"
#include "server/ctl/progress_bar.h"
#include "server/ctl/table.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;

/// What any of the commands may be given.
struct VolumeOptions {
  std::string name;
  std::optional<std::string> new_name;
  std::optional<std::string> size;
  std::optional<std::string> base;
  std::optional<std::string> bind;
};

template <typename Response, typename Request>
absl::StatusOr<Response> ask(Session& session,
                             grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*,
                                                                     const Request&, Response*),
                             const Request& request) {
  BLOBCACHE_ASSIGN_OR_RETURN(net::RpcClient* const client, session.connect());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client->channel());
  return call(*client, *stub, method, request);
}

Json digest_json(const std::string& digest) {
  return digest.empty() ? Json(nullptr) : Json(format_digest(digest));
}

Json volume_json(const v1::Volume& volume) {
  return {
      {"name", volume.name()},
      {"path", "volumes/" + volume.name()},
      {"size", volume.size()},
      {"base", digest_json(volume.base())},
      {"origin_base", volume.origin_base().empty() ? Json(nullptr) : Json(volume.origin_base())},
      {"created", format_utc(absl::FromUnixNanos(volume.created_ns()))},
      {"own_bytes", volume.own_bytes()},
      {"in_use", volume.in_use()},
      {"read_only", volume.read_only()}};
}

/// A command is about "volumes/NAME", which may be written so or as the bare name.
std::string name_of(std::string_view text) {
  for (const std::string_view prefix : {"/volumes/", "volumes/"}) {
    if (text.starts_with(prefix)) return std::string(text.substr(prefix.size()));
  }
  return std::string(text);
}

/// What can never be the name of a volume is not asked about.
absl::Status check_name(std::string_view text) {
  const std::string name = name_of(text);
  if (name.find('/') != std::string::npos) {
    return absl::InvalidArgumentError("a volume's name has no slash; volumes/ may stand before it");
  }
  return name.empty() ? absl::InvalidArgumentError("a volume's name is not empty")
                      : parse_path("volumes/" + name).status();
}

/// The size that was asked for; 0 when none was.
absl::StatusOr<uint64_t> size_of(const VolumeOptions& options) {
  if (!options.size) return 0;
  constexpr uint64_t kSector = 512;
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t size, base::parse_size(*options.size));
  if (size == 0 || size % kSector != 0) {
    return absl::InvalidArgumentError(
        fmt::format("{}: a volume's size is a multiple of {} bytes", *options.size, kSector));
  }
  return size;
}

// ---------------------------------------------------------------------------------------- create

Outcome create(const VolumeOptions& arguments, Session& session) {
  const std::string what = fmt::format("volume create {}", escape(arguments.name));
  const absl::StatusOr<uint64_t> size = size_of(arguments);
  if (!size.ok()) return Outcome::usage(what, base::message(size.status()));
  v1::CreateVolumeRequest request;
  request.set_name(name_of(arguments.name));
  request.set_size(*size);
  if (arguments.base) {
    const absl::StatusOr<std::string> base = parse_path(*arguments.base);
    if (!base.ok()) return Outcome::usage("volume create --base", base::message(base.status()));
    request.set_base(*base);
  } else if (!arguments.size) {
    return Outcome::usage(what, "without --base it needs a --size");
  }
  const absl::StatusOr<v1::CreateVolumeResponse> response =
      ask(session, &v1::Admin::Stub::CreateVolume, request);
  if (!response.ok()) return Outcome::failed(what, response.status());
  if (session.options().json) return print_json(volume_json(response->volume()));
  return print(fmt::format("volumes/{}\n", escape(response->volume().name())));
}

// ------------------------------------------------------------------------------------- rm, resize

Outcome remove(const VolumeOptions& arguments, Session& session) {
  const std::string what = fmt::format("volume rm {}", escape(arguments.name));
  v1::RemoveVolumeRequest request;
  request.set_name(name_of(arguments.name));
  const absl::StatusOr<v1::RemoveVolumeResponse> response =
      ask(session, &v1::Admin::Stub::RemoveVolume, request);
  if (!response.ok()) return Outcome::failed(what, response.status());
  if (!session.options().json) return Outcome::done();
  return print_json(Json{{"removed", request.name()}});
}

Json device_json(const GrownDevice& device) {
  return {{"device", device.name},
          {"resized", device.trouble.empty()},
          {"reason", device.trouble.empty() ? Json(nullptr) : Json(device.trouble)}};
}

std::string device_line(const GrownDevice& device) {
  if (device.trouble.empty()) return fmt::format("{} has the new size\n", device.name);
  return fmt::format("{} shows the new size when it is attached anew: {}\n", device.name,
                     escape(device.trouble));
}

Outcome resize(const VolumeOptions& arguments, Session& session) {
  const std::string what = fmt::format("volume resize {}", escape(arguments.name));
  const absl::StatusOr<uint64_t> size = size_of(arguments);
  if (!size.ok()) return Outcome::usage(what, base::message(size.status()));
  v1::ResizeVolumeRequest request;
  request.set_name(name_of(arguments.name));
  request.set_size(*size);
  const absl::StatusOr<v1::ResizeVolumeResponse> response =
      ask(session, &v1::Admin::Stub::ResizeVolume, request);
  if (!response.ok()) return Outcome::failed(what, response.status());
  std::vector<GrownDevice> devices = grow_nbd_devices(response->volume());
  for (const v1::ResizeVolumeResponse::UblkDevice& device : response->ublk_devices()) {
    devices.push_back({blockdev::ublk_device_name(device.id()), device.trouble()});
  }
  if (session.options().json) {
    Json document = volume_json(response->volume());
    document["devices"] = Json::array();
    for (const GrownDevice& device : devices) document["devices"].push_back(device_json(device));
    return print_json(document);
  }
  std::string text;
  for (const GrownDevice& device : devices) text += device_line(device);
  return text.empty() ? Outcome::done() : print(text);
}

// -------------------------------------------------------------------------------------------- ls

std::string list_text(const v1::ListVolumesResponse& response) {
  using Align = Table::Align;
  Table table({{"SIZE", Align::kRight},
               {"OWN", Align::kRight},
               {"BASE", Align::kLeft},
               {"ACCESS", Align::kLeft},
               {"USE", Align::kLeft},
               {"VOLUME", Align::kLeft}});
  for (const v1::Volume& volume : response.volumes()) {
    constexpr size_t kShortDigest = 7 + 12;  // "sha256:" and what tells them apart
    std::string base = volume.origin_base().empty() ? "-" : escape(volume.origin_base());
    if (!volume.base().empty()) base = format_digest(volume.base()).substr(0, kShortDigest);
    table.add_row({base::format_size(volume.size()), base::format_size(volume.own_bytes()), base,
                   volume.read_only() ? "read-only" : "read-write", volume.in_use() ? "open" : "-",
                   volume.name()});
  }
  return fmt::format("{}\n{} of {} in use (store.volumes)\n", table.render(),
                     base::format_size(response.used()), base::format_size(response.budget()));
}

Outcome list(Session& session) {
  absl::StatusOr<v1::ListVolumesResponse> response =
      ask(session, &v1::Admin::Stub::ListVolumes, v1::ListVolumesRequest());
  if (!response.ok()) return Outcome::failed("volume ls", response.status());
  std::sort(response->mutable_volumes()->begin(), response->mutable_volumes()->end(),
            [](const v1::Volume& a, const v1::Volume& b) { return a.name() < b.name(); });
  if (!session.options().json) return print(list_text(*response));
  Json document;
  document["volumes"] = Json::array();
  for (const v1::Volume& volume : response->volumes()) {
    document["volumes"].push_back(volume_json(volume));
  }
  document["used"] = response->used();
  document["budget"] = response->budget();
  return print_json(document);
}

// ---------------------------------------------------------------------------------------- commit

Outcome commit(const VolumeOptions& arguments, Session& session) {
  const std::string what = fmt::format("volume commit {}", escape(arguments.name));
  v1::CommitVolumeRequest request;
  request.set_name(name_of(arguments.name));
  if (arguments.bind) {
    const absl::StatusOr<std::string> bind = parse_name(*arguments.bind);
    if (!bind.ok()) return Outcome::usage("volume commit --name", base::message(bind.status()));
    request.set_bind(*bind);
  }
  Interrupt interrupt;
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  const std::shared_ptr<ProgressBar> bar =
      make_bar(interrupt, session.options(), request.name(), std::nullopt);
  const absl::StatusOr<v1::CommitVolumeResponse> last =
      follow(**client, request, *bar, &v1::Admin::Stub::CommitVolume);
  bar->clear();
  if (!last.ok()) return Outcome::failed(what, last.status());
  const v1::PutResponse& blob = last->blob();
  if (!session.options().json) return print(format_digest(blob.digest()) + "\n");
  return print_json({{"volume", request.name()},
                     {"digest", format_digest(blob.digest())},
                     {"size", blob.size()},
                     {"existed", blob.existed()},
                     {"name", request.bind().empty() ? Json(nullptr) : Json(request.bind())}});
}

// -------------------------------------------------------------------------------- snapshot, clone

Outcome copy(std::string_view verb, const VolumeOptions& arguments, Session& session) {
  const std::string what = fmt::format("volume {} {}", verb, escape(arguments.name));
  v1::CopyVolumeRequest request;
  request.set_name(name_of(arguments.name));
  request.set_new_name(name_of(*arguments.new_name));
  request.set_snapshot(verb == "snapshot");
  Interrupt interrupt;
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  const std::shared_ptr<ProgressBar> bar =
      make_bar(interrupt, session.options(), request.name(), std::nullopt);
  const absl::StatusOr<v1::CopyVolumeResponse> last =
      follow(**client, request, *bar, &v1::Admin::Stub::CopyVolume);
  bar->clear();
  if (!last.ok()) return Outcome::failed(what, last.status());
  if (session.options().json) return print_json(volume_json(last->volume()));
  return print(fmt::format("volumes/{}\n", escape(last->volume().name())));
}

Outcome snapshot(const VolumeOptions& arguments, Session& session) {
  return copy("snapshot", arguments, session);
}

Outcome clone(const VolumeOptions& arguments, Session& session) {
  return copy("clone", arguments, session);
}

// -------------------------------------------------------------------------------- the command line

/// `run` with what it is given on the command line. A volume that is there can be completed.
CLI::App* add_command(CLI::App& volume, const char* name, const char* description,
                      const std::shared_ptr<VolumeOptions>& options, Action& selected,
                      Outcome (*run)(const VolumeOptions&, Session&)) {
  CLI::App* const command = volume.add_subcommand(name, description);
  command
      ->add_option(std::string_view(name) == "create" ? "NAME" : "VOLUME", options->name,
                   "Its name, with volumes/ before it or without")
      ->required()
      ->type_name("");
  command->callback([options, run, name, &selected] {
    selected = [options, run, name](Session& session) {
      for (const std::string& each : {options->name, options->new_name.value_or(options->name)}) {
        if (const absl::Status good = check_name(each); !good.ok()) {
          return Outcome::usage(fmt::format("volume {} {}", name, escape(each)),
                                base::message(good));
        }
      }
      return run(*options, session);
    };
  });
  return command;
}

}  // namespace

void add_volume_commands(CLI::App& app, Action& selected) {
  CLI::App* const volume =
      app.add_subcommand("volume", "Make and remove writable images, and make blobs of them");
  volume->group("Block devices");
  volume->require_subcommand(1);
  const auto options = std::make_shared<VolumeOptions>();

  CLI::App* const create_command =
      add_command(*volume, "create", "Make a writable image", options, selected, create);
  create_command->add_option("--size", options->size, "Bytes, as in 20GiB; by default the base's")
      ->type_name("SIZE");
  create_command->add_option("--base", options->base, "A raw image that it begins as")
      ->type_name("PATH");
  create_command->footer(
      "Examples:\n"
      "  blobcachectl volume create scratch --size 20GiB\n"
      "  blobcachectl volume create vm1 --base files/images/debian.raw --size 40GiB");

  add_command(*volume, "rm", "Remove it with all that was written to it", options, selected,
              remove);
  CLI::App* const resize_command =
      add_command(*volume, "resize", "Make it larger", options, selected, resize);
  resize_command->add_option("--size", options->size, "Bytes, as in 20GiB")
      ->required()
      ->type_name("SIZE");
  CLI::App* const commit_command =
      add_command(*volume, "commit", "Make a blob of what it holds now; print its digest", options,
                  selected, commit);
  commit_command->add_option("--name", options->bind, "Bind this name to the blob, beneath files/")
      ->type_name("PATH");

  for (CLI::App* const each :
       {add_command(*volume, "snapshot", "Make a read-only copy of what it holds now", options,
                    selected, snapshot),
        add_command(*volume, "clone", "Make a writable copy of what it holds now", options,
                    selected, clone)}) {
    each->add_option("NEW", options->new_name, "What the copy is called")
        ->required()
        ->type_name("");
  }

  CLI::App* const list_command = volume->add_subcommand("ls", "List volumes");
  list_command->callback([&selected] { selected = list; });
}

}  // namespace blobcache::ctl
