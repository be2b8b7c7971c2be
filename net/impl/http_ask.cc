#include "net/impl/http_ask.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace blobcache::net {

HttpAsk::HttpAsk(HttpRequest request, size_t most_bytes, absl::Time deadline, Done done)
    : request_(std::move(request)),
      most_bytes_(most_bytes),
      deadline_(deadline),
      done_(std::move(done)) {}

std::optional<HttpFailure> HttpAsk::begin(const HttpHead& head, absl::Time now) {
  answer_ = {head, ""};
  dropped_ = 0;
  std::optional<HttpFailure> failure = judge_status(head, now);
  // What would be the same the next time is an answer.
  if (failure && failure->again == HttpFailure::Again::kNo) return std::nullopt;
  return failure;
}

HttpJob::Take HttpAsk::take(absl::Span<const std::byte> bytes, HttpFailure& why) {
  // Read on a little, so that the connection can be used again.
  constexpr size_t kMostDropped = size_t{64} << 10;
  const bool is_success = answer_.head.status >= 200 && answer_.head.status <= 299;
  const size_t most = is_success ? most_bytes_ : kMostOfError;
  const size_t room = most - std::min(most, answer_.body.size());
  if (is_success && most_bytes_ > 0 && bytes.size() > room) {
    why = {absl::ResourceExhaustedError(fmt::format("a reply of more than {} bytes", most_bytes_))};
    return Take::kBad;
  }
  const size_t kept = std::min(room, bytes.size());
  answer_.body.append(reinterpret_cast<const char*>(bytes.data()), kept);
  dropped_ += bytes.size() - kept;
  return dropped_ > kMostDropped ? Take::kEnough : Take::kMore;
}

std::optional<HttpFailure> HttpAsk::end() {
  tell(std::move(answer_));
  return std::nullopt;
}

void HttpAsk::fail(const absl::Status& why) { tell(why); }

void HttpAsk::expire(absl::Time now) {
  if (now < deadline_) return;
  tell(base::error(absl::StatusCode::kUnavailable,
                   fmt::format("no answer in time{}{}", trouble.empty() ? "" : ": ", trouble)));
}

void HttpAsk::tell(absl::StatusOr<HttpAnswer> answer) {
  if (done_ == nullptr) return;
  Done done = std::move(done_);
  done_ = nullptr;
  done(std::move(answer));
}

}  // namespace blobcache::net
