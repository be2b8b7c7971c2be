#pragma once

#include <curl/curl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/http_url.h"
#include "net/impl/http_auth.h"
#include "net/impl/http_head.h"
#include "net/impl/http_job.h"
#include "net/impl/http_judge.h"

namespace blobcache::net {

/// How a client talks to its server. Value type.
struct HttpSettings {
  base::HttpUrl server;  ///< of the path only what the probe asks for matters
  std::string what;      ///< the origin, in log lines; without secrets
  uint32_t connections = 4;
  absl::Duration connect_timeout;
  absl::Duration request_timeout;
  absl::Duration stall_timeout;
  uint64_t rate_limit = 0;  ///< bytes a second; 0: none
  std::string proxy;        ///< a URL; "" for none
  std::string tls_ca;       ///< a file; "" for the system's
  bool private_redirects = false;
  std::shared_ptr<HttpAuth> auth;  ///< may be null
  HttpRequest probe;               ///< what shows that a server is there
  /// An encoding is how the bytes are stored, and they are read so; nothing is said of encodings.
  bool takes_encodings = false;
};

struct CurlEasyDeleter {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
using CurlEasy = std::unique_ptr<CURL, CurlEasyDeleter>;
struct CurlListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using CurlList = std::unique_ptr<curl_slist, CurlListDeleter>;

/// One attempt at a job's request, with the redirects on its way. The client's thread's.
///
/// Redirects are followed here and not by libcurl, which would send headers of ours to wherever
/// they lead: credentials are sent to the origin's own host alone, and never again once a redirect
/// has led elsewhere, or from https to http.
class HttpExchange {
 public:
  static constexpr size_t kMostRedirects = 8;

  HttpExchange(const HttpSettings& settings, std::shared_ptr<HttpJob> job, CurlEasy easy);

  /// Prepares the handle, which is then to be added to a multi handle.
  [[nodiscard]] std::optional<HttpFailure> start();
  /// libcurl is through with the handle, which was taken out of the multi handle. True if a
  /// redirect is to be followed: start() is next. Else outcome() is what came of it.
  [[nodiscard]] bool follows(CURLcode code);
  [[nodiscard]] const std::optional<HttpFailure>& outcome() const { return outcome_; }

  [[nodiscard]] CURL* easy() const { return easy_.get(); }
  [[nodiscard]] CurlEasy take_easy() { return std::move(easy_); }
  [[nodiscard]] HttpJob& job() { return *job_; }
  [[nodiscard]] const std::shared_ptr<HttpJob>& shared_job() const { return job_; }
  [[nodiscard]] bool is_waiting() const { return is_waiting_; }
  [[nodiscard]] absl::Time waiting_since() const { return waiting_since_; }
  /// Goes on after Take::kWait; calls the job.
  void resume();

 private:
  static size_t on_header(char* data, size_t size, size_t count, void* self);
  static size_t on_body(char* data, size_t size, size_t count, void* self);
  static curl_socket_t on_socket(void* self, curlsocktype purpose, curl_sockaddr* address);

  void set_options();
  void set_limits();
  [[nodiscard]] std::optional<HttpFailure> set_headers();
  [[nodiscard]] bool begin();
  [[nodiscard]] size_t take(std::string_view bytes);
  [[nodiscard]] bool is_redirect() const;
  /// Where the redirect leads; or why it cannot be followed.
  [[nodiscard]] std::optional<HttpFailure> redirect();
  [[nodiscard]] HttpFailure failure_of(CURLcode code) const;

  const HttpSettings& settings_;
  const std::shared_ptr<HttpJob> job_;
  CurlEasy easy_;
  CurlList headers_;
  HttpRequest request_;
  std::string url_;   ///< of this hop
  std::string host_;  ///< its host
  bool is_tls_ = false;
  bool is_elsewhere_ = false;  ///< it is another host than the origin's
  bool with_credentials_ = true;
  std::set<std::string> visited_;
  std::array<char, CURL_ERROR_SIZE> error_{};

  HttpHead head_;
  bool has_begun_ = false;
  bool is_discarded_ = false;  ///< of a redirect or an error: the body says nothing
  size_t discarded_ = 0;
  bool is_enough_ = false;
  bool refused_address_ = false;
  bool is_waiting_ = false;
  absl::Time waiting_since_;
  std::optional<HttpFailure> own_;  ///< why we ended it ourselves
  std::optional<HttpFailure> outcome_;
};

/// Whether a redirect may not lead to an address: this machine's and private networks'.
[[nodiscard]] bool is_private_address(const sockaddr& address);

}  // namespace blobcache::net
