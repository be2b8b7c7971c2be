// How a client starts and ends its requests; see http_client.h.

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"
#include "net/impl/http_client.h"

namespace blobcache::net {

namespace {

/// So many of the waiting pieces are looked at for one that can be asked for.
constexpr size_t kLookAhead = 256;

HttpRangeJob* range_of(const HttpExchange& exchange) {
  return dynamic_cast<HttpRangeJob*>(exchange.shared_job().get());
}

}  // namespace

/// Gives pieces to replies that stay open for what comes next.
void HttpClient::join_open_replies(absl::Time now) {
  const auto joins = [&](const std::shared_ptr<HttpPiece>& piece) {
    if (piece->start > now || !piece->target->is_rangeless) return false;
    HttpExchange* nearest = nullptr;
    uint64_t distance = HttpRangeJob::kMostSkipped;
    for (const auto& exchange : active_) {
      const HttpRangeJob* const range = range_of(*exchange);
      const std::optional<uint64_t> here = range ? range->distance_to(*piece) : std::nullopt;
      if (!here || *here > distance) continue;
      nearest = exchange.get();
      distance = *here;
    }
    if (nearest == nullptr) return false;
    range_of(*nearest)->join(piece);
    if (nearest->is_waiting() && nearest->job().is_wanted()) nearest->resume();
    return true;
  };
  const bool is_any = std::any_of(active_.begin(), active_.end(), [](const auto& exchange) {
    const HttpRangeJob* const range = range_of(*exchange);
    return range != nullptr && range->target().is_rangeless;
  });
  if (is_any) std::erase_if(pieces_, joins);
}

void HttpClient::dispatch(absl::Time now) {
  join_open_replies(now);
  while (active_.size() < settings_.connections) {
    const std::shared_ptr<HttpJob> job = next_job(now);
    if (job == nullptr) return;
    start(job, now);
  }
}

std::shared_ptr<HttpJob> HttpClient::next_job(absl::Time now) {
  if (now < hold_until_) return nullptr;
  if (!asks_.empty()) {
    std::shared_ptr<HttpJob> job = std::move(asks_.front());
    asks_.pop_front();
    return job;
  }
  const auto due = std::find_if(waiting_.begin(), waiting_.end(),
                                [now](const auto& job) { return job->not_before <= now; });
  if (due != waiting_.end()) {
    std::shared_ptr<HttpJob> job = std::move(*due);
    waiting_.erase(due);
    return job;
  }
  return next_range(now);
}

size_t HttpClient::next_piece(absl::Time now, size_t most) const {
  // Of a file that is only sent as a whole one reply at a time is read.
  const auto is_read = [this](const HttpTarget* target) {
    return target->is_rangeless &&
           std::any_of(active_.begin(), active_.end(), [target](const auto& exchange) {
             const HttpRangeJob* const range = range_of(*exchange);
             return range != nullptr && &range->target() == target && range->is_wanted();
           });
  };
  const bool has_spare = settings_.connections == 1 || active_.size() + 1 < settings_.connections;
  size_t first_ahead = most;
  for (size_t i = 0; i < most; ++i) {
    const HttpPiece& piece = *pieces_[i];
    if (piece.start > now || is_read(piece.target.get())) continue;
    if (!piece.is_ahead) return i;
    if (has_spare) first_ahead = std::min(first_ahead, i);
  }
  return first_ahead;
}

std::shared_ptr<HttpJob> HttpClient::next_range(absl::Time now) {
  const size_t most = std::min(pieces_.size(), kLookAhead);
  const size_t first = next_piece(now, most);
  if (first == most) return nullptr;
  auto job = std::make_shared<HttpRangeJob>(std::move(pieces_[first]));
  size_t last = first + 1;
  size_t kept = first;
  for (; last < most; ++last) {
    if (pieces_[last]->start <= now && job->has_place_for(*pieces_[last])) {
      job->append(std::move(pieces_[last]));
    } else {
      pieces_[kept++] = std::move(pieces_[last]);
    }
  }
  pieces_.erase(pieces_.begin() + static_cast<std::ptrdiff_t>(kept),
                pieces_.begin() + static_cast<std::ptrdiff_t>(most));
  return job;
}

void HttpClient::start(const std::shared_ptr<HttpJob>& job, absl::Time now) {
  if (!job->is_wanted()) return;
  CurlEasy easy;
  if (idle_.empty()) {
    easy.reset(curl_easy_init());
  } else {
    easy = std::move(idle_.back());
    idle_.pop_back();
  }
  if (easy == nullptr) return job->fail(absl::UnavailableError("no memory for a request"));
  add(std::make_unique<HttpExchange>(settings_, job, std::move(easy)), now);
}

void HttpClient::add(std::unique_ptr<HttpExchange> exchange, absl::Time now) {
  const std::optional<HttpFailure> failure = exchange->start();
  if (failure) {
    failed(exchange->shared_job(), *failure, now);
    return recycle(*exchange);
  }
  (void)curl_multi_add_handle(multi_.get(), exchange->easy());
  active_.push_back(std::move(exchange));
  vitals_->connections = active_.size();
}

bool HttpClient::collect(absl::Time now) {
  bool is_any = false;
  int left = 0;
  while (const CURLMsg* const message = curl_multi_info_read(multi_.get(), &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    is_any = true;
    const CURL* const easy = message->easy_handle;
    const CURLcode code = message->data.result;
    const auto at = std::find_if(active_.begin(), active_.end(),
                                 [easy](const auto& each) { return each->easy() == easy; });
    if (at == active_.end()) continue;
    const auto index = static_cast<size_t>(at - active_.begin());
    // libcurl's: it is not there any more once the handle was taken out.
    std::unique_ptr<HttpExchange> exchange = take_out(index);
    if (exchange->follows(code)) {
      if (exchange->job().is_probe) is_probing_ = true;
      add(std::move(exchange), now);
      continue;
    }
    conclude(*exchange, now);
    recycle(*exchange);
  }
  return is_any;
}

void HttpClient::conclude(HttpExchange& exchange, absl::Time now) {
  const std::shared_ptr<HttpJob>& job = exchange.shared_job();
  const std::optional<HttpFailure>& outcome = exchange.outcome();
  if (const HttpRangeJob* const range = range_of(exchange)) {
    last_done_ = std::max(last_done_, range->last_done());
  }
  ++vitals_->requests;
  if (!outcome) return server_answered();
  if (!outcome->status.ok()) return failed(job, *outcome, now);
  // More of it is to be asked for.
  server_answered();
  job->failures = job->answers = 0;
  job->not_before = now;
  if (job->is_wanted()) waiting_.push_back(job);
}

void HttpClient::failed(const std::shared_ptr<HttpJob>& job, const HttpFailure& failure,
                        absl::Time now) {
  if (job->progressed) job->failures = job->answers = 0;
  ++job->failures;
  if (failure.again == HttpFailure::Again::kFew) ++job->answers;
  job->trouble = std::string(base::message(failure.status));
  if (failure.wait) {
    hold_until_ = std::max(hold_until_, now + std::min(*failure.wait, kLongestHold));
    trouble_ = job->trouble;
    next_sweep_ = now;
  }
  const bool is_worth = !job->is_probe && failure.is_worth(job->answers);
  if (failure.of_server && !job->progressed) {
    server_failed(failure.status, now);
  } else if (failure.of_server) {
    server_answered();
  }
  if (!is_worth || breaker_.is_open()) return job->fail(failure.status);
  ++vitals_->retries;
  job->not_before = now + std::max(http_backoff(job->failures, static_cast<uint32_t>(random_())),
                                   failure.wait.value_or(absl::ZeroDuration()));
  waiting_.push_back(job);
  next_sweep_ = now;
}

void HttpClient::server_failed(const absl::Status& why, absl::Time now) {
  trouble_ = std::string(base::message(why));
  vitals_->failed(why);
  if (!breaker_.failed(now)) return;
  vitals_->given_up();
  fail_waiting(given_up());
}

void HttpClient::server_answered() {
  (void)breaker_.succeeded();
  vitals_->reached();
}

void HttpClient::fail_waiting(const absl::Status& why) {
  for (const auto& job : std::exchange(asks_, {})) job->fail(why);
  for (const auto& job : std::exchange(waiting_, {})) job->fail(why);
  for (const auto& piece : std::exchange(pieces_, {})) piece->finish(why);
}

void HttpClient::fail_all(const absl::Status& why) {
  fail_waiting(why);
  for (const auto& exchange : active_) exchange->job().fail(why);
}

void HttpClient::probe(absl::Time now) {
  if (!breaker_.is_open() || !is_missed_ || is_probing_ || !breaker_.take_probe(now)) return;
  is_missed_ = false;
  is_probing_ = true;
  const absl::Time deadline = now + settings_.connect_timeout + settings_.stall_timeout;
  // In turns what somebody asks for and what is always there: either may fail while others do not.
  HttpRequest request = settings_.probe;
  if (probes_++ % 2 == 0) request.path = missed_path_;
  const auto job = std::make_shared<HttpAsk>(std::move(request), 0, deadline,
                                             [](const absl::StatusOr<HttpAnswer>& /*answer*/) {});
  job->is_probe = true;
  start(job, now);
}

}  // namespace blobcache::net
