#include "server/succession.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <utility>

#include "base/status.h"

namespace blobcache::server {
namespace {

/// "STATE SELF": descriptors of the state, and of the program that the way back leads to, or -1.
constexpr const char* kStateVariable = "BLOBCACHED_HANDOVER";
/// On the way back: why.
constexpr const char* kFailureVariable = "BLOBCACHED_HANDOVER_FAILURE";
constexpr std::array kCrashes = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};

/// Strings as execve(2) wants them. Moves, never copies.
class Strings {
 public:
  Strings(Strings&&) = default;
  Strings& operator=(Strings&&) = default;
  Strings(const Strings&) = delete;
  Strings& operator=(const Strings&) = delete;
  ~Strings() = default;
  explicit Strings(std::vector<std::string> strings) : strings_(std::move(strings)) {
    for (std::string& each : strings_) pointers_.push_back(each.data());
    pointers_.push_back(nullptr);
  }
  [[nodiscard]] char* const* get() const { return pointers_.data(); }

 private:
  std::vector<std::string> strings_;
  std::vector<char*> pointers_;
};

/// The environment with these in it, and without what an earlier upgrade left.
Strings environment_with(const std::vector<std::string>& added) {
  std::vector<std::string> all;
  for (char** each = environ; *each != nullptr; ++each) {
    if (!std::string_view(*each).starts_with(kStateVariable)) all.emplace_back(*each);
  }
  all.insert(all.end(), added.begin(), added.end());
  return Strings(std::move(all));
}

Strings environment_back(int state, std::string_view why) {
  return environment_with({fmt::format("{}={} -1", kStateVariable, state),
                           fmt::format("{}={}", kFailureVariable, why)});
}

/// All that the way back needs, made before: a signal handler takes it, which may not allocate.
struct WayBack {
  int state;
  int self;
  Strings arguments;
  Strings when_late;
  Strings when_crashed;
};

/// One for the process, as its signals are. Never freed, since a handler may use it.
WayBack* way_back = nullptr;
volatile std::sig_atomic_t way_back_is_open = 0;

void execute(int program, char* const* arguments, char* const* environment) {
  // What fexecve(3) does, but surely safe in a signal handler.
  ::syscall(SYS_execveat, program, "", arguments, environment, AT_EMPTY_PATH);
}

void take_way_back(int signal) {
  const WayBack* const back = way_back;
  if (way_back_is_open != 0) {
    ::alarm(0);  // the timer outlives execve(2)
    const Strings& environment = signal == SIGALRM ? back->when_late : back->when_crashed;
    execute(back->self, back->arguments.get(), environment.get());
  }
  ::_exit(128 + signal);
}

void set_handlers(void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  ::sigfillset(&action.sa_mask);
  for (const int crash : kCrashes) ::sigaction(crash, &action, nullptr);
  ::sigaction(SIGALRM, &action, nullptr);
}

void set_timer(absl::Duration after) {
  itimerval timer = {};
  timer.it_value = absl::ToTimeval(after);
  ::setitimer(ITIMER_REAL, &timer, nullptr);
}

/// Lets a descriptor through execve(2), or not.
void set_inherited(int descriptor, bool inherited) {
  ::fcntl(descriptor, F_SETFD, inherited ? 0 : FD_CLOEXEC);
}

}  // namespace

int64_t monotonic_ns() {
  timespec now = {};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

absl::StatusOr<std::string> own_program() {
  std::string path(PATH_MAX, '\0');
  const ssize_t length = ::readlink("/proc/self/exe", path.data(), path.size());
  if (length < 0) return base::errno_error(errno, "/proc/self/exe");
  path.resize(static_cast<size_t>(length));
  constexpr std::string_view kReplaced = " (deleted)";
  if (path.ends_with(kReplaced)) path.resize(path.size() - kReplaced.size());
  return path;
}

Succession begin_succession(const std::vector<std::string>& arguments) {
  Succession succession;
  const char* const handed = std::getenv(kStateVariable);
  if (handed == nullptr) return succession;
  int state = -1;
  int self = -1;
  const bool readable = std::sscanf(handed, "%d %d", &state, &self) == 2;
  const char* const failure = std::getenv(kFailureVariable);
  succession.failure = failure == nullptr ? "" : failure;
  ::unsetenv(kStateVariable);
  ::unsetenv(kFailureVariable);
  if (!readable || state < 0) return succession;
  ::prctl(PR_SET_NAME, "blobcached");  // a program that is executed by its descriptor has no name
  succession.happens = true;
  succession.is_way_back = self < 0;
  succession.handover = read_handover(state);
  if (!succession.is_way_back) {
    const bool known = succession.handover.ok();
    auto back = std::make_unique<WayBack>(
        WayBack{state, self, Strings(known ? succession.handover->arguments : arguments),
                environment_back(state, "the new program was not ready in time"),
                environment_back(state, "the new program crashed while it was starting")});
    way_back = back.release();  // for a handler, and so for good
    way_back_is_open = 1;
    set_handlers(&take_way_back);
  }
  if (succession.is_way_back) ::close(state);
  return succession;
}

void end_succession() {
  set_timer(absl::ZeroDuration());
  if (way_back_is_open == 0) return;
  set_handlers(SIG_DFL);
  way_back_is_open = 0;
  ::close(way_back->state);
  ::close(way_back->self);
}

void go_back(const absl::Status& why) {
  const WayBack* const back = way_back;
  if (way_back_is_open == 0) return;
  set_timer(absl::ZeroDuration());
  const Strings environment = environment_back(back->state, base::message(why));
  execute(back->self, back->arguments.get(), environment.get());
}

absl::StatusOr<Departure> prepare_departure() {
  Departure departure;
  BLOBCACHE_ASSIGN_OR_RETURN(departure.state, make_handover_file());
  departure.self = base::UniqueFd(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  if (!departure.self.valid()) return base::errno_error(errno, "/proc/self/exe");
  return departure;
}

absl::Status depart(const Departure& departure, const Handover& handover) {
  const int state = departure.state.get();
  const int self = departure.self.get();
  BLOBCACHE_RETURN_IF_ERROR(write_handover(state, handover));
  for (const base::UniqueFd& each : handover.daemon.descriptors) set_inherited(each.get(), true);
  set_inherited(state, true);
  set_inherited(self, true);
  const Strings words(handover.arguments);
  const Strings forth = environment_with({fmt::format("{}={} {}", kStateVariable, state, self)});
  const absl::Duration used = absl::Nanoseconds(monotonic_ns() - handover.paused_ns);
  set_timer(std::max(kLongestPause - kForWayBack - used, kShortestStart));
  ::execve(handover.program.c_str(), words.get(), forth.get());
  const absl::Status failed = base::errno_error(errno, handover.program);
  set_timer(absl::ZeroDuration());
  set_inherited(self, false);
  execute(self, words.get(), environment_back(state, base::message(failed)).get());
  return base::annotate(failed, "neither the new nor the old program can be executed");
}

}  // namespace blobcache::server
