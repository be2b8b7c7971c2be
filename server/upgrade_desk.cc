#include "server/upgrade_desk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "server/handover.h"

namespace blobcache::server {
namespace {

/// Of what a program says, this is enough to find a line in, or to show.
constexpr size_t kMostSaid = size_t{16} << 10;

/// What is read while the mounts are paused must not lie on one of them.
absl::Status check_apart(const std::string& path, const std::vector<dev_t>& own_devices) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return base::errno_error(errno, path);
  if (std::find(own_devices.begin(), own_devices.end(), info.st_dev) == own_devices.end()) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      fmt::format("{}: lies on a mount of this daemon, which waits while it is upgraded; copy it "
                  "elsewhere",
                  path));
}

absl::Status check_file(const std::string& program, const std::vector<dev_t>& own_devices) {
  if (!program.starts_with('/')) {
    return absl::InvalidArgumentError(fmt::format("{}: is no absolute path", program));
  }
  BLOBCACHE_RETURN_IF_ERROR(check_apart(program, own_devices));
  struct stat info{};
  if (::stat(program.c_str(), &info) != 0) return base::errno_error(errno, program);
  if (!S_ISREG(info.st_mode)) {
    return absl::FailedPreconditionError(fmt::format("{}: is no program file", program));
  }
  if (::access(program.c_str(), X_OK) != 0) return base::errno_error(errno, program);
  return absl::OkStatus();
}

/// The same file by a path that means it later, too, and in another process; what is in /proc does
/// not. Other links are left as they are: an installation may have one that moves.
std::string steady_path(const std::string& program) {
  constexpr int kMostLinks = 40;
  std::error_code error;
  std::filesystem::path path = std::filesystem::path(program).lexically_normal();
  for (int links = 0; links < kMostLinks; ++links) {
    if (path.native().starts_with("/proc/") || path.native().starts_with("/dev/fd/")) {
      const std::filesystem::path real = std::filesystem::canonical(path, error);
      return error ? program : real.native();
    }
    const std::filesystem::path target = std::filesystem::read_symlink(path, error);
    if (error) break;
    path = (path.parent_path() / target).lexically_normal();
  }
  return program;
}

/// Who may ask for an upgrade need not be root, and must not become it by naming a program: that is
/// root's or this process's user's, and so are all directories on the way to it.
absl::Status check_trusted(const std::string& program) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::canonical(program, error);
  if (error) return base::errno_error(error.value(), program);
  for (;;) {
    struct stat info{};
    if (::stat(path.c_str(), &info) != 0) return base::errno_error(errno, path.native());
    const bool is_ours = info.st_uid == 0 || info.st_uid == ::geteuid();
    const bool others_write = (info.st_mode & (S_IWGRP | S_IWOTH)) != 0;
    const bool is_sticky = S_ISDIR(info.st_mode) && (info.st_mode & S_ISVTX) != 0;
    if (!is_ours || (others_write && !is_sticky)) {
      return absl::PermissionDeniedError(
          fmt::format("{}: {} can be changed by others than root and the daemon's user", program,
                      path.native()));
    }
    if (path == path.root_path()) return absl::OkStatus();
    path = path.parent_path();
  }
}

/// A child in a process group of its own, which ends with this.
class TrialRun {
 public:
  ~TrialRun() { static_cast<void>(end()); }
  TrialRun() = default;
  TrialRun(const TrialRun&) = delete;
  TrialRun& operator=(const TrialRun&) = delete;

  [[nodiscard]] absl::Status start(const std::string& program, std::vector<std::string> words);
  /// Reads until the output's end, and waits for the child's; false when they do not come by
  /// `deadline`.
  [[nodiscard]] bool read_all(absl::Time deadline);
  /// The exit status, or -1.
  [[nodiscard]] int end();
  [[nodiscard]] const std::string& said() const { return said_; }
  /// Until it is ended.
  [[nodiscard]] pid_t group() const { return child_; }

 private:
  [[nodiscard]] bool is_over() const;

  pid_t child_ = 0;
  base::UniqueFd output_;
  std::string said_;
};

absl::Status TrialRun::start(const std::string& program, std::vector<std::string> words) {
  std::array<int, 2> ends = {-1, -1};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return base::errno_error(errno, "a pipe");
  output_ = base::UniqueFd(ends[0]);
  const base::UniqueFd input(ends[1]);
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, input.get(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&files, input.get(), STDERR_FILENO);
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  const int error =
      ::posix_spawn(&child_, program.c_str(), &files, &attributes, pointers.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  if (error == 0) return absl::OkStatus();
  child_ = 0;
  return base::errno_error(error, program);
}

bool TrialRun::read_all(absl::Time deadline) {
  std::array<char, 4096> buffer{};
  for (;;) {
    const absl::Duration left = deadline - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    pollfd watched = {output_.get(), POLLIN, 0};
    if (::poll(&watched, 1, static_cast<int>(absl::ToInt64Milliseconds(left)) + 1) <= 0) continue;
    const ssize_t got = ::read(output_.get(), buffer.data(), buffer.size());
    if (got == 0) break;
    if (got < 0 && errno != EINTR) return false;
    if (got > 0 && said_.size() < kMostSaid) said_.append(buffer.data(), static_cast<size_t>(got));
  }
  constexpr int kLookMs = 2;
  while (!is_over()) {
    if (absl::Now() >= deadline) return false;
    ::poll(nullptr, 0, kLookMs);
  }
  return true;
}

bool TrialRun::is_over() const {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid != 0;
}

int TrialRun::end() {
  if (child_ == 0) return -1;
  ::kill(-child_, SIGKILL);  // whatever it has started goes, too; what is over has its status
  int status = 0;
  while (::waitpid(child_, &status, 0) < 0 && errno == EINTR) {
  }
  child_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// The last line, which says what is wrong if any does.
std::string last_line(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  const size_t before = text.rfind('\n');
  return std::string(before == std::string_view::npos ? text : text.substr(before + 1));
}

bool has_line(std::string_view text, std::string_view line) {
  return fmt::format("\n{}\n", text).find(fmt::format("\n{}\n", line)) != std::string::npos;
}

/// What a trial run has come to, by its exit status and what it said.
absl::Status judge(const std::string& program, int status, const std::string& said) {
  if (status == 0 && has_line(said, takes_over_line(kHandoverVersion))) return absl::OkStatus();
  if (status == 0) {
    return absl::FailedPreconditionError(
        fmt::format("{}: does not say that it can take over from a running daemon", program));
  }
  const std::string last = last_line(said);
  return absl::FailedPreconditionError(
      fmt::format("{} --check: {}", program,
                  last.empty() ? fmt::format("ended with status {}", status) : last));
}

}  // namespace

std::string takes_over_line(uint32_t version) { return fmt::format("handover {}: OK", version); }

absl::Status check_successor(const std::string& program, const std::vector<std::string>& arguments,
                             OwnMounts& own_mounts) {
  BLOBCACHE_RETURN_IF_ERROR(check_file(program, own_mounts.devices()));
  std::vector<std::string> words = arguments;
  words.emplace_back("--check");
  words.push_back(fmt::format("--takes-over={}", kHandoverVersion));
  // What its interpreter and its libraries are is the kernel's and the loader's to find, by their
  // own rules; that it reads one from a mount of ours shows there.
  own_mounts.watch_callers();
  TrialRun run;
  const absl::Status started = run.start(program, std::move(words));
  const bool is_over = started.ok() && run.read_all(absl::Now() + kLongestCheck);
  const pid_t group = run.group();
  const int status = run.end();
  const std::vector<pid_t> callers = own_mounts.take_callers();
  BLOBCACHE_RETURN_IF_ERROR(started);
  if (std::find(callers.begin(), callers.end(), group) != callers.end()) {
    return absl::FailedPreconditionError(
        fmt::format("{}: needs a file that lies on a mount of this daemon, which waits while it is "
                    "upgraded: its interpreter, a library or one that the configuration names; "
                    "copy it elsewhere",
                    program));
  }
  if (!is_over) {
    return absl::DeadlineExceededError(fmt::format("{} --check: did not end within {}", program,
                                                   absl::FormatDuration(kLongestCheck)));
  }
  return judge(program, status, run.said());
}

absl::Status UpgradeDesk::check_named(const std::string& program) const {
  if (program.empty() || program == self_.program) return absl::OkStatus();
  return absl::PermissionDeniedError(fmt::format(
      "{}: only root and the user that blobcached runs as may name a program, over the unix "
      "socket; without one the daemon becomes what is installed as {}",
      program, self_.program));
}

absl::StatusOr<uint64_t> UpgradeDesk::place(const std::string& program, OwnMounts& own_mounts) {
  {
    const absl::MutexLock lock(&mutex_);
    if (state_ != State::kIdle) {
      return absl::AlreadyExistsError("an upgrade is under way");
    }
    state_ = State::kChecks;
  }
  const std::string wanted = program.empty() ? self_.program : steady_path(program);
  const std::vector<dev_t> own_devices = own_mounts.devices();
  absl::Status checked;
  if (!self_.config_file.empty()) checked = check_apart(self_.config_file, own_devices);
  if (checked.ok()) checked = check_file(wanted, own_devices);
  // What is where this program is from is as good as this program.
  if (checked.ok() && wanted != self_.program) checked = check_trusted(wanted);
  if (checked.ok()) checked = check_successor(wanted, self_.arguments, own_mounts);
  const absl::MutexLock lock(&mutex_);
  state_ = checked.ok() ? State::kPlaced : State::kIdle;
  if (!checked.ok()) return checked;
  order_ = {order_.number + 1, wanted};
  outcome_ = UpgradeOutcome();
  return order_.number;
}

std::optional<UpgradeDesk::Order> UpgradeDesk::take() {
  const absl::MutexLock lock(&mutex_);
  if (state_ != State::kPlaced) return std::nullopt;
  state_ = State::kUnderWay;
  return order_;
}

void UpgradeDesk::resume(uint64_t number) {
  const absl::MutexLock lock(&mutex_);
  state_ = State::kUnderWay;
  order_.number = number;
}

void UpgradeDesk::note(uint64_t number, const absl::Status& status, absl::Duration pause) {
  const absl::MutexLock lock(&mutex_);
  state_ = State::kIdle;
  order_.number = number;
  outcome_ = {.is_over = true, .status = status, .pause = pause};
}

absl::StatusOr<UpgradeOutcome> UpgradeDesk::outcome(uint64_t number) {
  const absl::MutexLock lock(&mutex_);
  if (number == 0 || number != order_.number) {
    return absl::NotFoundError(fmt::format("upgrade {}: this daemon does not know of it", number));
  }
  return outcome_;
}

}  // namespace blobcache::server
