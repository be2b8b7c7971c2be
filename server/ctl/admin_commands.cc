#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "base/size.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/table.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

using Align = Table::Align;
using Json = nlohmann::ordered_json;

/// One call of the Admin service.
template <typename Response, typename Request>
absl::StatusOr<Response> ask(Session& session,
                             grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*,
                                                                     const Request&, Response*),
                             const Request& request) {
  BLOBCACHE_ASSIGN_OR_RETURN(const net::RpcClient* const client, session.connect());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client->channel());
  return call(*client, *stub, method, request);
}

// ---------------------------------------------------------------------------------------- status

Json tier_json(const v1::TierStatus& tier) {
  return {{"used", tier.used()},
          {"budget", tier.budget()},
          {"kept", tier.kept()},
          {"evicted", tier.evicted()}};
}

Json door_json(const v1::DoorStatus& door) {
  return {{"requests", door.requests()}, {"bytes_out", door.bytes_out()},
          {"bytes_in", door.bytes_in()}, {"errors", door.errors()},
          {"open", door.open()},         {"passed_through", door.passed_through()}};
}

Json scrub_json(const v1::ScrubStatus& scrub) {
  Json out = {{"running", scrub.running()}, {"last", nullptr}};
  if (!scrub.has_last()) return out;
  const v1::ScrubSummary& last = scrub.last();
  out["last"] = {{"path", last.path()},
                 {"started", format_utc(absl::FromUnixNanos(last.started_ns()))},
                 {"ended", format_utc(absl::FromUnixNanos(last.ended_ns()))},
                 {"objects", last.objects()},
                 {"pages", last.pages()},
                 {"bytes", last.bytes()},
                 {"damaged_objects", last.damaged_objects()},
                 {"damaged_pages", last.damaged_pages()},
                 {"repaired_maps", last.repaired_maps()}};
  return out;
}

std::string_view state_of(const v1::OriginStatus& origin) {
  if (!origin.tried()) return "not asked yet";
  return origin.reachable() ? "reachable" : "away";
}

Json origin_json(const v1::OriginStatus& origin) {
  return {{"name", origin.name()},
          {"description", origin.description()},
          {"tried", origin.tried()},
          {"reachable", origin.reachable()},
          {"trouble", origin.trouble()},
          {"connections", origin.connections()},
          {"requests", origin.requests()},
          {"bytes_read", origin.bytes_read()},
          {"bytes_written", origin.bytes_written()},
          {"retries", origin.retries()}};
}

Json status_json(const v1::StatusResponse& status) {
  Json out;
  out["version"] = status.version();
  out["pid"] = status.pid();
  out["started"] = format_utc(absl::FromUnixNanos(status.started_ns()));
  out["store_path"] = status.store_path();
  out["memory"] = tier_json(status.memory());
  out["disk"] = tier_json(status.disk());
  out["blobs"] = status.blobs();
  out["blob_bytes"] = status.blob_bytes();
  out["names"] = status.names();
  out["unnamed_blobs"] = status.unnamed_blobs();
  out["unsettled_files"] = status.unsettled_files();
  out["mounts"] = Json::array();
  for (const v1::MountStatus& mount : status.mounts()) {
    out["mounts"].push_back({{"mountpoint", mount.mountpoint()},
                             {"subtree", mount.subtree()},
                             {"read_only", mount.read_only()},
                             {"no_exec", mount.no_exec()},
                             {"writeback_cache", mount.writeback_cache()}});
  }
  out["listeners"] = Json::array();
  for (const v1::ListenerStatus& listener : status.listeners()) {
    out["listeners"].push_back({{"door", listener.door()}, {"address", listener.address()}});
  }
  out["fuse"] = door_json(status.fuse());
  out["nbd"] = door_json(status.nbd());
  out["grpc"] = door_json(status.grpc());
  out["ublk_devices"] = status.ublk_devices();
  out["memory_hit_pages"] = status.memory_hit_pages();
  out["disk_hit_pages"] = status.disk_hit_pages();
  out["remote_hit_pages"] = status.remote_hit_pages();
  out["zero_pages"] = status.zero_pages();
  out["checksum_errors"] = status.checksum_errors();
  out["disk_errors"] = status.disk_errors();
  out["disk_out"] = status.disk_out();
  out["disk_filled"] = status.disk_filled();
  out["source_checksum_errors"] = status.source_checksum_errors();
  out["map_errors"] = status.map_errors();
  out["maps_rebuilt"] = status.maps_rebuilt();
  out["pinned_frames"] = status.pinned_frames();
  out["syncs"] = status.syncs();
  out["read_errors"] = status.read_errors();
  out["disk_read_bytes"] = status.disk_read_bytes();
  out["disk_written_bytes"] = status.disk_written_bytes();
  out["scrub"] = scrub_json(status.scrub());
  out["origins"] = Json::array();
  for (const v1::OriginStatus& origin : status.origins()) {
    out["origins"].push_back(origin_json(origin));
  }
  return out;
}

std::string tiers_text(const v1::StatusResponse& status) {
  Table table({{"TIER", Align::kLeft},
               {"USED", Align::kRight},
               {"BUDGET", Align::kRight},
               {"KEPT", Align::kRight},
               {"EVICTED", Align::kRight},
               {"PAGES READ", Align::kRight}});
  const auto add = [&](const char* name, const v1::TierStatus& tier, uint64_t pages) {
    table.add_row({name, base::format_size(tier.used()), base::format_size(tier.budget()),
                   base::format_size(tier.kept()), base::format_size(tier.evicted()),
                   std::to_string(pages)});
  };
  add("memory", status.memory(), status.memory_hit_pages());
  add("disk", status.disk(), status.disk_hit_pages());
  return table.render();
}

std::string doors_text(const v1::StatusResponse& status) {
  Table table({{"DOOR", Align::kLeft},
               {"OPEN", Align::kRight},
               {"REQUESTS", Align::kRight},
               {"OUT", Align::kRight},
               {"IN", Align::kRight},
               {"ERRORS", Align::kRight}});
  const auto add = [&](const char* name, const v1::DoorStatus& door) {
    table.add_row({name, std::to_string(door.open()), std::to_string(door.requests()),
                   base::format_size(door.bytes_out()), base::format_size(door.bytes_in()),
                   std::to_string(door.errors())});
  };
  add("fuse", status.fuse());
  add("nbd", status.nbd());
  add("grpc", status.grpc());
  // What the kernel reads by itself is no request of ours.
  if (status.fuse().passed_through() > 0) {
    table.add_row(
        {"passthrough", "-", std::to_string(status.fuse().passed_through()), "-", "-", "-"});
  }
  // What the kernel reads is told by the kernel, of each device.
  if (status.ublk_devices() > 0) {
    table.add_row({"ublk", std::to_string(status.ublk_devices()), "-", "-", "-", "-"});
  }
  return table.render();
}

/// With a line's end before it; "" where there are none.
std::string origins_text(const v1::StatusResponse& status) {
  if (status.origins().empty()) return "";
  Table table({{"ORIGIN", Align::kLeft},
               {"STATE", Align::kLeft},
               {"CONNECTIONS", Align::kRight},
               {"REQUESTS", Align::kRight},
               {"READ", Align::kRight},
               {"WRITTEN", Align::kRight},
               {"RETRIES", Align::kRight}});
  for (const v1::OriginStatus& origin : status.origins()) {
    table.add_row({escape(origin.name()), std::string(state_of(origin)),
                   std::to_string(origin.connections()), std::to_string(origin.requests()),
                   base::format_size(origin.bytes_read()),
                   base::format_size(origin.bytes_written()), std::to_string(origin.retries())});
  }
  std::string out = "\n" + table.render();
  for (const v1::OriginStatus& origin : status.origins()) {
    if (origin.reachable()) continue;
    out += fmt::format("{}, {}: {}\n", escape(origin.name()), escape(origin.description()),
                       escape(origin.trouble()));
  }
  return out;
}

std::string scrub_text(const v1::ScrubStatus& scrub) {
  std::string out = scrub.running() ? "under way" : "";
  if (!scrub.has_last()) return out.empty() ? "none since the start" : out;
  const v1::ScrubSummary& last = scrub.last();
  if (!out.empty()) out += "; the last one: ";
  out += format_local_time(absl::FromUnixNanos(last.ended_ns()));
  if (!last.path().empty()) out += fmt::format(", of {}", last.path());
  return out + fmt::format(", {} objects ({}), {} damaged ({} pages)", last.objects(),
                           base::format_size(last.bytes()), last.damaged_objects(),
                           last.damaged_pages());
}

std::string mount_text(const v1::MountStatus& mount) {
  std::string how = escape(mount.subtree());
  const auto add = [&how](bool is_so, std::string_view word) {
    if (is_so) how += fmt::format("{}{}", how.empty() ? "" : ", ", word);
  };
  add(mount.read_only(), "read-only");
  add(mount.no_exec(), "noexec");
  add(mount.writeback_cache(), "writeback_cache");
  const std::string where = escape(mount.mountpoint());
  return how.empty() ? where : fmt::format("{} ({})", where, how);
}

std::string status_text(const v1::StatusResponse& status) {
  const absl::Duration age = absl::Now() - absl::FromUnixNanos(status.started_ns());
  Table head = property_table();
  head.add_row({"blobcached", fmt::format("{}, pid {}, up {}", status.version(), status.pid(),
                                          format_age(static_cast<uint64_t>(
                                              std::max<int64_t>(0, absl::ToInt64Seconds(age)))))});
  head.add_row({"store", status.store_path()});
  head.add_row(
      {"blobs", fmt::format("{} ({}), {} without a name", status.blobs(),
                            base::format_size(status.blob_bytes()), status.unnamed_blobs())});
  head.add_row({"names", status.unsettled_files() == 0
                             ? std::to_string(status.names())
                             : fmt::format("{}, {} of them being written", status.names(),
                                           status.unsettled_files())});
  const uint64_t pages = status.memory_hit_pages() + status.disk_hit_pages() +
                         status.remote_hit_pages() + status.zero_pages();
  head.add_row({"pages read", pages == 0
                                  ? "0"
                                  : fmt::format("{} ({} from memory, {} known zero)", pages,
                                                format_share(status.memory_hit_pages(), pages),
                                                format_share(status.zero_pages(), pages))});
  head.add_row(
      {"disk moved", fmt::format("{} read, {} written", base::format_size(status.disk_read_bytes()),
                                 base::format_size(status.disk_written_bytes()))});
  head.add_row(
      {"errors", fmt::format("{} checksum, {} page map, {} read, {} of the disk",
                             status.checksum_errors() + status.source_checksum_errors(),
                             status.map_errors(), status.read_errors(), status.disk_errors())});
  if (status.disk_out()) head.add_row({"disk", "out of use after errors, for reads or writes"});
  head.add_row({"scrub", scrub_text(status.scrub())});
  for (const v1::MountStatus& mount : status.mounts()) {
    head.add_row({"mount", mount_text(mount)});
  }
  for (const v1::ListenerStatus& listener : status.listeners()) {
    head.add_row({"listening", fmt::format("{} ({})", listener.address(), listener.door())});
  }
  return fmt::format("{}\n{}\n{}{}", head.render(), tiers_text(status), doors_text(status),
                     origins_text(status));
}

Outcome status(Session& session) {
  const absl::StatusOr<v1::StatusResponse> response =
      ask(session, &v1::Admin::Stub::Status, v1::StatusRequest());
  if (!response.ok()) return Outcome::failed("status", response.status());
  if (session.options().json) return print_json(status_json(*response));
  return print(status_text(*response));
}

// --------------------------------------------------------------------------------------- exports

/// Names that people gave first, then blobs; each by name.
bool comes_before(const v1::ExportsResponse::Export& a, const v1::ExportsResponse::Export& b) {
  const bool a_is_blob = a.name().starts_with("blobs/");
  const bool b_is_blob = b.name().starts_with("blobs/");
  return a_is_blob == b_is_blob ? a.name() < b.name() : b_is_blob;
}

Json exports_json(const v1::ExportsResponse& response) {
  Json out;
  out["exports"] = Json::array();
  for (const v1::ExportsResponse::Export& item : response.exports()) {
    out["exports"].push_back(
        {{"name", item.name()}, {"size", item.size()}, {"read_only", item.read_only()}});
  }
  out["listeners"] = Json::array();
  for (const std::string& listener : response.listeners()) out["listeners"].push_back(listener);
  out["truncated"] = response.truncated();
  out["left_out"] = Json::array();
  for (const std::string& missing : response.left_out()) out["left_out"].push_back(missing);
  return out;
}

std::string exports_text(const v1::ExportsResponse& response) {
  Table table({{"SIZE", Align::kRight}, {"ACCESS", Align::kLeft}, {"EXPORT", Align::kLeft}});
  for (const v1::ExportsResponse::Export& item : response.exports()) {
    table.add_row({base::format_size(item.size()), item.read_only() ? "read-only" : "read-write",
                   item.name()});
  }
  std::string out = table.render();
  if (response.truncated()) out += "... and more\n";
  for (const std::string& missing : response.left_out()) {
    out += fmt::format("... but for {}\n", escape(missing));
  }
  out += '\n';
  if (response.listeners().empty()) return out + "the NBD door is closed (nbd.listen is empty)\n";
  for (const std::string& listener : response.listeners()) {
    out += fmt::format("NBD clients connect to {}\n", escape(listener));
  }
  return out;
}

Outcome exports(Session& session) {
  absl::StatusOr<v1::ExportsResponse> response =
      ask(session, &v1::Admin::Stub::Exports, v1::ExportsRequest());
  if (!response.ok()) return Outcome::failed("exports", response.status());
  std::sort(response->mutable_exports()->begin(), response->mutable_exports()->end(), comes_before);
  if (session.options().json) return print_json(exports_json(*response));
  return print(exports_text(*response));
}

}  // namespace

void add_admin_commands(CLI::App& app, Action& selected) {
  CLI::App* const status_command =
      app.add_subcommand("status", "Show what the daemon holds and has done");
  status_command->group("The daemon");
  status_command->callback([&selected] { selected = status; });
  CLI::App* const exports_command =
      app.add_subcommand("exports", "List what NBD clients can attach, and where");
  exports_command->group("The daemon");
  exports_command->callback([&selected] { selected = exports; });
}

}  // namespace blobcache::ctl
