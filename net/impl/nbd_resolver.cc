#include "net/impl/nbd_resolver.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/unique_fd.h"

namespace blobcache::net {

namespace {

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};

addrinfo tcp_hints() {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  return hints;
}

/// Makes a timer's descriptor readable after `delay`.
void arm(int timer, absl::Duration delay) {
  itimerspec when{};
  // Nothing is what stops a timer.
  when.it_value = absl::ToTimespec(std::max(delay, absl::Nanoseconds(1)));
  (void)::timerfd_settime(timer, 0, &when, nullptr);
}

}  // namespace

/// One question's. The state's mutex guards its answer.
struct NbdResolver::Waiter {
  base::UniqueFd timer;
  Remembered remembered = Remembered::kUse;
  std::optional<absl::StatusOr<Addresses>> answer;
};

/// What is shared with the thread.
struct NbdResolver::State {
  State(std::string name, LookUp with) : host(std::move(name)), look_up(std::move(with)) {}

  void answer(Waiter& waiter, const absl::StatusOr<Addresses>& found)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const bool use = waiter.remembered == Remembered::kUse && !known.empty();
    waiter.answer = !found.ok() && use ? absl::StatusOr<Addresses>(in_order()) : found;
    if (found.ok()) waiter.answer = in_order();
  }
  void answer_all(const absl::StatusOr<Addresses>& found) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    under_way = false;
    if (found.ok()) known = *found;
    for (const std::weak_ptr<Waiter>& each : waiting) {
      const std::shared_ptr<Waiter> waiter = each.lock();
      if (!waiter || waiter->answer) continue;
      answer(*waiter, found);
      arm(waiter->timer.get(), absl::ZeroDuration());
    }
    waiting.clear();
  }
  [[nodiscard]] Addresses in_order() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    Addresses addresses = known;
    const auto at = std::find(addresses.begin(), addresses.end(), bad);
    if (at != addresses.end()) std::rotate(at, at + 1, addresses.end());
    return addresses;
  }

  const std::string host;
  const LookUp look_up;
  absl::Mutex mutex;
  bool under_way ABSL_GUARDED_BY(mutex) = false;
  absl::Time begun ABSL_GUARDED_BY(mutex);  ///< the lookup that is under way
  Addresses known ABSL_GUARDED_BY(mutex);
  std::string bad ABSL_GUARDED_BY(mutex);  ///< the one that last did not answer
  std::vector<std::weak_ptr<Waiter>> waiting ABSL_GUARDED_BY(mutex);
};

NbdResolver::Question::Question(std::shared_ptr<State> state, std::shared_ptr<Waiter> waiter)
    : state_(std::move(state)), waiter_(std::move(waiter)) {}

int NbdResolver::Question::fd() const { return waiter_->timer.get(); }

std::optional<absl::StatusOr<NbdResolver::Addresses>> NbdResolver::Question::answer() {
  uint64_t expired = 0;
  const bool late = ::read(waiter_->timer.get(), &expired, sizeof expired) > 0;
  const absl::MutexLock lock(&state_->mutex);
  if (!waiter_->answer && late) waiter_->answer = state_->in_order();
  return waiter_->answer;
}

absl::StatusOr<NbdResolver::Addresses> NbdResolver::look_up_addresses(const std::string& host) {
  const addrinfo hints = tcp_hints();
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  if (error != 0) {
    return base::error(absl::StatusCode::kUnavailable,
                       fmt::format("{}: {}", host, ::gai_strerror(error)));
  }
  Addresses addresses;
  for (const addrinfo* each = list.get(); each != nullptr; each = each->ai_next) {
    std::array<char, NI_MAXHOST> text{};
    if (::getnameinfo(each->ai_addr, each->ai_addrlen, text.data(), text.size(), nullptr, 0,
                      NI_NUMERICHOST) != 0) {
      continue;
    }
    const bool known =
        std::find(addresses.begin(), addresses.end(), text.data()) != addresses.end();
    if (!known && addresses.size() < kMaxAddresses) addresses.emplace_back(text.data());
  }
  if (addresses.empty()) {
    return base::error(absl::StatusCode::kUnavailable, fmt::format("{}: no address", host));
  }
  return addresses;
}

bool NbdResolver::is_address(const std::string& host) {
  addrinfo hints = tcp_hints();
  hints.ai_flags = AI_NUMERICHOST;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  const std::unique_ptr<addrinfo, FreeAddresses> list(found);
  return error == 0;
}

NbdResolver::NbdResolver(std::string host, LookUp look_up)
    : state_(std::make_shared<State>(std::move(host), std::move(look_up))) {}

std::unique_ptr<NbdResolver::Question> NbdResolver::ask(Remembered remembered) {
  auto waiter = std::make_shared<Waiter>();
  waiter->remembered = remembered;
  waiter->timer = base::UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  auto question = std::make_unique<Question>(state_, waiter);
  const absl::MutexLock lock(&state_->mutex);
  if (!waiter->timer.valid()) {
    waiter->answer = absl::UnavailableError("no further file can be opened");
    return question;
  }
  std::erase_if(state_->waiting, [](const auto& each) { return each.expired(); });
  state_->waiting.push_back(waiter);
  if (remembered == Remembered::kUse && !state_->known.empty()) {
    const absl::Time begun = state_->under_way ? state_->begun : absl::Now();
    arm(waiter->timer.get(), begun + kPatience - absl::Now());
  }
  if (std::exchange(state_->under_way, true)) return question;
  state_->begun = absl::Now();
  try {
    std::thread([state = state_] { run(state); }).detach();
  } catch (const std::system_error&) {
    state_->answer_all(absl::UnavailableError("no further thread can be started"));
  }
  return question;
}

void NbdResolver::unreachable(const std::string& address) {
  const absl::MutexLock lock(&state_->mutex);
  state_->bad = address;
}

void NbdResolver::run(const std::shared_ptr<State>& state) {
  pthread_setname_np(pthread_self(), "nbd-names");
  const absl::StatusOr<Addresses> found = state->look_up(state->host);
  const absl::MutexLock lock(&state->mutex);
  state->answer_all(found);
}

}  // namespace blobcache::net
