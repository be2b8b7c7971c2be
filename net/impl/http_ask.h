#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "net/impl/http_head.h"
#include "net/impl/http_job.h"
#include "net/impl/http_judge.h"

namespace blobcache::net {

/// A reply that is in memory as a whole. Value type.
struct HttpAnswer {
  HttpHead head;     ///< of any status that is not worth another attempt
  std::string body;  ///< of a success; of an error its beginning
};

/// A small question: what a path is, or what a folder has.
class HttpAsk final : public HttpJob {
 public:
  using Done = absl::AnyInvocable<void(absl::StatusOr<HttpAnswer>)>;
  /// So much of an error's body is kept.
  static constexpr size_t kMostOfError = size_t{2} << 10;

  /// Of a body of more than `most_bytes` it is RESOURCE_EXHAUSTED; with 0 the body is not kept.
  /// `done` is called exactly once.
  HttpAsk(HttpRequest request, size_t most_bytes, absl::Time deadline, Done done);

  [[nodiscard]] HttpRequest request() override { return request_; }
  [[nodiscard]] std::optional<HttpFailure> begin(const HttpHead& head, absl::Time now) override;
  [[nodiscard]] Take take(absl::Span<const std::byte> bytes, HttpFailure& why) override;
  [[nodiscard]] std::optional<HttpFailure> end() override;
  void fail(const absl::Status& why) override;
  void expire(absl::Time now) override;
  [[nodiscard]] bool is_wanted() const override { return done_ != nullptr; }

 private:
  void tell(absl::StatusOr<HttpAnswer> answer);

  const HttpRequest request_;
  const size_t most_bytes_;
  const absl::Time deadline_;
  Done done_;
  HttpAnswer answer_;
  size_t dropped_ = 0;
};

}  // namespace blobcache::net
