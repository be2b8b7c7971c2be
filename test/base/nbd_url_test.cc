#include "base/nbd_url.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/listen_address.h"
#include "base/status.h"

namespace blobcache::base {
namespace {

std::string canonical(const std::string& url) {
  const absl::StatusOr<NbdUrl> parsed = parse_nbd_url(url);
  return parsed.ok() ? parsed->to_string() : "bad";
}

TEST_CASE("urls of the four kinds are read, and one meaning has one text") {
  CHECK(canonical("nbd://host") == "nbd://host:10809/");
  CHECK(canonical("nbd://host:10809/a%2Db/c") == "nbd://host:10809/a-b/c");
  CHECK(canonical("nbds://alice@host/x") == "nbds://host:10809/x");
  CHECK(canonical("nbd://[::1]:99/x") == "nbd://[::1]:99/x");
  CHECK(canonical("nbd+unix:///?socket=/run/s") == "nbd+unix:///?socket=/run/s");
  CHECK(canonical("nbds+unix:///a%20b?socket=/run/s%3F") == "nbds+unix:///a%20b?socket=/run/s%3F");
  CHECK(parse_nbd_url("nbds://alice@host/x")->user == "alice");
}

TEST_CASE("where an NBD url leads") {
  const auto leads = [](std::string_view url) { return parse_nbd_url(url)->address().to_string(); };
  CHECK(leads("nbd://host") == "tcp:host:10809");
  CHECK(leads("nbds://user@host:1/a/b") == "tcp:host:1");
  CHECK(leads("nbd://[::1]/a") == "tcp:[::1]:10809");
  CHECK(leads("nbd+unix:///a?socket=/run/s") == "unix:/run/s");
  CHECK(leads("nbds+unix:///?socket=/run/a%20b%2Fc") == "unix:/run/a b/c");
}

TEST_CASE("urls that cannot be are refused, and a password is not repeated") {
  for (const char* url : {"",
                          "nbd",
                          "http://host/",
                          "nbd+vsock://1/",
                          "nbd://",
                          "nbd://host:0/",
                          "nbd://host:1x/",
                          "nbd://host:70000/",
                          "nbd://[::1/",
                          "nbd://[::1]x/",
                          "nbd://host/%zz",
                          "nbd://host/%00",
                          "nbd://host/?socket=/x",
                          "nbd://host/#x",
                          "nbd://alice@host/",
                          "nbds://@host/",
                          "nbd+unix://host/?socket=/x",
                          "nbd+unix:///x",
                          "nbd+unix:///?socket=x",
                          "nbd+unix:///?socket=/x&tls=1",
                          "nbd://ho st/"}) {
    CAPTURE(url);
    CHECK(parse_nbd_url(url).status().code() == absl::StatusCode::kInvalidArgument);
  }
  const absl::Status secret = parse_nbd_url("nbds://alice:hunter2@host/").status();
  CHECK(secret.code() == absl::StatusCode::kInvalidArgument);
  CHECK(message(secret).find("hunter2") == std::string_view::npos);
}

}  // namespace
}  // namespace blobcache::base
