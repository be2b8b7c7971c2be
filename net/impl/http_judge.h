#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "net/impl/http_head.h"

namespace blobcache::net {

/// Why an attempt at a request failed, and what that means. Value type.
struct HttpFailure {
  enum class Again : uint8_t {
    kNo,    ///< it would be the same
    kFew,   ///< the server answers, and may answer otherwise soon: kMostAnswers attempts
    kLong,  ///< the server is away, or broke off: until the request's time is up
  };
  /// So many attempts that the server answers so are made.
  static constexpr uint32_t kMostAnswers = 4;

  absl::Status status;
  Again again = Again::kNo;
  bool of_server = false;  ///< it says that the server is in trouble, not the request
  /// The server wants to be left alone for as long.
  std::optional<absl::Duration> wait = std::nullopt;

  [[nodiscard]] bool is_worth(uint32_t answers) const {
    return again == Again::kLong || (again == Again::kFew && answers < kMostAnswers);
  }
};

/// What a status says that is no success: absent for 2xx. 404 and 410 are NOT_FOUND, 401, 403 and
/// 407 PERMISSION_DENIED, 405 and 501 UNIMPLEMENTED, 412 and 416 ABORTED (another version), the
/// rest UNAVAILABLE. `now` is what a Retry-After date is compared with.
[[nodiscard]] std::optional<HttpFailure> judge_status(const HttpHead& head, absl::Time now);

/// The server is there and says what cannot be.
[[nodiscard]] HttpFailure malformed_reply(std::string_view why);

/// "HTTP 503 Service Unavailable"; the words are ours, of a status that is known.
[[nodiscard]] std::string_view status_words(int status);

/// How long to wait before attempt `failed` + 1: 100 ms, doubled with each failure (1 is the first)
/// up to 10 s, and of that a random part between half and all, so that clients of a server that
/// comes back do not come all at once. `random` is any 32 bits.
[[nodiscard]] absl::Duration http_backoff(uint32_t failed, uint32_t random);

}  // namespace blobcache::net
