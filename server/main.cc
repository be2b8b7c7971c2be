// blobcached: command line, signals, and when to start, reload and stop the Daemon. Signals are
// taken one by one with sigwait on the main thread, never in handlers: all other threads have them
// blocked.

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/limits.h"
#include "server/logging.h"
#include "server/notify.h"
#include "server/version.h"

namespace blobcache::server {
namespace {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

struct CommandLine {
  ConfigSources sources;
  bool check = false;
};

/// What the command line asks for, or the status to exit with.
struct Parsed {
  CommandLine command;
  std::optional<int> exit_status;
};

void print_error(std::string_view line) {
  // Where systemd reads stderr, this line has a priority like all others.
  const char* stream = ::getenv("JOURNAL_STREAM");
  const bool journal = is_journal(stream == nullptr ? "" : stream, STDERR_FILENO);
  fmt::print(stderr, "{}blobcached: {}\n", journal ? "<3>" : "", line);
}

Parsed parse_command_line(int argc, char** argv) {
  Parsed parsed;
  std::string file;
  CLI::App app("Keeps blobs and disk images close to the programs that read them.", "blobcached");
  app.add_option("--config", file, "Read this TOML file; see blobcached.toml(5)")
      ->type_name("FILE");
  app.add_option("--set", parsed.command.sources.overrides,
                 "Set one key over the file, as in store.memory=2GiB; repeatable")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_flag("--check", parsed.command.check, "Check the configuration and exit");
  app.set_version_flag("--version", fmt::format("blobcached {}", version()));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // --help and --version come this way too, and are printed by CLI11.
    if (error.get_exit_code() == 0) {
      parsed.exit_status = app.exit(error);
    } else {
      print_error(fmt::format("{}; see blobcached --help", error.what()));
      parsed.exit_status = kExitUsage;
    }
    return parsed;
  }
  if (app.count("--config") > 0) parsed.command.sources.file = file;
  return parsed;
}

int check(const ConfigSources& sources) {
  const ConfigResult result = read_config(sources);
  for (const std::string& problem : result.problems) print_error(problem);
  if (!result.problems.empty()) return kExitFailed;
  fmt::print("{}: OK\n", sources.file.has_value() ? sources.file->native() : "configuration");
  return kExitDone;
}

sigset_t handled_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGHUP);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  return signals;
}

/// From now on SIGINT and SIGTERM end the process at once: somebody has no patience with a slow
/// stop.
void let_signals_kill() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

void tell_service_manager(const std::string& socket, std::string_view message) {
  const absl::Status told = notify(socket, message);
  if (!told.ok()) spdlog::warn("{}", base::message(told));
}

void reload(Daemon& daemon, const ConfigSources& sources, const std::string& notify_socket) {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const int64_t microseconds = int64_t{now.tv_sec} * 1'000'000 + now.tv_nsec / 1000;
  tell_service_manager(notify_socket, fmt::format("RELOADING=1\nMONOTONIC_USEC={}", microseconds));
  if (!sources.file.has_value()) spdlog::info("reload: there is no configuration file to read");
  const ConfigResult result = read_config(sources);
  for (const std::string& problem : result.problems) spdlog::error("reload: {}", problem);
  if (result.problems.empty()) {
    daemon.reload(result.config);
  } else {
    spdlog::error("reload: the configuration stays as it was");
  }
  tell_service_manager(notify_socket, "READY=1");
}

int run(const ConfigSources& sources) {
  const sigset_t signals = handled_signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  ::umask(0077);
  // Distributions' Abseil looks for deadlocks at every lock, which is for debugging and costs a hit
  // more than the lock does; the sanitizer builds look for them.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  start_logging();
  const std::string notify_socket = notify_socket_name();

  const absl::StatusOr<Config> config = load_config(sources);
  if (!config.ok()) {
    print_error(base::message(config.status()));
    return kExitFailed;
  }
  const absl::Status raised = raise_open_files_limit();
  if (!raised.ok()) spdlog::warn("{}", base::message(raised));
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::start(*config);
  if (!daemon.ok()) {
    print_error(base::message(daemon.status()));
    return kExitFailed;
  }
  tell_service_manager(notify_socket, "READY=1");
  log_always("ready");

  for (;;) {
    int signal = 0;
    if (::sigwait(&signals, &signal) != 0) continue;
    if (signal != SIGHUP) break;
    reload(**daemon, sources, notify_socket);
  }
  let_signals_kill();
  spdlog::info("stopping");
  tell_service_manager(notify_socket, "STOPPING=1");
  (*daemon)->stop();
  spdlog::info("stopped");
  return kExitDone;
}

}  // namespace
}  // namespace blobcache::server

int main(int argc, char** argv) {
  namespace server = blobcache::server;
  try {
    const server::Parsed parsed = server::parse_command_line(argc, argv);
    if (parsed.exit_status.has_value()) return *parsed.exit_status;
    return parsed.command.check ? server::check(parsed.command.sources)
                                : server::run(parsed.command.sources);
  } catch (const std::exception& error) {
    server::print_error(error.what());
    return server::kExitFailed;
  }
}
