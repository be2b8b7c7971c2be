#include <fmt/format.h>
#include <toml++/toml.h>

#include <CLI/CLI.hpp>
#include <exception>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/config.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;

/// Needs no daemon: the file is read here, with the caller's rights, by the code that blobcached
/// has.
Outcome check(const std::string& file, Session& session) {
  server::ConfigSources sources;
  sources.file = file;
  const server::ConfigResult result = server::read_config(sources);
  if (session.options().json) {
    const Outcome printed = print_json(
        Json{{"file", file}, {"valid", result.problems.empty()}, {"problems", result.problems}});
    if (result.problems.empty() || printed.exit != ExitStatus::kDone) return printed;
  }
  if (!result.problems.empty()) {
    for (size_t i = 0; i + 1 < result.problems.size(); ++i) {
      print_error(fmt::format("config check: {}", result.problems[i]));
    }
    return {ExitStatus::kFailed, fmt::format("config check: {}", result.problems.back())};
  }
  return print(fmt::format("{}: valid\n", escape(file)));
}

absl::StatusOr<Json> toml_to_json(const std::string& text) {
  try {
    std::ostringstream out;
    out << toml::json_formatter{toml::parse(text)};
    return Json::parse(out.str());
  } catch (const std::exception& error) {
    return base::error(absl::StatusCode::kInternal,
                       fmt::format("the daemon's answer makes no sense: {}", error.what()));
  }
}

Outcome show(Session& session) {
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed("config show", client.status());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub((*client)->channel());
  const absl::StatusOr<v1::ShowConfigResponse> response =
      call(**client, *stub, &v1::Admin::Stub::ShowConfig, v1::ShowConfigRequest());
  if (!response.ok()) return Outcome::failed("config show", response.status());
  if (!session.options().json) return print(response->toml());
  const absl::StatusOr<Json> document = toml_to_json(response->toml());
  if (!document.ok()) return Outcome::failed("config show", document.status());
  return print_json(*document);
}

}  // namespace

void add_config_commands(CLI::App& app, Action& selected) {
  CLI::App* const config =
      app.add_subcommand("config", "Check a configuration, show the one in force");
  config->group("The daemon");
  config->require_subcommand(1);
  const auto file = std::make_shared<std::string>();
  CLI::App* const check_command =
      config->add_subcommand("check", "Check a configuration file, without a daemon");
  check_command->add_option("FILE", *file, "A configuration file for blobcached")
      ->required()
      ->type_name("");
  check_command->callback(
      [file, &selected] { selected = [file](Session& session) { return check(*file, session); }; });
  CLI::App* const show_command =
      config->add_subcommand("show", "Print the running daemon's configuration as TOML");
  show_command->callback([&selected] { selected = show; });
}

}  // namespace blobcache::ctl
