#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "net/impl/http_auth.h"

namespace blobcache::net {

/// Keys of an account. Value type; a secret.
struct S3Keys {
  std::string key_id;
  std::string secret_key;
  std::string session_token;  ///< "" for none

  friend bool operator==(const S3Keys&, const S3Keys&) = default;
};

/// The keys in a section of a shared credentials file: "[profile]", then "name = value" lines;
/// lines that begin with # or ; say nothing. NOT_FOUND without the section, INVALID_ARGUMENT with
/// the line's number, and nothing of what it says, for what cannot be read, and for keys that are
/// not whole.
[[nodiscard]] absl::StatusOr<S3Keys> parse_credentials(std::string_view text,
                                                       std::string_view profile);

/// Signs requests to S3 with keys from a file; without one from the environment
/// (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN), and where that has none from the
/// shared credentials file (AWS_SHARED_CREDENTIALS_FILE, ~/.aws/credentials). Where there is no
/// such file either, requests are not signed, which public buckets take.
///
/// A file is read again after kAge, so that keys may be renewed. The client's thread's.
class S3Auth final : public HttpAuth {
 public:
  static constexpr absl::Duration kAge = absl::Seconds(5);

  S3Auth(std::string region, std::string file, std::string profile);

  [[nodiscard]] absl::StatusOr<HttpCredentials> credentials() override;

 private:
  /// Absent for none at all.
  [[nodiscard]] absl::StatusOr<std::optional<S3Keys>> read() const;

  const std::string region_;
  const std::string file_;
  const std::string profile_;
  std::optional<S3Keys> keys_;
  absl::Time read_at_ = absl::InfinitePast();
};

}  // namespace blobcache::net
