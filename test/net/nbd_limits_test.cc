// How long, and how much, an NBD origin takes at most, whatever the server does.
#include <doctest/doctest.h>

#include <cstddef>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "net/impl/nbd_tree.h"
#include "net/nbd_origin.h"
#include "store/tree/origin.h"
#include "test/net/fixture.h"
#include "test/net/nbd_fixture.h"

namespace blobcache::net {
namespace {

using absl::StatusCode;

TEST_CASE("a server that serves a connection is there, though another is refused") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"memory", "1M"});
  NbdOriginOptions options = world.options("");
  options.connect_timeout = absl::Milliseconds(500);
  const auto origin = NbdWorld::origin(options);
  const tree::OriginFile file = value_of(origin->open("x"));
  REQUIRE(origin->health().connections == 1);
  world.server.stop();
  CHECK(origin->look_up("y").status().code() == StatusCode::kUnavailable);
  CHECK(origin->health().connections == 1);
  CHECK(origin->health().reachable);
}

TEST_CASE("a listing takes a bounded time, however many exports are slow to tell") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"eval", "list_exports=printf 'NAMES\n'; seq 1000", "open=sleep 0.1",
                       "get_size=echo 5000", "pread=exit 1"});
  NbdOriginOptions options = world.options("");
  options.connect_timeout = absl::Seconds(3);
  const auto origin = NbdWorld::origin(options);
  CHECK(origin->list("").status().code() == StatusCode::kUnavailable);
  CHECK(value_of(origin->look_up("7")).size_bytes == 5000);
}

TEST_CASE("a server that lists too much lists nothing, and has its exports all the same") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"eval", "list_exports=echo NAMES; seq -f %04000.0f 5000",
                       "get_size=echo 5000", "pread=exit 1"});
  const auto origin = NbdWorld::origin(world.options(""));
  const absl::Status listed = origin->list("").status();
  INFO(listed.ToString());
  CHECK(listed.code() == StatusCode::kResourceExhausted);
  CHECK(listed.message().find("lists more than") != absl::string_view::npos);
  CHECK(value_of(origin->look_up("7")).size_bytes == 5000);
}

TEST_CASE("when the daemon ends who waits is told so, and what is open ends soon after") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"memory", "1M"});
  NbdOriginOptions options = world.options("");
  options.connect_timeout = options.request_timeout = absl::Minutes(10);
  const auto origin = NbdWorld::origin(options);
  const tree::OriginFile file = value_of(origin->open("x"));
  world.server.stop();
  Bytes bytes(4096);
  const Answer under_way;
  const auto fetch = file.version.source->fetch(0, absl::MakeSpan(bytes), Answer(under_way).done());
  std::vector<std::thread> threads;
  std::vector<absl::Status> statuses(3 * NbdTree::kMaxProbes);
  for (size_t i = 0; i < statuses.size(); ++i) {
    threads.emplace_back([&, i] {
      if (i % 3 == 0) statuses[i] = origin->look_up("y").status();
      if (i % 3 == 1) statuses[i] = origin->list("").status();
      if (i % 3 == 2) statuses[i] = origin->open("y").status();
    });
  }
  absl::SleepFor(absl::Milliseconds(100));  // so that most of them wait; none must
  origin->stop();
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) CHECK(status.code() == StatusCode::kCancelled);
  CHECK(under_way.wait().code() == StatusCode::kUnavailable);
  CHECK(origin->look_up("x").status().code() == StatusCode::kCancelled);
  CHECK(origin->list("").status().code() == StatusCode::kCancelled);
  CHECK(origin->open("x").status().code() == StatusCode::kCancelled);
}

TEST_CASE("who waits for an export that is just being opened is told of the end, too") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  // Tells of it at once, and opens it when the daemon has ended.
  world.server.nbdkit({"eval", "open=if [ -e $tmpdir/once ]; then sleep 3; fi; touch $tmpdir/once",
                       "get_size=echo 5000", "pread=exit 1", "list_exports=echo NAMES"});
  const auto origin = NbdWorld::origin(world.options());
  std::vector<std::thread> threads;
  std::vector<absl::Status> statuses(3);
  for (absl::Status& status : statuses) {
    threads.emplace_back([&] { status = origin->open("x").status(); });
  }
  absl::SleepFor(absl::Seconds(1));
  origin->stop();
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) CHECK(status.code() == StatusCode::kCancelled);
}

}  // namespace
}  // namespace blobcache::net
