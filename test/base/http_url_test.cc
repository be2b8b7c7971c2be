#include "base/http_url.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "base/s3_url.h"
#include "base/url_escape.h"

namespace blobcache::base {
namespace {

TEST_CASE("http url: one text for one meaning") {
  const auto text = [](std::string_view url) { return parse_http_url(url).value().to_string(); };
  CHECK(text("http://h") == "http://h/");
  CHECK(text("HTTPS://Host.Example:443/a/b") == "https://host.example/a/b/");
  CHECK(text("http://h:80/a%20b%2f~/") == "http://h/a%20b/~/");
  CHECK(text("http://h:8080/\xc3\xa4+") == "http://h:8080/%C3%A4%2B/");
  CHECK(text("http://[::1]:99/") == "http://[::1]:99/");
  CHECK(parse_http_url("http://[::1]/").value().is_loopback());
  CHECK(parse_http_url("http://127.0.0.1:1/").value().is_loopback());
  CHECK(!parse_http_url("http://192.0.2.1/").value().is_loopback());
  CHECK(parse_http_url("https://h").value().port == 443);
  CHECK(parse_http_url("https://h:8443/x").value().authority() == "h:8443");
}

TEST_CASE("http url: what cannot be, and no secret is repeated") {
  for (const char* const bad : {"",
                                "h",
                                "ftp://h/",
                                "http:/h",
                                "http://",
                                "http:///a",
                                "http://h:0/",
                                "http://h:65536/",
                                "http://h:x/",
                                "http://h:1x/",
                                "http://[::1/",
                                "http://[::1]x/",
                                "http://h/?a=b",
                                "http://h/#a",
                                "http://h/%zz",
                                "http://h/%0",
                                "http://h/%00",
                                "http://a b/",
                                "http://h/a/../b",
                                "http://h/./",
                                "http://h//a",
                                "http://h\r\nX: y/",
                                "http://h<x>/"}) {
    CHECK_MESSAGE(absl::IsInvalidArgument(parse_http_url(bad).status()), bad);
  }
  CHECK(!parse_http_url("http://h/" + std::string(9000, 'a')).ok());
  for (const char* const secret : {"https://me:sesame@h/", "https://sesame@h/"}) {
    const absl::Status status = parse_http_url(secret).status();
    CHECK(absl::IsInvalidArgument(status));
    CHECK(status.ToString().find("sesame") == std::string::npos);
  }
}

TEST_CASE("http url: escapes") {
  CHECK(escape_url("a/b c%+\xff~", true) == "a/b%20c%25%2B%FF~");
  CHECK(escape_url("a/b", false) == "a%2Fb");
  CHECK(unescape_url("a%2Fb+%c3%A4") == "a/b+\xc3\xa4");
  CHECK(!unescape_url("%"));
  CHECK(!unescape_url("%4"));
  CHECK(!unescape_url("%g0"));
  CHECK(!unescape_url("%00"));
}

TEST_CASE("s3 url: buckets and folders of them") {
  CHECK(parse_s3_url("s3://bucket").value() == S3Url{"bucket", ""});
  CHECK(parse_s3_url("s3://bucket/").value() == S3Url{"bucket", ""});
  CHECK(parse_s3_url("s3://my.bucket-1/a%20b/c").value() == S3Url{"my.bucket-1", "a b/c/"});
  CHECK(parse_s3_url("s3://bucket/a b/").value().to_string() == "s3://bucket/a%20b/");
  for (const char* const bad :
       {"", "s3:", "s3://", "s3:///a", "S3://bucket", "s3://ab/", "s3://Bucket/", "s3://-bucket/",
        "s3://bucket-/", "s3://a..b/", "s3://buck et/", "s3://k:s@bucket/", "s3://bucket/?x",
        "s3://bucket/%zz", "http://bucket/"}) {
    CHECK_MESSAGE(absl::IsInvalidArgument(parse_s3_url(bad).status()), bad);
  }
  CHECK(!parse_s3_url("s3://" + std::string(64, 'a') + "/").ok());
  CHECK(!parse_s3_url("s3://bucket/" + std::string(1025, 'a')).ok());
}

}  // namespace
}  // namespace blobcache::base
