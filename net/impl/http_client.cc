#include "net/impl/http_client.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"

namespace blobcache::net {

namespace {

constexpr absl::Duration kSweepPause = absl::Milliseconds(100);
absl::Status client_ended() { return absl::UnavailableError("the origin was closed"); }
absl::Status daemon_ends() { return absl::CancelledError("the daemon ends"); }
absl::Status daemon_ended() { return absl::UnavailableError("the daemon ends"); }

CURLM* make_multi(const HttpSettings& settings) {
  // Once for the process; libcurl counts, and never takes it back.
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)ready;
  CURLM* const multi = curl_multi_init();
  // Those of redirects' hosts, too.
  (void)curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, static_cast<long>(settings.connections) + 4);
  (void)curl_multi_setopt(multi, CURLMOPT_PIPELINING, static_cast<long>(CURLPIPE_MULTIPLEX));
  return multi;
}

}  // namespace

HttpClient::HttpClient(HttpSettings settings)
    : settings_(std::move(settings)),
      vitals_(std::make_shared<HttpVitals>(settings_.what)),
      multi_(make_multi(settings_)),
      breaker_(settings_.request_timeout),
      limiter_(settings_.rate_limit),
      random_(std::random_device()()),
      thread_([this] { run(); }) {}

HttpClient::~HttpClient() { end(); }

bool HttpClient::post(Task& task) {
  {
    const absl::MutexLock lock(&mutex_);
    if (ending_) return false;
    tasks_.push_back(std::move(task));
  }
  (void)curl_multi_wakeup(multi_.get());
  return true;
}

void HttpClient::end() {
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  (void)curl_multi_wakeup(multi_.get());
  if (thread_.joinable()) thread_.join();
}

void HttpClient::stop() {
  Task task = [this] {
    is_stopped_ = true;
    end_by_ = absl::Now() + kGrace;
    const auto is_ask = [](const std::shared_ptr<HttpJob>& job) {
      return dynamic_cast<HttpAsk*>(job.get()) != nullptr;
    };
    for (const auto& job : std::exchange(asks_, {})) job->fail(daemon_ends());
    for (const auto& job : waiting_) {
      if (is_ask(job)) job->fail(daemon_ends());
    }
    for (const auto& exchange : active_) {
      if (is_ask(exchange->shared_job())) exchange->job().fail(daemon_ends());
    }
  };
  (void)post(task);
}

std::vector<absl::StatusOr<HttpAnswer>> HttpClient::ask_all(std::vector<HttpRequest> requests,
                                                            size_t most_bytes) {
  struct Waiter {
    absl::Mutex mutex;
    size_t left ABSL_GUARDED_BY(mutex) = 0;
    std::vector<absl::StatusOr<HttpAnswer>> answers ABSL_GUARDED_BY(mutex);
    [[nodiscard]] bool is_done() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return left == 0; }
  };
  const auto waiter = std::make_shared<Waiter>();
  {
    const absl::MutexLock lock(&waiter->mutex);
    waiter->left = requests.size();
    waiter->answers.resize(requests.size(), client_ended());
  }
  const absl::Time deadline = absl::Now() + settings_.request_timeout;
  std::vector<std::shared_ptr<HttpAsk>> asks;
  for (size_t i = 0; i < requests.size(); ++i) {
    asks.push_back(std::make_shared<HttpAsk>(std::move(requests[i]), most_bytes, deadline,
                                             [waiter, i](absl::StatusOr<HttpAnswer> answer) {
                                               const absl::MutexLock lock(&waiter->mutex);
                                               waiter->answers[i] = std::move(answer);
                                               --waiter->left;
                                             }));
  }
  Task task = [this, asks]() mutable {
    for (std::shared_ptr<HttpAsk>& ask : asks) admit_ask(std::move(ask));
  };
  if (!post(task)) {
    for (const std::shared_ptr<HttpAsk>& ask : asks) ask->fail(client_ended());
  }
  const absl::MutexLock lock(&waiter->mutex);
  waiter->mutex.Await(absl::Condition(waiter.get(), &Waiter::is_done));
  return std::move(waiter->answers);
}

absl::StatusOr<HttpAnswer> HttpClient::ask(HttpRequest request, size_t most_bytes) {
  std::vector<HttpRequest> one;
  one.push_back(std::move(request));
  return std::move(ask_all(std::move(one), most_bytes).front());
}

void HttpClient::fetch(std::shared_ptr<HttpPiece> piece) {
  Task task = [this, piece] { admit_piece(piece); };
  if (!post(task)) piece->finish(client_ended());
}

void HttpClient::cancel(const std::shared_ptr<HttpPiece>& piece) {
  Task task = [piece] { piece->finish(absl::CancelledError("cancelled")); };
  (void)post(task);
}

void HttpClient::hasten(const std::shared_ptr<HttpPiece>& piece) {
  Task task = [piece] { piece->is_ahead = false; };
  (void)post(task);
}

absl::Status HttpClient::given_up() const {
  return base::error(absl::StatusCode::kUnavailable,
                     fmt::format("the server is given up for now: {}", trouble_));
}

void HttpClient::miss(std::string path) {
  is_missed_ = true;
  missed_path_ = std::move(path);
}

void HttpClient::admit_ask(std::shared_ptr<HttpAsk> ask) {
  if (is_stopped_) return ask->fail(daemon_ends());
  if (breaker_.is_open()) {
    miss(ask->request().path);
    return ask->fail(given_up());
  }
  asks_.push_back(std::move(ask));
}

void HttpClient::admit_piece(const std::shared_ptr<HttpPiece>& piece) {
  if (is_closed_) return piece->finish(daemon_ended());
  if (breaker_.is_open()) {
    miss(piece->target->path);
    return piece->finish(given_up());
  }
  if (pieces_.size() >= kMostWaiting) {
    return piece->finish(absl::UnavailableError("too much waits for the origin"));
  }
  const absl::Time now = absl::Now();
  // What the limit takes is no fault of the server's.
  piece->start = now + limiter_.take(now, piece->into.size());
  piece->timeout = settings_.request_timeout;
  pieces_.push_back(piece);
}

void HttpClient::run() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "http origin");
  while (run_tasks()) {
    const absl::Time now = absl::Now();
    if (now >= end_by_) {
      is_closed_ = true;
      end_by_ = absl::InfiniteFuture();
      fail_all(daemon_ended());
    }
    if (now >= next_sweep_) sweep(now);
    drop_unwanted(now);
    probe(now);
    dispatch(now);
    int running = 0;
    (void)curl_multi_perform(multi_.get(), &running);
    // What has ended made room for the next, which is begun before anything is waited for.
    if (collect(absl::Now())) continue;
    (void)curl_multi_poll(multi_.get(), nullptr, 0, pause_ms(absl::Now()), nullptr);
  }
  fail_all(client_ended());
  while (!active_.empty()) (void)take_out(active_.size() - 1);
}

/// False at the end; what was posted before it was run.
bool HttpClient::run_tasks() {
  std::vector<Task> tasks;
  bool ending = false;
  {
    const absl::MutexLock lock(&mutex_);
    tasks.swap(tasks_);
    ending = ending_;
  }
  for (Task& task : tasks) task();
  return !ending;
}

int HttpClient::pause_ms(absl::Time now) const {
  constexpr absl::Duration kNothing = absl::Seconds(60);
  absl::Time next = now + kNothing;
  const bool has_work = !active_.empty() || !asks_.empty() || !waiting_.empty() || !pieces_.empty();
  if (has_work) next = std::min(next, next_sweep_);
  if (breaker_.is_open() && is_missed_ && !is_probing_)
    next = std::min(next, breaker_.next_probe());
  // What could be begun by now and was not waits for something else.
  const auto wait_for = [&](absl::Time start) {
    if (start > now) next = std::min(next, start);
  };
  for (const auto& job : waiting_) wait_for(std::max(job->not_before, hold_until_));
  if (!asks_.empty()) wait_for(hold_until_);
  if (!pieces_.empty()) wait_for(std::max(pieces_.front()->start, hold_until_));
  next = std::min(next, end_by_);
  const absl::Duration pause = std::clamp(next - now, absl::Milliseconds(1), kNothing);
  return static_cast<int>(absl::ToInt64Milliseconds(absl::Ceil(pause, absl::Milliseconds(1))));
}

/// Fails what is late.
void HttpClient::sweep(absl::Time now) {
  next_sweep_ = now + kSweepPause;
  // Who cannot be asked for before his time is up need not wait for that.
  const absl::Time by = std::max(now, hold_until_);
  for (const auto& job : asks_) {
    if (job->trouble.empty() && by > now) job->trouble = trouble_;
    job->expire(by);
  }
  for (const auto& job : waiting_) job->expire(std::max(by, job->not_before));
  for (const auto& exchange : active_) {
    const auto* const range = dynamic_cast<const HttpRangeJob*>(&exchange->job());
    if (range != nullptr) last_done_ = std::max(last_done_, range->last_done());
  }
  for (const auto& piece : pieces_) {
    // As long as those before it get on it waits, however slow they are.
    if (by - std::max(piece->start, last_done_) < piece->timeout) continue;
    const bool is_held = hold_until_ > now;
    piece->finish(base::error(absl::StatusCode::kUnavailable,
                              fmt::format("the bytes could not be asked for in time{}{}",
                                          is_held ? ": " : "", is_held ? trouble_ : "")));
  }
  for (const auto& exchange : active_) exchange->job().expire(now);
}

/// Ends what nobody waits for any more.
void HttpClient::drop_unwanted(absl::Time now) {
  std::erase_if(asks_, [](const auto& job) { return !job->is_wanted(); });
  std::erase_if(waiting_, [](const auto& job) { return !job->is_wanted(); });
  std::erase_if(pieces_, [](const auto& piece) { return piece->is_over; });
  const bool is_crowded = active_.size() >= settings_.connections &&
                          (!asks_.empty() || !waiting_.empty() || !pieces_.empty());
  for (size_t i = active_.size(); i-- > 0;) {
    HttpExchange& exchange = *active_[i];
    if (exchange.job().is_wanted()) continue;
    const auto* const range = dynamic_cast<const HttpRangeJob*>(&exchange.job());
    const bool is_kept = range != nullptr && range->is_idle() && !is_crowded && !is_stopped_ &&
                         (!exchange.is_waiting() || now - exchange.waiting_since() < kIdle);
    if (!is_kept) (void)take_out(i);
  }
}

std::unique_ptr<HttpExchange> HttpClient::take_out(size_t index) {
  std::unique_ptr<HttpExchange> exchange = std::move(active_[index]);
  active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(index));
  (void)curl_multi_remove_handle(multi_.get(), exchange->easy());
  if (exchange->job().is_probe) is_probing_ = false;
  vitals_->connections = active_.size();
  return exchange;
}

void HttpClient::recycle(HttpExchange& exchange) {
  if (idle_.size() < settings_.connections) idle_.push_back(exchange.take_easy());
}

}  // namespace blobcache::net
