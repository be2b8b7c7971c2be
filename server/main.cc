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
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "base/size.h"
#include "base/status.h"
#include "blockdev/tls.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/limits.h"
#include "server/logging.h"
#include "server/notify.h"
#include "server/options.h"
#include "server/version.h"
#include "store/tree/rebuild.h"

namespace blobcache::server {
namespace {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

struct CommandLine {
  ConfigSources sources;
  bool check = false;
  bool rebuild = false;
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
  CLI::Option* check =
      app.add_flag("--check", parsed.command.check, "Check the configuration and exit");
  app.add_flag("--rebuild", parsed.command.rebuild,
               "Make a lost or damaged catalog again from the store's files and exit")
      ->excludes(check);
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
  const absl::Status tls = blockdev::load_tls(nbd_options(result.config.nbd, 0).tls).status();
  if (!tls.ok()) {
    print_error(fmt::format("nbd.tls: {}", base::message(tls)));
    return kExitFailed;
  }
  fmt::print("{}: OK\n", sources.file.has_value() ? sources.file->native() : "configuration");
  return kExitDone;
}

/// The new catalog must be the daemon's to write, also when root makes it.
absl::Status become_owner_of(const std::filesystem::path& store) {
  struct stat info{};
  if (::geteuid() != 0 || ::stat(store.c_str(), &info) != 0 || info.st_uid == 0) {
    return absl::OkStatus();
  }
  if (::setegid(info.st_gid) == 0 && ::seteuid(info.st_uid) == 0) return absl::OkStatus();
  return base::errno_error(
      errno, fmt::format("becoming uid {}, who owns {}", info.st_uid, store.native()));
}

int rebuild(const ConfigSources& sources) {
  ::umask(0077);
  const absl::StatusOr<Config> config = load_config(sources);
  absl::Status status = config.status();
  absl::StatusOr<tree::RebuildSummary> summary;
  if (status.ok()) status = become_owner_of(config->store.path);
  if (status.ok()) {
    tree::RebuildOptions options;
    options.path = config->store.path;
    options.report = [](std::string_view line) { print_error(line); };
    summary = tree::rebuild_catalog(options);
    status = base::annotate(summary.status(), "rebuild");
  }
  if (!status.ok()) {
    print_error(base::message(status));
    return kExitFailed;
  }
  if (!summary->set_aside.empty()) {
    fmt::print("the catalog that was there is now {}\n", summary->set_aside.native());
  }
  fmt::print("{}: back: {} blobs ({}), {} names; left out: {} blobs; names lost: {}\n",
             config->store.path.native(), summary->blobs, base::format_size(summary->blob_bytes),
             summary->names, summary->left_out, summary->names_lost);
  return summary->complete() ? kExitDone : kExitFailed;
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
    const server::ConfigSources& sources = parsed.command.sources;
    if (parsed.command.check) return server::check(sources);
    return parsed.command.rebuild ? server::rebuild(sources) : server::run(sources);
  } catch (const std::exception& error) {
    server::print_error(error.what());
    return server::kExitFailed;
  }
}
