#include "server/ctl/nbd_listener.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/listen_address.h"

namespace blobcache::ctl {
namespace {

/// The address to connect to, or "" for none.
std::string choose(const std::string& endpoint, const std::vector<std::string>& listeners) {
  const auto chosen = choose_nbd_listener(*base::parse_listen_address(endpoint), listeners);
  if (chosen.ok()) return chosen->to_string();
  CHECK(absl::IsFailedPrecondition(chosen.status()));
  return "";
}

TEST_CASE("nbd listener: on this machine the unix socket, or else TCP") {
  for (const char* endpoint : {"unix:/run/grpc.sock", "tcp:127.0.0.1:7440"}) {
    CHECK(choose(endpoint, {"tcp:127.0.0.1:10809", "unix:/run/a.sock", "unix:/run/b.sock"}) ==
          "unix:/run/a.sock");
    CHECK(choose(endpoint, {"future:x", "tcp:127.0.0.1:10809", "tcp:192.0.2.1:1"}) ==
          "tcp:127.0.0.1:10809");
    CHECK(choose(endpoint, {}).empty());
  }
}

TEST_CASE("nbd listener: of another machine only what can be reached from here") {
  const std::string endpoint = "tcp:192.0.2.7:7440";
  CHECK(choose(endpoint, {"unix:/run/a.sock", "tcp:127.0.0.1:10809", "tcp:192.0.2.8:10809"}) ==
        "tcp:192.0.2.8:10809");
  CHECK(choose(endpoint, {"tcp:0.0.0.0:10809"}) == "tcp:192.0.2.7:10809");
  CHECK(choose(endpoint, {"tcp:[::]:10809"}) == "tcp:192.0.2.7:10809");
  CHECK(choose(endpoint, {"unix:/run/a.sock", "tcp:[::1]:10809"}).empty());
}

}  // namespace
}  // namespace blobcache::ctl
