#include "server/ctl/impl/each_path.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "base/status.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {

namespace {

using Json = nlohmann::ordered_json;

}  // namespace

Outcome for_each_path(std::string_view command, std::string_view done,
                      const std::vector<std::string>& arguments, Session& session,
                      PathAction action) {
  const auto what = [&](const std::string& argument) {
    return fmt::format("{} {}", command, escape(argument));
  };
  std::vector<std::string> paths;
  for (const std::string& argument : arguments) {
    const absl::StatusOr<std::string> path = parse_path(argument);
    if (!path.ok()) return Outcome::usage(what(argument), base::message(path.status()));
    paths.push_back(*path);
  }
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(command, client.status());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub((*client)->channel());
  Json items = Json::array();
  Outcome outcome;
  for (size_t i = 0; i < paths.size(); ++i) {
    absl::StatusOr<Json> item = action(**client, *stub, paths[i]);
    if (item.ok()) {
      items.push_back(*std::move(item));
      continue;
    }
    if (!outcome.message.empty()) print_error(outcome.message);
    outcome = Outcome::failed(what(arguments[i]), with_hint(item.status(), paths[i]));
  }
  if (session.options().json) {
    const Outcome printed = print_json(Json{{std::string(done), std::move(items)}});
    if (outcome.exit == ExitStatus::kDone) return printed;
  }
  return outcome;
}

}  // namespace blobcache::ctl
