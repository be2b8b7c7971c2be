#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "net/impl/http_head.h"
#include "net/impl/http_judge.h"

namespace blobcache::net {

/// What is asked of a server. Value type.
struct HttpRequest {
  bool is_head = false;              ///< HEAD, else GET
  std::string path;                  ///< percent-encoded, beneath the server; begins with a slash
  std::string query;                 ///< percent-encoded, sorted by name; "" for none
  std::vector<std::string> headers;  ///< "Name: value", but for those of credentials
  /// A redirect to the same path with a slash at its end is what is told, not followed.
  bool stops_at_folder = false;
};

/// Something to be had from a server by one request, or by several when those before it failed.
/// Called on the client's thread alone.
class HttpJob {
 public:
  enum class Take : uint8_t {
    kMore,    ///< the bytes were taken
    kWait,    ///< none was taken: nobody wants them yet
    kEnough,  ///< no more are needed
    kBad,     ///< they cannot be right: `why` says it
  };

  virtual ~HttpJob() = default;

  /// What is to be asked next; of what was had already nothing.
  [[nodiscard]] virtual HttpRequest request() = 0;
  /// A reply begins, which is no redirect that is followed. With a failure its body is not taken.
  [[nodiscard]] virtual std::optional<HttpFailure> begin(const HttpHead& head, absl::Time now) = 0;
  /// The next bytes of the body.
  [[nodiscard]] virtual Take take(absl::Span<const std::byte> bytes, HttpFailure& why) = 0;
  /// The reply has ended as the protocol has it. Absent if everything is here; a failure of
  /// OkStatus() if more is to be asked for, at once.
  [[nodiscard]] virtual std::optional<HttpFailure> end() = 0;
  /// It fails for good, for all who wait for it.
  virtual void fail(const absl::Status& why) = 0;
  /// Fails what had to be there by `now`.
  virtual void expire(absl::Time now) = 0;
  /// Whether anybody waits for it.
  [[nodiscard]] virtual bool is_wanted() const = 0;

  uint32_t failures = 0;  ///< attempts in a row that brought nothing
  uint32_t answers = 0;   ///< those of them in which the server answered
  absl::Time not_before = absl::InfinitePast();
  std::string trouble;      ///< of the last one, for people
  bool progressed = false;  ///< this attempt has brought something
  bool is_probe = false;    ///< one attempt, also while the breaker is open
};

}  // namespace blobcache::net
