#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "net/impl/http_auth.h"
#include "net/impl/http_breaker.h"
#include "net/impl/http_exchange.h"
#include "net/impl/http_head.h"
#include "net/impl/http_judge.h"
#include "net/impl/http_version.h"

namespace blobcache::net {
namespace {

HttpHead head_of(const std::vector<std::string_view>& lines) {
  HttpHead head;
  for (const std::string_view line : lines) head.add_line(line);
  return head;
}

TEST_CASE("http head: Content-Range") {
  using Range = HttpContentRange;
  CHECK(parse_content_range("bytes 0-0/1") == Range{0, 0, 1});
  CHECK(parse_content_range("  Bytes 10-19/100 ") == Range{10, 19, 100});
  CHECK(parse_content_range("bytes 10-19/*") == Range{10, 19, std::nullopt});
  CHECK(parse_content_range("bytes */7") == Range{std::nullopt, std::nullopt, 7});
  for (const char* const bad :
       {"", "bytes", "bytes ", "bytes 1/2", "bytes 2-1/9", "bytes 0-9/9", "bytes -5/9",
        "bytes 1-/9", "bytes */*", "items 0-1/2", "bytes 0-1", "bytes 0x1-2/9", "bytes 0-1/9z",
        "bytes +0-1/9", "bytes 0-9223372036854775808/9223372036854775809",
        "bytes 0-1/99999999999999999999999"}) {
    CHECK_MESSAGE(!parse_content_range(bad), bad);
  }
}

TEST_CASE("http head: dates and Retry-After") {
  const absl::Time time = absl::FromUnixSeconds(784111777);
  CHECK(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == time);
  for (const char* const bad : {"", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
                                "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 36 Nov 1994 08:49:37 GMT"}) {
    CHECK_MESSAGE(!parse_http_date(bad), bad);
  }
  CHECK(parse_retry_after("120", time) == absl::Seconds(120));
  CHECK(parse_retry_after(" 0 ", time) == absl::ZeroDuration());
  CHECK(parse_retry_after("999999999999", time) == absl::Hours(24));
  CHECK(parse_retry_after("Sun, 06 Nov 1994 08:49:47 GMT", time) == absl::Seconds(10));
  CHECK(parse_retry_after("Sun, 06 Nov 1994 08:49:27 GMT", time) == absl::ZeroDuration());
  CHECK(!parse_retry_after("soon", time));
  CHECK(!parse_retry_after("-1", time));
  CHECK(!parse_retry_after("", time));
}

TEST_CASE("http head: lines, in any case, and what cannot be") {
  HttpHead head = head_of({"HTTP/1.1 206 Partial Content\r\n", "CONTENT-LENGTH: 10\r\n",
                           "Content-Range: bytes 0-9/20\r\n", "eTag:\"x\"\r\n",
                           "Content-Type: Text/HTML; charset=x\r\n", "Odd\r\n", "\r\n"});
  CHECK(head.status == 206);
  CHECK(head.malformed.empty());
  CHECK(head.content_length == 10);
  CHECK(head.content_range == HttpContentRange{0, 9, 20});
  CHECK(head.etag == "\"x\"");
  CHECK(head.content_type == "text/html");
  // A reply begins anew.
  head.add_line("HTTP/2 200 \r\n");
  CHECK(head.status == 200);
  CHECK(head.etag.empty());
  CHECK(!head.content_length);
  CHECK(!head_of({"HTTP/1.1 200 OK", "Content-Length: 1", "Content-Length: 2"}).malformed.empty());
  CHECK(head_of({"HTTP/1.1 200 OK", "Content-Length: 1", "Content-Length: 1"}).malformed.empty());
  CHECK(!head_of({"HTTP/1.1 200 OK", "Content-Length: -1"}).malformed.empty());
  CHECK(!head_of({"HTTP/1.1 200 OK", "Content-Range: bytes 1-0/1"}).malformed.empty());
  CHECK(!head_of({"HTTP/1.1 abc"}).malformed.empty());
  CHECK(!head_of({"HTTP/1.1"}).malformed.empty());
  const std::string tag = "ETag: \"" + std::string(HttpHead::kMostValue, 'x') + "\"";
  CHECK(!head_of({"HTTP/1.1 200 OK", tag}).malformed.empty());
  HttpHead endless = head_of({"HTTP/1.1 200 OK"});
  for (int i = 0; i < 100; ++i) endless.add_line(std::string(1000, 'x'));
  CHECK(!endless.malformed.empty());
}

TEST_CASE("http version: which are strong, and what each asks for") {
  const auto version = [](std::string etag, std::string modified = "") {
    return HttpVersion{10, std::move(etag), std::move(modified), ""};
  };
  const std::string date = "Sun, 06 Nov 1994 08:49:37 GMT";
  CHECK(version("\"a\"").is_strong());
  for (const char* const weak :
       {"", "W/\"a\"", "a", "\"\"", "\"", "\"a\"b\"", "\"a b\"", "\"a\nb\""}) {
    CHECK_MESSAGE(!version(weak).is_strong(), weak);
  }
  CHECK(!version("\"" + std::string(HttpVersion::kMostEtag, 'a') + "\"").is_strong());
  CHECK(version("\"a\"", date).conditions() ==
        std::vector<std::string>{"If-Match: \"a\"", "If-Range: \"a\""});
  CHECK(version("W/\"a\"", date).conditions() ==
        std::vector<std::string>{"If-Unmodified-Since: " + date, "If-Range: " + date});
  CHECK(version("", "yesterday\r\nX: y").conditions().empty());
  CHECK(version("", date).modified() == absl::FromUnixSeconds(784111777));
  CHECK(version("", "x").modified() == absl::InfinitePast());
  const page::ObjectKey key = version("\"a\"").lasting_key("place", "path");
  CHECK(key == version("\"a\"", date).lasting_key("place", "path"));
  CHECK(key != version("\"b\"").lasting_key("place", "path"));
  CHECK(key != version("\"a\"").lasting_key("place", "other"));
  CHECK(key != version("\"a\"").lasting_key("other", "path"));
}

TEST_CASE("http version: a reply is about it, or not") {
  const std::string date = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
  const std::string_view part = "HTTP/1.1 206 x";
  const HttpVersion strong{20, "\"a\"", "", ""};
  CHECK(strong.differs(head_of({part, "Content-Range: bytes 0-9/20", "ETag: \"a\""})).empty());
  CHECK(!strong.differs(head_of({part, "Content-Range: bytes 0-9/20", "ETag: \"b\""})).empty());
  CHECK(!strong.differs(head_of({part, "Content-Range: bytes 0-9/20", "ETag: W/\"a\""})).empty());
  CHECK(!strong.differs(head_of({part, "Content-Range: bytes 0-9/20"})).empty());
  CHECK(!strong.differs(head_of({part, "Content-Range: bytes 0-9/21", "ETag: \"a\""})).empty());
  CHECK(!strong.differs(head_of({part, "Content-Range: bytes 0-9/*", "ETag: \"a\""})).empty());
  CHECK(!strong.differs(head_of({part, "ETag: \"a\""})).empty());
  CHECK(strong.differs(head_of({"HTTP/1.1 200 x", "Content-Length: 20", "ETag: \"a\""})).empty());
  CHECK(!strong.differs(head_of({"HTTP/1.1 200 x", "Content-Length: 19", "ETag: \"a\""})).empty());
  const HttpVersion dated{20, "", "Sun, 06 Nov 1994 08:49:37 GMT", ""};
  CHECK(dated.differs(head_of({part, "Content-Range: bytes 0-9/20", date})).empty());
  // A reply to If-Range leaves it out.
  CHECK(dated.differs(head_of({part, "Content-Range: bytes 0-9/20"})).empty());
  CHECK(!dated
             .differs(head_of({part, "Content-Range: bytes 0-9/20",
                               "Last-Modified: Sun, 06 Nov 1994 08:49:38 GMT"}))
             .empty());
}

TEST_CASE("http judge: what a status means, and whether it is worth another attempt") {
  using Again = HttpFailure::Again;
  const absl::Time now = absl::FromUnixSeconds(0);
  const auto judged = [now](int status, std::string_view more = "") {
    return judge_status(head_of({"HTTP/1.1 " + std::to_string(status) + " x", more}), now);
  };
  CHECK(!judged(200));
  CHECK(!judged(206));
  CHECK(absl::IsNotFound(judged(404)->status));
  CHECK(absl::IsNotFound(judged(410)->status));
  CHECK(absl::IsPermissionDenied(judged(401)->status));
  CHECK(absl::IsPermissionDenied(judged(403)->status));
  CHECK(absl::IsUnimplemented(judged(405)->status));
  CHECK(absl::IsAborted(judged(412)->status));
  CHECK(absl::IsAborted(judged(416)->status));
  for (const int status : {301, 400, 401, 403, 404, 405, 410, 412, 416, 418, 501}) {
    CHECK_MESSAGE((status == 501 || judged(status)->again == Again::kNo), status);
    CHECK_MESSAGE(!judged(status)->of_server, status);
  }
  for (const int status : {408, 429, 500, 502, 503, 504, 599}) {
    CHECK_MESSAGE(judged(status)->again == Again::kFew, status);
    CHECK_MESSAGE(judged(status)->of_server, status);
    CHECK(absl::IsUnavailable(judged(status)->status));
  }
  CHECK(!judged(503)->wait);
  CHECK(judged(503, "Retry-After: 7")->wait == absl::Seconds(7));
  CHECK(judged(429, "Retry-After: 7")->again == Again::kLong);
  CHECK(judged(429, "Retry-After: never")->again == Again::kFew);
  CHECK(!judged(500, "Retry-After: 7")->wait);
  CHECK(judged(500)->is_worth(HttpFailure::kMostAnswers - 1));
  CHECK(!judged(500)->is_worth(HttpFailure::kMostAnswers));
  CHECK(judged(429, "Retry-After: 7")->is_worth(1000));
  CHECK(!judged(404)->is_worth(0));
}

TEST_CASE("http judge: pauses grow, differ, and stay below ten seconds") {
  CHECK(http_backoff(1, 0) == absl::Milliseconds(50));
  CHECK(http_backoff(1, ~0U) == absl::Milliseconds(100));
  CHECK(http_backoff(2, ~0U) == absl::Milliseconds(200));
  CHECK(http_backoff(7, ~0U) == absl::Milliseconds(6400));
  CHECK(http_backoff(8, ~0U) == absl::Seconds(10));
  CHECK(http_backoff(4000000000U, ~0U) == absl::Seconds(10));
  CHECK(http_backoff(4000000000U, 0) == absl::Seconds(5));
}

TEST_CASE("http breaker: opens after a while of failures alone, and one success closes it") {
  HttpBreaker breaker(absl::Seconds(10));
  absl::Time now = absl::FromUnixSeconds(1000);
  // Many at once are no while.
  for (int i = 0; i < 100; ++i) CHECK(!breaker.failed(now));
  CHECK(!breaker.is_open());
  CHECK(breaker.next_probe() == absl::InfiniteFuture());
  CHECK(!breaker.failed(now + absl::Seconds(9)));
  // A success between begins anew.
  CHECK(!breaker.succeeded());
  now += absl::Seconds(11);
  CHECK(!breaker.failed(now));
  // A while with few of them is none, either.
  CHECK(!breaker.failed(now + absl::Seconds(20)));
  CHECK(!breaker.failed(now + absl::Seconds(20)));
  CHECK(breaker.failed(now + absl::Seconds(20)));
  CHECK(breaker.is_open());
  CHECK(!breaker.failed(now + absl::Seconds(20)));  // is so already
  now += absl::Seconds(20);
  CHECK(!breaker.take_probe(now));
  CHECK(breaker.next_probe() == now + HttpBreaker::kFirstProbe);
  absl::Duration pause = HttpBreaker::kFirstProbe;
  for (int i = 0; i < 10; ++i) {
    now += pause;
    CHECK(!breaker.take_probe(now - absl::Milliseconds(1)));
    CHECK(breaker.take_probe(now));
    CHECK(!breaker.take_probe(now));
    pause = std::min(pause * 2, HttpBreaker::kLongestPause);
  }
  CHECK(breaker.succeeded());
  CHECK(!breaker.is_open());
  CHECK(!breaker.take_probe(now + absl::Hours(1)));
  CHECK(!breaker.failed(now));
}

TEST_CASE("http auth: tokens and header lines") {
  CHECK(parse_token(" abc.def\n").value() == "abc.def");
  for (const char* const bad : {"", " \n", "a b", "a\nb", "a\x01", "\xc3\xa4"}) {
    CHECK(absl::IsInvalidArgument(parse_token(bad).status()));
  }
  CHECK(std::string_view(parse_token("sesame open").status().message().data()).find("sesame") ==
        std::string_view::npos);
  CHECK(parse_header_lines("# why\n\nX-A: b c \r\nY:z").value() ==
        std::vector<std::string>{"X-A: b c", "Y: z"});
  CHECK(parse_header_lines("").value().empty());
  for (const char* const bad : {"X", ": y", "X :y", "X:", "X: a\x01", "Range: bytes=0-1", "HOST: x",
                                "If-match: \"a\"", "Content-Length: 3"}) {
    CHECK_MESSAGE(absl::IsInvalidArgument(parse_header_lines(bad).status()), bad);
  }
  const absl::Status status = parse_header_lines("A: b\nsesame").status();
  CHECK(status.message() == "line 2: must be a header, as in Name: value");
}

TEST_CASE("http exchange: addresses that a redirect may not lead to") {
  const auto is_private = [](const char* text) {
    sockaddr_storage storage{};
    void* const bare = &storage;
    if (::inet_pton(AF_INET, text, &static_cast<sockaddr_in*>(bare)->sin_addr) == 1) {
      storage.ss_family = AF_INET;
    } else {
      REQUIRE(::inet_pton(AF_INET6, text, &static_cast<sockaddr_in6*>(bare)->sin6_addr) == 1);
      storage.ss_family = AF_INET6;
    }
    return is_private_address(*static_cast<sockaddr*>(bare));
  };
  for (const char* const text :
       {"127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "0.0.0.0", "::1", "::", "fc00::1", "fd12::1", "fe80::1",
        "::ffff:10.0.0.1", "::ffff:127.0.0.1"}) {
    CHECK_MESSAGE(is_private(text), text);
  }
  for (const char* const text : {"192.0.2.1", "8.8.8.8", "172.32.0.1", "172.15.255.255", "11.0.0.1",
                                 "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8", "fec0::1"}) {
    CHECK_MESSAGE(!is_private(text), text);
  }
}

}  // namespace
}  // namespace blobcache::net
