#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

/// An upgrade is over after a pause of 10 seconds, or what a way back takes after that.
constexpr absl::Duration kMostPatience = absl::Seconds(60);
constexpr absl::Duration kBetweenLooks = absl::Milliseconds(50);
/// Its sockets go from one program to the next and are never closed: when nobody has them for so
/// long the daemon is gone.
constexpr absl::Duration kGone = absl::Seconds(3);

/// The daemon has another working directory than we have.
absl::StatusOr<std::string> program_of(const std::string& argument) {
  if (argument.empty()) return std::string();
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error);
  if (error && !argument.starts_with('/')) {
    return base::errno_error(error.value(), "the working directory");
  }
  return absolute_path(argument, here);
}

absl::StatusOr<v1::UpgradeOutcomeResponse> ask_outcome(uint64_t number, Session& session) {
  // The connection before it ended with the program before it.
  Session fresh(session.options());
  BLOBCACHE_ASSIGN_OR_RETURN(const net::RpcClient* const client, fresh.connect());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client->channel());
  v1::UpgradeOutcomeRequest request;
  request.set_number(number);
  return call(*client, *stub, &v1::Admin::Stub::UpgradeOutcome, request);
}

/// What became of it, asked for until somebody knows.
absl::StatusOr<v1::UpgradeOutcomeResponse> await_outcome(uint64_t number, Session& session) {
  const absl::Time deadline = absl::Now() + kMostPatience;
  absl::Time was_there = absl::Now();
  for (;;) {
    if (session.may_be_there()) {
      was_there = absl::Now();
    } else if (absl::Now() - was_there > kGone) {
      return absl::AbortedError("the daemon has ended while it was upgraded");
    }
    absl::StatusOr<v1::UpgradeOutcomeResponse> outcome = ask_outcome(number, session);
    if (outcome.ok() && outcome->over()) return outcome;
    const bool may_come = outcome.ok() || absl::IsUnavailable(outcome.status()) ||
                          absl::IsCancelled(outcome.status());
    if (!may_come) return outcome;
    if (absl::Now() >= deadline) {
      if (!outcome.ok()) return outcome;
      return absl::DeadlineExceededError("it is still under way");
    }
    absl::SleepFor(kBetweenLooks);
  }
}

Outcome upgrade(const std::string& argument, Session& session) {
  const absl::StatusOr<std::string> program = program_of(argument);
  if (absl::IsInvalidArgument(program.status())) {
    return Outcome::usage("upgrade", base::message(program.status()));
  }
  if (!program.ok()) return Outcome::failed("upgrade", program.status());
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed("upgrade", client.status());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub((*client)->channel());
  v1::UpgradeRequest request;
  request.set_program(*program);
  const absl::StatusOr<v1::UpgradeResponse> begun =
      call(**client, *stub, &v1::Admin::Stub::Upgrade, request);
  if (!begun.ok()) return Outcome::failed("upgrade", begun.status());
  const absl::StatusOr<v1::UpgradeOutcomeResponse> outcome =
      await_outcome(begun->number(), session);
  if (!outcome.ok()) return Outcome::failed("upgrade", outcome.status());
  if (!outcome->aborted().empty()) {
    return Outcome::failed(
        "upgrade", absl::AbortedError(fmt::format("aborted, and the former program serves: {}",
                                                  outcome->aborted())));
  }
  const absl::Duration pause = absl::Nanoseconds(outcome->pause_ns());
  if (!session.options().json) {
    return print(fmt::format("blobcached {} serves; requests have waited for {} ms\n",
                             outcome->version(), absl::ToInt64Milliseconds(pause)));
  }
  return print_json(nlohmann::ordered_json{{"version", outcome->version()},
                                           {"pause_seconds", absl::ToDoubleSeconds(pause)}});
}

}  // namespace

void add_upgrade_command(CLI::App& app, Action& selected) {
  const auto program = std::make_shared<std::string>();
  CLI::App* const command =
      app.add_subcommand("upgrade", "Have the daemon become a newer program, without unmounting");
  command->group("The daemon");
  command
      ->add_option("--binary", *program,
                   "The program; without it, the one that is installed where the daemon's is from")
      ->type_name("FILE");
  command->callback([program, &selected] {
    selected = [program](Session& session) { return upgrade(*program, session); };
  });
}

}  // namespace blobcache::ctl
