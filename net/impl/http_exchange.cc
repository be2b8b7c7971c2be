#include "net/impl/http_exchange.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"

namespace blobcache::net {

namespace {

/// So much of a body that says nothing is read, to keep the connection.
constexpr size_t kMostDiscarded = size_t{64} << 10;
constexpr long kBufferBytes = 256L << 10;
/// Slower than this for stall_timeout is as good as nothing.
constexpr long kSlowest = 1024;

template <typename Value>
void set(CURL* easy, CURLoption option, Value value) {
  // What can fail here is memory, and options that this libcurl does not know: both show later.
  (void)curl_easy_setopt(easy, option, value);
}

struct CurlUrlDeleter {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
using CurlUrl = std::unique_ptr<CURLU, CurlUrlDeleter>;

std::string url_part(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK || text == nullptr) return "";
  std::string copy = text;
  curl_free(text);
  return copy;
}

std::string lower_host(std::string host) {
  std::transform(host.begin(), host.end(), host.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return host;
}

HttpFailure dead_end(std::string_view why) {
  return {base::error(absl::StatusCode::kUnavailable, why)};
}

bool is_private_v4(uint32_t address) {
  const auto within = [address](uint32_t net, int bits) {
    return (address ^ net) >> (32 - bits) == 0;
  };
  return within(0, 8) || within(0x0A000000, 8) || within(0x64400000, 10) || within(0x7F000000, 8) ||
         within(0xA9FE0000, 16) || within(0xAC100000, 12) || within(0xC0A80000, 16);
}

}  // namespace

bool is_private_address(const sockaddr& address) {
  const void* const bare = &address;
  if (address.sa_family == AF_INET) {
    return is_private_v4(ntohl(static_cast<const sockaddr_in*>(bare)->sin_addr.s_addr));
  }
  if (address.sa_family != AF_INET6) return true;
  const auto& bytes = static_cast<const sockaddr_in6*>(bare)->sin6_addr.s6_addr;
  constexpr std::array<uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
  uint32_t tail = 0;
  std::memcpy(&tail, bytes + 12, sizeof(tail));
  if (std::equal(kMapped.begin(), kMapped.end(), bytes)) return is_private_v4(ntohl(tail));
  const bool is_low = std::all_of(bytes, bytes + 12, [](uint8_t byte) { return byte == 0; });
  // ::, ::1 and the old ::a.b.c.d; fc00::/7; fe80::/10
  return is_low || (bytes[0] & 0xFE) == 0xFC || (bytes[0] == 0xFE && (bytes[1] & 0xC0) == 0x80);
}

HttpExchange::HttpExchange(const HttpSettings& settings, std::shared_ptr<HttpJob> job,
                           CurlEasy easy)
    : settings_(settings), job_(std::move(job)), easy_(std::move(easy)) {
  request_ = job_->request();
  const std::string path =
      request_.query.empty() ? request_.path : fmt::format("{}?{}", request_.path, request_.query);
  url_ = settings_.server.server() + path;
  host_ = settings_.server.host;
  is_tls_ = settings_.server.tls;
  visited_.insert(url_);
  job_->progressed = false;
}

std::optional<HttpFailure> HttpExchange::start() {
  head_ = HttpHead();
  has_begun_ = is_discarded_ = is_enough_ = refused_address_ = is_waiting_ = false;
  discarded_ = 0;
  own_.reset();
  outcome_.reset();
  error_[0] = '\0';
  curl_easy_reset(easy());
  set_options();
  set_limits();
  return set_headers();
}

void HttpExchange::set_options() {
  set(easy(), CURLOPT_URL, url_.c_str());
  set(easy(), CURLOPT_PROTOCOLS_STR, "http,https");
  set(easy(), CURLOPT_FOLLOWLOCATION, 0L);
  set(easy(), CURLOPT_NOSIGNAL, 1L);
  // Else a look-up of a name that hangs would hold up all others when its request is given up.
  set(easy(), CURLOPT_QUICK_EXIT, 1L);
  set(easy(), CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  set(easy(), CURLOPT_PIPEWAIT, is_tls_ ? 1L : 0L);
  set(easy(), CURLOPT_NOBODY, request_.is_head ? 1L : 0L);
  set(easy(), CURLOPT_PATH_AS_IS, 1L);
  set(easy(), CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  set(easy(), CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  set(easy(), CURLOPT_BUFFERSIZE, kBufferBytes);
  set(easy(), CURLOPT_TCP_KEEPALIVE, 1L);
  set(easy(), CURLOPT_USERAGENT, "blobcache");
  // The environment says nothing here: "" is no proxy, and no exceptions to one.
  set(easy(), CURLOPT_PROXY, settings_.proxy.c_str());
  set(easy(), CURLOPT_NOPROXY, "");
  if (!settings_.tls_ca.empty()) {
    set(easy(), CURLOPT_CAINFO, settings_.tls_ca.c_str());
    set(easy(), CURLOPT_CAPATH, static_cast<const char*>(nullptr));
  }
  set(easy(), CURLOPT_ERRORBUFFER, error_.data());
  set(easy(), CURLOPT_PRIVATE, static_cast<void*>(this));
  set(easy(), CURLOPT_HEADERFUNCTION, &HttpExchange::on_header);
  set(easy(), CURLOPT_HEADERDATA, static_cast<void*>(this));
  set(easy(), CURLOPT_WRITEFUNCTION, &HttpExchange::on_body);
  set(easy(), CURLOPT_WRITEDATA, static_cast<void*>(this));
  set(easy(), CURLOPT_OPENSOCKETFUNCTION, &HttpExchange::on_socket);
  set(easy(), CURLOPT_OPENSOCKETDATA, static_cast<void*>(this));
}

void HttpExchange::set_limits() {
  const int64_t stall = absl::ToInt64Seconds(absl::Ceil(settings_.stall_timeout, absl::Seconds(1)));
  set(easy(), CURLOPT_CONNECTTIMEOUT_MS,
      static_cast<long>(absl::ToInt64Milliseconds(settings_.connect_timeout)));
  set(easy(), CURLOPT_LOW_SPEED_LIMIT, kSlowest);
  set(easy(), CURLOPT_LOW_SPEED_TIME, static_cast<long>(stall));
}

std::optional<HttpFailure> HttpExchange::set_headers() {
  std::vector<std::string> lines = request_.headers;
  if (!settings_.takes_encodings) lines.emplace_back("Accept-Encoding: identity");
  if (with_credentials_ && settings_.auth != nullptr) {
    const absl::StatusOr<HttpCredentials> credentials = settings_.auth->credentials();
    if (!credentials.ok()) return HttpFailure{credentials.status(), HttpFailure::Again::kFew};
    lines.insert(lines.end(), credentials->headers.begin(), credentials->headers.end());
    if (!credentials->signature.empty()) {
      // libcurl 8 signs no path that it may not put in order. There is nothing to be put in order:
      // no name of the tree is "." or "..".
      set(easy(), CURLOPT_PATH_AS_IS, 0L);
      set(easy(), CURLOPT_AWS_SIGV4, credentials->signature.c_str());
      set(easy(), CURLOPT_USERNAME, credentials->key_id.c_str());
      set(easy(), CURLOPT_PASSWORD, credentials->secret_key.c_str());
    }
  }
  headers_.reset();
  for (const std::string& line : lines) {
    curl_slist* const longer = curl_slist_append(headers_.get(), line.c_str());
    if (longer == nullptr) return dead_end("no memory for a request");
    (void)headers_.release();
    headers_.reset(longer);
  }
  set(easy(), CURLOPT_HTTPHEADER, headers_.get());
  return std::nullopt;
}

size_t HttpExchange::on_header(char* data, size_t size, size_t count, void* self) {
  auto& exchange = *static_cast<HttpExchange*>(self);
  const std::string_view line(data, size * count);
  // What follows a body in chunks says nothing here.
  if (exchange.has_begun_) return line.size();
  exchange.head_.add_line(line);
  const bool is_end = line == "\r\n" || line == "\n";
  if (is_end && exchange.head_.status >= 200 && !exchange.begin()) return 0;
  return line.size();
}

bool HttpExchange::is_redirect() const {
  const int status = head_.status;
  const bool leads =
      status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
  return leads && !head_.location.empty();
}

/// False ends the exchange.
bool HttpExchange::begin() {
  has_begun_ = true;
  if (!head_.malformed.empty()) {
    own_ = malformed_reply(head_.malformed);
    return false;
  }
  if (is_redirect()) {
    is_discarded_ = true;
    return true;
  }
  const bool is_encoded = !head_.content_encoding.empty() && head_.content_encoding != "identity";
  if (is_encoded && !settings_.takes_encodings && head_.status < 300) {
    own_ = dead_end("the server sends its reply encoded, which was not asked for: other bytes");
    return false;
  }
  own_ = job_->begin(head_, absl::Now());
  is_discarded_ = own_.has_value();
  return true;
}

size_t HttpExchange::on_body(char* data, size_t size, size_t count, void* self) {
  return static_cast<HttpExchange*>(self)->take({data, size * count});
}

size_t HttpExchange::take(std::string_view bytes) {
  if (!has_begun_) return 0;
  if (is_discarded_) {
    discarded_ += bytes.size();
    return discarded_ > kMostDiscarded ? 0 : bytes.size();
  }
  HttpFailure why;
  switch (job_->take(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()), why)) {
    case HttpJob::Take::kMore:
      return bytes.size();
    case HttpJob::Take::kWait:
      is_waiting_ = true;
      waiting_since_ = absl::Now();
      return CURL_WRITEFUNC_PAUSE;
    case HttpJob::Take::kEnough:
      is_enough_ = true;
      return 0;
    case HttpJob::Take::kBad:
      own_ = std::move(why);
      return 0;
  }
  return 0;
}

void HttpExchange::resume() {
  is_waiting_ = false;
  (void)curl_easy_pause(easy(), CURLPAUSE_CONT);
}

curl_socket_t HttpExchange::on_socket(void* self, curlsocktype /*purpose*/,
                                      curl_sockaddr* address) {
  auto& exchange = *static_cast<HttpExchange*>(self);
  const HttpSettings& settings = exchange.settings_;
  // A proxy's address says nothing of where it goes.
  const bool is_checked =
      exchange.is_elsewhere_ && !settings.private_redirects && settings.proxy.empty();
  if (is_checked && is_private_address(address->addr)) {
    exchange.refused_address_ = true;
    return CURL_SOCKET_BAD;
  }
  return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

std::optional<HttpFailure> HttpExchange::redirect() {
  const CurlUrl url(curl_url());
  const bool is_read =
      url && curl_url_set(url.get(), CURLUPART_URL, url_.c_str(), CURLU_PATH_AS_IS) == CURLUE_OK &&
      curl_url_set(url.get(), CURLUPART_URL, head_.location.c_str(),
                   CURLU_PATH_AS_IS | CURLU_DISALLOW_USER) == CURLUE_OK;
  if (!is_read) return dead_end("the server redirects to where nothing can be");
  (void)curl_url_set(url.get(), CURLUPART_FRAGMENT, nullptr, 0);
  const std::string scheme = url_part(url.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") {
    return dead_end("the server redirects to something else than http and https");
  }
  const std::string host = lower_host(url_part(url.get(), CURLUPART_HOST));
  const std::string path = url_part(url.get(), CURLUPART_PATH);
  const bool is_tls = scheme == "https";
  if (request_.stops_at_folder && host == host_ && path == request_.path + "/") {
    own_ = job_->begin(head_, absl::Now());
    is_enough_ = true;
    return own_;
  }
  url_ = url_part(url.get(), CURLUPART_URL);
  if (!visited_.insert(url_).second) return dead_end("the server's redirects lead in a circle");
  if (visited_.size() > kMostRedirects + 1) {
    return dead_end(fmt::format("the server redirects more than {} times", kMostRedirects));
  }
  is_elsewhere_ = host != settings_.server.host;
  if (is_elsewhere_ || (is_tls_ && !is_tls)) with_credentials_ = false;
  const std::string port = url_part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
  const bool is_same_port = port == fmt::format("{}", settings_.server.port);
  if (!is_same_port && is_tls == settings_.server.tls) with_credentials_ = false;
  host_ = host;
  is_tls_ = is_tls;
  return std::nullopt;
}

bool HttpExchange::follows(CURLcode code) {
  if (own_) {
    outcome_ = std::move(own_);
    return false;
  }
  if (has_begun_ && is_redirect()) {
    outcome_ = redirect();
    if (outcome_) return false;
    if (!is_enough_) return true;
  }
  if (is_enough_ || (code == CURLE_OK && has_begun_)) {
    outcome_ = job_->end();
  } else {
    outcome_ = failure_of(code);
  }
  return false;
}

HttpFailure HttpExchange::failure_of(CURLcode code) const {
  using Again = HttpFailure::Again;
  if (refused_address_) {
    return dead_end(
        "the server redirects to a private address, which only private_redirects allows");
  }
  std::string why = error_[0] == '\0' ? curl_easy_strerror(code) : error_.data();
  if (code == CURLE_OK) why = "no reply";
  HttpFailure failure = dead_end(why);
  failure.of_server = true;
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
      failure.status = base::annotate(failure.status, "TLS");
      break;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_OUT_OF_MEMORY:
      failure.of_server = false;
      break;
    case CURLE_WEIRD_SERVER_REPLY:
      failure.again = Again::kFew;
      break;
    default:
      failure.again = Again::kLong;
  }
  return failure;
}

}  // namespace blobcache::net
