#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/size.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/each_path.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/text.h"
#include "store/page/geometry.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;
using Paths = std::vector<std::string>;

struct EvictOptions {
  Paths paths;
  std::string tier = "all";
};

Outcome pin(const Paths& arguments, Session& session) {
  return for_each_path(
      "pin", "pinned", arguments, session,
      [](const net::RpcClient& client, v1::Admin::Stub& stub,
         const std::string& path) -> absl::StatusOr<Json> {
        v1::PinRequest request;
        request.set_path(path);
        BLOBCACHE_RETURN_IF_ERROR(call(client, stub, &v1::Admin::Stub::Pin, request).status());
        return Json(path);
      });
}

Outcome unpin(const Paths& arguments, Session& session) {
  return for_each_path(
      "unpin", "unpinned", arguments, session,
      [](const net::RpcClient& client, v1::Admin::Stub& stub,
         const std::string& path) -> absl::StatusOr<Json> {
        v1::UnpinRequest request;
        request.set_path(path);
        BLOBCACHE_RETURN_IF_ERROR(call(client, stub, &v1::Admin::Stub::Unpin, request).status());
        return Json(path);
      });
}

// ----------------------------------------------------------------------------------------- evict

std::optional<v1::EvictRequest::Tier> parse_tier(std::string_view text) {
  if (text == "ram") return v1::EvictRequest::MEMORY;
  if (text == "disk") return v1::EvictRequest::DISK;
  if (text == "all") return v1::EvictRequest::ALL;
  return std::nullopt;
}

std::string evicted_text(const std::string& path, v1::EvictRequest::Tier tier,
                         const v1::EvictResponse& response) {
  std::vector<std::string> facts;
  if (tier != v1::EvictRequest::DISK) {
    const uint64_t pages = response.memory_pages();
    facts.push_back(fmt::format("{} page{} ({}) left memory", pages, pages == 1 ? "" : "s",
                                base::format_size(pages * page::kPageSize)));
  }
  if (response.removed()) {
    // What an origin has is there all the same.
    facts.push_back(fmt::format("{} left the disk{}", base::format_size(response.disk_bytes()),
                                path.starts_with("origins/") ? "" : ": the blob is gone"));
  }
  if (!response.stays().empty()) facts.push_back(escape(response.stays()));
  return fmt::format("{}: {}\n", escape(path), fmt::join(facts, "; "));
}

Json evicted_json(const std::string& path, const v1::EvictResponse& response) {
  return {{"path", path},
          {"memory_pages", response.memory_pages()},
          {"removed", response.removed()},
          {"disk_bytes", response.disk_bytes()},
          {"stays", response.stays().empty() ? Json(nullptr) : Json(response.stays())}};
}

Outcome evict(const EvictOptions& arguments, Session& session) {
  const std::optional<v1::EvictRequest::Tier> tier = parse_tier(arguments.tier);
  if (!tier) {
    return Outcome::usage("evict --tier", fmt::format("{}: no tier; there are ram, disk and all",
                                                      escape(arguments.tier)));
  }
  std::string text;
  const auto action = [&](const net::RpcClient& client, v1::Admin::Stub& stub,
                          const std::string& path) -> absl::StatusOr<Json> {
    v1::EvictRequest request;
    request.set_path(path);
    request.set_tier(*tier);
    BLOBCACHE_ASSIGN_OR_RETURN(const v1::EvictResponse response,
                               call(client, stub, &v1::Admin::Stub::Evict, request));
    text += evicted_text(path, *tier, response);
    return evicted_json(path, response);
  };
  Outcome outcome = for_each_path("evict", "evicted", arguments.paths, session, action);
  if (session.options().json || text.empty()) return outcome;
  Outcome printed = print(text);
  return outcome.exit == ExitStatus::kDone ? printed : outcome;
}

// -------------------------------------------------------------------------------- the command line

CLI::App* add_command(CLI::App& app, const char* name, const char* description, Paths& paths) {
  CLI::App* const command = app.add_subcommand(name, description);
  command->group("The tree");
  command->add_option("PATH", paths, "Files, blobs/HEX or sha256:HEX; no directories")
      ->required()
      ->type_name("");
  return command;
}

void add_pin(CLI::App& app, Action& selected) {
  const auto paths = std::make_shared<Paths>();
  CLI::App* const command =
      add_command(app, "pin", "Keep blobs until they are unpinned, named or not", *paths);
  command->callback([paths, &selected] {
    selected = [paths](Session& session) { return pin(*paths, session); };
  });
}

void add_unpin(CLI::App& app, Action& selected) {
  const auto paths = std::make_shared<Paths>();
  CLI::App* const command = add_command(app, "unpin", "Let pinned blobs go again", *paths);
  command->callback([paths, &selected] {
    selected = [paths](Session& session) { return unpin(*paths, session); };
  });
}

void add_evict(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<EvictOptions>();
  CLI::App* const command = add_command(
      app, "evict", "Drop blobs from memory, and cached ones from the disk", options->paths);
  command
      ->add_option("--tier", options->tier,
                   "ram, disk or all, by default: the disk only where nothing keeps the blob")
      ->type_name("TIER");
  command->footer(
      "What leaves the disk is gone: the store has no other copy.\n"
      "Examples:\n"
      "  blobcachectl evict --tier ram files/images/debian.raw\n"
      "  blobcachectl evict sha256:3b0c...");
  command->callback([options, &selected] {
    selected = [options](Session& session) { return evict(*options, session); };
  });
}

}  // namespace

void add_pin_commands(CLI::App& app, Action& selected) {
  add_pin(app, selected);
  add_unpin(app, selected);
  add_evict(app, selected);
}

}  // namespace blobcache::ctl
