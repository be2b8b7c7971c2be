// blobcached: command line, signals, and when to start, reload and stop the Daemon. Signals are
// taken one by one with sigwait on the main thread, never in handlers: all other threads have them
// blocked.

#include <fmt/format.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
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

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/parcel.h"
#include "base/resolve_links.h"
#include "base/size.h"
#include "base/status.h"
#include "blockdev/tls.h"
#include "net/rpc_server.h"
#include "server/config.h"
#include "server/daemon.h"
#include "server/handover.h"
#include "server/limits.h"
#include "server/logging.h"
#include "server/notify.h"
#include "server/options.h"
#include "server/succession.h"
#include "server/upgrade_desk.h"
#include "server/version.h"
#include "store/tree/rebuild.h"

namespace blobcache::server {
namespace {

constexpr int kExitDone = 0;
constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;

struct CommandLine {
  ConfigSources sources;
  std::vector<std::string> arguments;  ///< all, as they were
  bool check = false;
  std::optional<uint32_t> takes_over;  ///< a state's version, which --check is asked about
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
  parsed.command.arguments.assign(argv, argv + argc);
  CLI::App app("Keeps blobs and disk images close to the programs that read them.", "blobcached");
  app.add_option("--config", file, "Read this TOML file; see blobcached.toml(5)")
      ->type_name("FILE");
  app.add_option("--set", parsed.command.sources.overrides,
                 "Set one key over the file, as in store.memory=2GiB; repeatable")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  CLI::Option* check =
      app.add_flag("--check", parsed.command.check, "Check the configuration and exit");
  app.add_option("--takes-over", parsed.command.takes_over,
                 "With --check: say, too, whether this program knows the state of a daemon that is "
                 "to become it")
      ->type_name("VERSION")
      ->needs(check);
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

/// Another program, which is about to become this one, asks by its state's version.
bool knows_state(uint32_t version) {
  if (version == kHandoverVersion) return true;
  print_error(fmt::format(
      "cannot take over from the running daemon, whose state has version {}: this program knows "
      "version {}; restart the daemon instead",
      version, kHandoverVersion));
  return false;
}

/// The files that the configuration names and a start reads.
absl::Status check_files(const Config& config) {
  const absl::Status tls = blockdev::load_tls(nbd_options(config.nbd, 0).tls).status();
  BLOBCACHE_RETURN_IF_ERROR(base::annotate(tls, "nbd.tls"));
  BLOBCACHE_ASSIGN_OR_RETURN(const net::RpcServerOptions grpc, rpc_options(config.grpc, 0));
  return base::annotate(net::RpcServer::check_files(grpc), "grpc");
}

int check(const CommandLine& command) {
  const ConfigSources& sources = command.sources;
  if (command.takes_over && !knows_state(*command.takes_over)) return kExitFailed;
  const ConfigResult result = read_config(sources);
  for (const std::string& problem : result.problems) print_error(problem);
  if (!result.problems.empty()) return kExitFailed;
  if (const absl::Status files = check_files(result.config); !files.ok()) {
    print_error(base::message(files));
    return kExitFailed;
  }
  fmt::print("{}: OK\n", sources.file.has_value() ? sources.file->native() : "configuration");
  if (command.takes_over) fmt::print("{}\n", takes_over_line(*command.takes_over));
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
  ::sigaddset(&signals, SIGUSR2);
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

void tell_reloading(const std::string& notify_socket) {
  tell_service_manager(notify_socket,
                       fmt::format("RELOADING=1\nMONOTONIC_USEC={}", monotonic_ns() / 1000));
}

void reload(Daemon& daemon, const ConfigSources& sources, const std::string& notify_socket) {
  tell_reloading(notify_socket);
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

/// Becomes another program, and returns only when that was aborted while this one still serves.
void become(Daemon& daemon, UpgradeDesk& desk, const UpgradeDesk::Order& order) {
  spdlog::info("upgrade: to {}", order.program);
  const auto aborted = [&](const absl::Status& why, absl::Duration pause) {
    spdlog::error("upgrade: aborted: {}", base::message(why));
    desk.note(order.number, why, pause);
  };
  const absl::StatusOr<Departure> departure = prepare_departure();
  if (!departure.ok()) return aborted(departure.status(), absl::ZeroDuration());
  const int64_t paused_ns = monotonic_ns();
  const absl::Status paused = daemon.pause(absl::Now() + kLongestDrain);
  if (!paused.ok()) return aborted(paused, absl::Nanoseconds(monotonic_ns() - paused_ns));
  absl::StatusOr<base::Parcel> state = daemon.hand_over();
  if (state.ok()) {
    daemon.stop();
    const Handover handover = {.daemon = *std::move(state),
                               .number = order.number,
                               .paused_ns = paused_ns,
                               .program = order.program,
                               .former = desk.program(),
                               .arguments = desk.arguments(),
                               .configuration = daemon.config_toml()};
    state = depart(*departure, handover);
  }
  // What is left of this process serves nothing: its end unmounts, as a crash does.
  spdlog::critical("upgrade: {}", base::message(state.status()));
  ::_exit(kExitFailed);
}

void upgrade(Daemon& daemon, UpgradeDesk& desk, const std::string& notify_socket) {
  std::optional<UpgradeDesk::Order> order = desk.take();
  if (!order) {  // the signal is somebody else's: to the program that is installed now
    const absl::StatusOr<uint64_t> placed = desk.place("", daemon.mounts());
    if (!placed.ok()) return spdlog::error("upgrade: refused: {}", base::message(placed.status()));
    order = desk.take();
    if (!order) return;
  }
  tell_reloading(notify_socket);
  become(daemon, desk, *order);
  tell_service_manager(notify_socket, "READY=1");
}

/// The daemon serves, after an upgrade or when one has failed.
void end_upgrade(Daemon& daemon, UpgradeDesk& desk, Succession& succession) {
  daemon.end_take_over();
  const absl::Duration pause = absl::Nanoseconds(monotonic_ns() - succession.handover->paused_ns);
  end_succession();
  succession.handover->daemon = base::Parcel();  // else a mount outlived its end
  const bool failed = succession.is_way_back;
  desk.note(succession.handover->number,
            failed ? base::error(absl::StatusCode::kAborted, succession.failure) : absl::OkStatus(),
            pause);
  const auto milliseconds = absl::ToInt64Milliseconds(pause);
  if (failed) {
    spdlog::error("upgrade: aborted: {}; the former program serves again, after {} ms",
                  succession.failure, milliseconds);
  } else {
    spdlog::info("upgrade: done; requests have waited for {} ms", milliseconds);
  }
}

int serve(Daemon& daemon, UpgradeDesk& desk, const ConfigSources& sources,
          const std::string& notify_socket) {
  const sigset_t signals = handled_signals();
  for (;;) {
    int signal = 0;
    if (::sigwait(&signals, &signal) != 0) continue;
    if (signal == SIGHUP) {
      reload(daemon, sources, notify_socket);
    } else if (signal == SIGUSR2) {
      upgrade(daemon, desk, notify_socket);
    } else {
      break;
    }
  }
  let_signals_kill();
  spdlog::info("stopping");
  tell_service_manager(notify_socket, "STOPPING=1");
  daemon.stop();
  spdlog::info("stopped");
  return kExitDone;
}

/// A start that has failed. With a former program that goes on, this does not return.
int failed_start(const absl::Status& why) {
  go_back(why);
  print_error(base::message(why));
  return kExitFailed;
}

/// The file that this program is from, as upgrades have it.
std::string program_of(const Succession& succession) {
  if (!succession.happens || !succession.handover.ok()) return own_program().value_or("");
  return succession.is_way_back ? succession.handover->former : succession.handover->program;
}

bool is_same_place(const std::filesystem::path& a, const std::filesystem::path& b) {
  return base::resolve_links(a) == base::resolve_links(b);
}

/// What to run by. The former program, when it goes on, does so by what it ran by: what is in the
/// file by now may be what kept the new one from starting.
absl::StatusOr<Config> configuration_of(const CommandLine& command, const Succession& succession) {
  if (!succession.happens) return load_config(command.sources);
  ConfigResult former = parse_config(succession.handover->configuration, "the former one", {});
  if (!former.problems.empty()) return absl::DataLossError(former.problems.front());
  if (succession.is_way_back) return std::move(former.config);
  BLOBCACHE_ASSIGN_OR_RETURN(Config config, load_config(command.sources));
  // What is open is of that store, and so is the lock.
  if (is_same_place(config.store.path, former.config.store.path)) return config;
  return absl::FailedPreconditionError(
      fmt::format("store.path: is {} now, and was {}; restart the daemon to change it",
                  config.store.path.native(), former.config.store.path.native()));
}

int run(const CommandLine& command) {
  const sigset_t signals = handled_signals();
  // Not added to what is blocked: an upgrade may come here from a signal handler.
  ::pthread_sigmask(SIG_SETMASK, &signals, nullptr);
  Succession succession = begin_succession(command.arguments);
  ::signal(SIGPIPE, SIG_IGN);
  ::umask(0077);
  // Distributions' Abseil looks for deadlocks at every lock, which is for debugging and costs a hit
  // more than the lock does; the sanitizer builds look for them.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  start_logging();
  const std::string notify_socket = notify_socket_name();
  if (succession.happens && !succession.handover.ok()) {
    return failed_start(succession.handover.status());
  }

  const absl::StatusOr<Config> config = configuration_of(command, succession);
  if (!config.ok()) return failed_start(config.status());
  const absl::Status raised = raise_open_files_limit();
  if (!raised.ok()) spdlog::warn("{}", base::message(raised));
  const std::filesystem::path file = command.sources.file.value_or("");
  UpgradeDesk desk({command.arguments, program_of(succession), file.native()},
                   [] { ::kill(::getpid(), SIGUSR2); });
  if (succession.happens) desk.resume(succession.handover->number);
  DaemonEnvironment environment;
  environment.upgrades = &desk;
  environment.on_failure = &go_back;
  if (succession.happens) environment.handed_over = &succession.handover->daemon;
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::start(*config, environment);
  if (!daemon.ok()) return failed_start(daemon.status());
  if (succession.happens) end_upgrade(**daemon, desk, succession);
  tell_service_manager(notify_socket, "READY=1");
  log_always("ready");
  return serve(**daemon, desk, command.sources, notify_socket);
}

}  // namespace
}  // namespace blobcache::server

int main(int argc, char** argv) {
  namespace server = blobcache::server;
  try {
    const server::Parsed parsed = server::parse_command_line(argc, argv);
    if (parsed.exit_status.has_value()) return *parsed.exit_status;
    const server::CommandLine& command = parsed.command;
    if (command.check) return server::check(command);
    return command.rebuild ? server::rebuild(command.sources) : server::run(command);
  } catch (const std::exception& error) {
    return server::failed_start(absl::InternalError(error.what()));
  }
}
