#include "net/impl/http_judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string>
#include <string_view>

#include "base/status.h"

namespace blobcache::net {

std::string_view status_words(int status) {
  switch (status) {
    case 400:
      return " Bad Request";
    case 401:
      return " Unauthorized";
    case 403:
      return " Forbidden";
    case 404:
      return " Not Found";
    case 405:
      return " Method Not Allowed";
    case 407:
      return " Proxy Authentication Required";
    case 410:
      return " Gone";
    case 412:
      return " Precondition Failed";
    case 416:
      return " Range Not Satisfiable";
    case 429:
      return " Too Many Requests";
    case 500:
      return " Internal Server Error";
    case 501:
      return " Not Implemented";
    case 502:
      return " Bad Gateway";
    case 503:
      return " Service Unavailable";
    case 504:
      return " Gateway Timeout";
    default:
      return "";
  }
}

std::optional<HttpFailure> judge_status(const HttpHead& head, absl::Time now) {
  const int status = head.status;
  if (status >= 200 && status <= 299) return std::nullopt;
  HttpFailure failure;
  absl::StatusCode code = absl::StatusCode::kUnavailable;
  if (status == 404 || status == 410) {
    code = absl::StatusCode::kNotFound;
  } else if (status == 401 || status == 403 || status == 407) {
    code = absl::StatusCode::kPermissionDenied;
  } else if (status == 405 || status == 501) {
    code = absl::StatusCode::kUnimplemented;
  } else if (status == 412 || status == 416) {
    code = absl::StatusCode::kAborted;
  } else if (status == 408 || status == 429 || status >= 500) {
    failure.again = HttpFailure::Again::kFew;
    failure.of_server = true;
    if (status == 429 || status == 503) {
      failure.wait = parse_retry_after(head.retry_after, now);
      // It told when to come again, so it is worth to come.
      if (failure.wait) failure.again = HttpFailure::Again::kLong;
    }
  }
  failure.status =
      base::error(code, fmt::format("the server answers HTTP {}{}", status, status_words(status)));
  return failure;
}

HttpFailure malformed_reply(std::string_view why) {
  HttpFailure failure;
  failure.status = base::error(absl::StatusCode::kUnavailable,
                               fmt::format("the server's reply cannot be used: {}", why));
  failure.again = HttpFailure::Again::kFew;
  failure.of_server = true;
  return failure;
}

absl::Duration http_backoff(uint32_t failed, uint32_t random) {
  constexpr absl::Duration kFirst = absl::Milliseconds(100);
  constexpr absl::Duration kLongest = absl::Seconds(10);
  constexpr uint32_t kDoublings = 10;
  absl::Duration pause = kFirst;
  for (uint32_t i = 1; i < std::min(failed, kDoublings); ++i) pause *= 2;
  const double share = 0.5 + 0.5 * random / std::numeric_limits<uint32_t>::max();
  return std::min(pause, kLongest) * share;
}

}  // namespace blobcache::net
