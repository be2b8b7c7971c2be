#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace blobcache::net {

/// What one request shows a server of who we are. Value type; a secret.
struct HttpCredentials {
  std::vector<std::string> headers;  ///< "Name: value"
  /// For AWS's signature, version 4, which libcurl makes: "aws:amz:REGION:s3"; "" for none.
  std::string signature;
  std::string key_id;
  std::string secret_key;
};

/// What shows a server who we are. Called on the client's thread; may read a small local file.
class HttpAuth {
 public:
  virtual ~HttpAuth() = default;
  /// For one request to the origin's server, and sent to nobody else. UNAVAILABLE with the file's
  /// name if that cannot be had.
  [[nodiscard]] virtual absl::StatusOr<HttpCredentials> credentials() = 0;
};

/// A bearer token from one file, and header lines from another; either may be absent (""). They are
/// read for each request, so that a token may be renewed.
class HttpFileAuth final : public HttpAuth {
 public:
  /// Of a file that is larger nothing is read.
  static constexpr size_t kMostBytes = size_t{64} << 10;

  HttpFileAuth(std::string token_file, std::string header_file);

  [[nodiscard]] absl::StatusOr<HttpCredentials> credentials() override;

 private:
  const std::string token_file_;
  const std::string header_file_;
};

/// A token as a header's value: without blanks around it. INVALID_ARGUMENT for none, and for bytes
/// that cannot be in one; the message does not repeat it.
[[nodiscard]] absl::StatusOr<std::string> parse_token(std::string_view text);

/// The lines "Name: value"; empty ones and those that begin with # are left out. INVALID_ARGUMENT
/// with the line's number for others, and for headers that are ours (Host, Range, Content-Length).
[[nodiscard]] absl::StatusOr<std::vector<std::string>> parse_header_lines(std::string_view text);

/// The content of a small local file. UNAVAILABLE with `what`, the path and the reason.
[[nodiscard]] absl::StatusOr<std::string> read_secret_file(const std::string& path,
                                                           std::string_view what);

}  // namespace blobcache::net
