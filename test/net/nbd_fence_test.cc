// Changes that a server makes late, after they were given up, and what it loses when it dies.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "net/impl/nbd_fences.h"
#include "net/impl/nbd_tree.h"
#include "net/nbd_origin.h"
#include "store/page/page_store.h"
#include "test/net/fixture.h"
#include "test/net/nbd_fixture.h"
#include "test/net/nbd_proxy.h"

namespace blobcache::net {
namespace {

using absl::StatusCode;

/// A server of a file of zeros behind a network that may stall.
struct StallingWorld : NbdWorld {
  explicit StallingWorld(const std::vector<std::string>& filters = {},
                         const std::vector<std::string>& settings = {}) {
    path = file(Bytes(kMib)).string();
    command = filters;
    command.insert(command.end(), {"file", path});
    command.insert(command.end(), settings.begin(), settings.end());
    server.nbdkit(command);
    proxy.emplace(dir.path() / "proxy.sock", dir.path() / "nbd.sock");
    page::PageStoreOptions page_options;
    page_options.path = dir.path() / "store";
    std::filesystem::create_directory(page_options.path);
    page_options.memory_bytes = 64 * kMib;
    pages = value_of(page::PageStore::open(page_options));
    NbdOriginOptions writable = options();
    writable.url = "nbd+unix:///x?socket=" + (dir.path() / "proxy.sock").string();
    writable.read_only = false;
    writable.request_timeout = absl::Seconds(2);
    origin = NbdWorld::origin(writable);
  }
  [[nodiscard]] Bytes upstream(uint64_t length) const {
    std::ifstream in(path, std::ios::binary);
    Bytes bytes(length);
    in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(length));
    return bytes;
  }
  [[nodiscard]] static bool succeeds(const std::function<absl::Status()>& call) {
    for (int i = 0; i < 30; ++i) {
      if (call().ok()) return true;
    }
    return false;
  }

  std::string path;
  std::vector<std::string> command;
  std::optional<NbdProxy> proxy;
  std::unique_ptr<page::PageStore> pages;
  std::shared_ptr<NbdTree> origin;
};

const Bytes kFirst(4096, std::byte{1});
const Bytes kLate(4096, std::byte{2});
const Bytes kLast(4096, std::byte{3});

TEST_CASE("a change that was given up undoes none that came later") {
  NEEDS(kHaveNbdkit)
  StallingWorld world;
  const OpenImage open(*world.origin, *world.pages);
  REQUIRE(open.write(0, kFirst).ok());
  REQUIRE(open.flush().ok());
  world.proxy->hold();
  CHECK(open.write(0, kLate).code() == StatusCode::kUnavailable);
  // It may still come: nothing goes where it goes to, and all else goes on.
  CHECK(open.write(100, kLast).code() == StatusCode::kUnavailable);
  CHECK(open.trim(0, 4096).code() == StatusCode::kUnavailable);
  CHECK(open.write(8192, kLast).ok());
  CHECK(value_of(open.read(8192, 4096)) == kLast);
  CHECK(value_of(open.read(0, 4096)) == kFirst);
  CHECK(open.flush().ok());
  CHECK(world.upstream(4096) == kFirst);
  world.proxy->release();
  CHECK(StallingWorld::succeeds([&] { return open.write(0, kLast); }));
  CHECK(world.upstream(4096) == kLast);
  CHECK(value_of(open.read(0, 4096)) == kLast);
}

TEST_CASE("changes that wait for a hung one do not each wait as long again") {
  NEEDS(kHaveNbdkit)
  StallingWorld world;
  const OpenImage open(*world.origin, *world.pages);
  REQUIRE(open.write(0, kFirst).ok());
  world.proxy->hold();
  std::vector<Answer> answers(20);
  for (const Answer& answer : answers) {
    open.image->write(0, kLate, false, Answer(answer).done());
  }
  for (const Answer& answer : answers) CHECK(answer.wait().code() == StatusCode::kUnavailable);
  CHECK(answers.back().wait().message().find("earlier change") != absl::string_view::npos);
}

TEST_CASE("so it is for who opens the export next, and nothing of it is cached") {
  NEEDS(kHaveNbdkit)
  StallingWorld world;
  {
    const OpenImage open(*world.origin, *world.pages);
    REQUIRE(open.write(0, kFirst).ok());
    world.proxy->hold();
    CHECK(open.write(0, kLate).code() == StatusCode::kUnavailable);
  }
  const OpenImage again(*world.origin, *world.pages);
  CHECK(value_of(again.read(0, 4096)) == kFirst);
  Bytes page(4096);
  CHECK_FALSE(again.image->try_read(0, absl::MakeSpan(page)));
  CHECK(again.write(0, kLast).code() == StatusCode::kUnavailable);
  world.proxy->release();
  CHECK(StallingWorld::succeeds([&] { return again.write(4000, kLast); }));
  // The server may have made the late change or not, and what it has is what is read.
  const Bytes now = world.upstream(4000);
  CHECK((now.front() == kLate.front() || now.front() == kFirst.front()));
  CHECK(now == Bytes(4000, now.front()));
  CHECK(value_of(again.read(0, 4000)) == now);
}

TEST_CASE("what is lost with the late one is sent again when the server is through with that") {
  NEEDS(kHaveNbdkit)
  StallingWorld world;
  const OpenImage open(*world.origin, *world.pages);
  REQUIRE(open.write(0, kFirst).ok());
  world.proxy->hold();
  const Answer late;
  open.image->write(0, kLate, false, Answer(late).done());
  absl::SleepFor(absl::Seconds(1));
  const Answer beside;
  open.image->write(8192, kLast, false, Answer(beside).done());
  CHECK(late.wait().code() == StatusCode::kUnavailable);
  world.proxy->release();
  // On a machine that stalls it may be late itself.
  if (beside.wait().ok()) CHECK(value_of(open.read(8192, 4096)) == kLast);
}

TEST_CASE("a server that does not say that its connections are one has no second meanwhile") {
  NEEDS(kHaveNbdkit)
  StallingWorld world({"--filter=multi-conn"}, {"multi-conn-mode=disable"});
  const OpenImage open(*world.origin, *world.pages);
  REQUIRE(open.write(0, kFirst).ok());
  world.proxy->hold();
  CHECK(open.read(65536, 4096).status().code() == StatusCode::kUnavailable);
  CHECK(open.read(65536, 4096).status().code() == StatusCode::kUnavailable);
  CHECK(world.origin->health().connections == 0);
  world.proxy->release();
  CHECK(StallingWorld::succeeds([&] { return open.read(65536, 4096).status(); }));
  CHECK(world.origin->health().connections == 1);
}

TEST_CASE("the flush after a server's end fails once if something was answered before it") {
  NEEDS(kHaveNbdkit)
  StallingWorld world;
  const OpenImage open(*world.origin, *world.pages);
  REQUIRE(open.write(0, kFirst).ok());
  REQUIRE(open.flush().ok());
  world.server.kill();
  world.server.nbdkit(world.command);
  CHECK(open.flush().ok());  // nothing was
  REQUIRE(open.write(0, kLast).ok());
  world.server.kill();
  world.server.nbdkit(world.command);
  CHECK(value_of(open.read(0, 4096)) == kLast);
  CHECK(open.flush().code() == StatusCode::kUnavailable);
  CHECK(open.flush().ok());
  REQUIRE(open.write(0, kFirst, true).ok());  // FUA
  world.server.kill();
  world.server.nbdkit(world.command);
  REQUIRE(open.read(0, 4096).ok());
  CHECK(open.flush().ok());
}

TEST_CASE("a fence holds its bytes until the other side has ended the connection") {
  std::array<int, 2> ends{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  base::UniqueFd ours(ends[0]);
  base::UniqueFd theirs(ends[1]);
  NbdFences fences;
  CHECK(fences.empty());
  fences.add(std::move(ours), {{4096, 8192}, {100, 200}}, true);
  REQUIRE(fences.size() == 1);
  CHECK(fences.alone());
  CHECK(fences.holds({0, 101}));
  CHECK(fences.holds({8191, 9000}));
  CHECK_FALSE(fences.holds({200, 4096}));
  CHECK(fences.held().size() == 2);
  char byte = 0;
  CHECK(::recv(theirs.get(), &byte, 1, 0) == 0);  // it is told of the end
  REQUIRE(::send(theirs.get(), "answer", 6, 0) == 6);
  std::vector<NbdWatched*> watched;
  fences.watch(watched);
  REQUIRE(watched.size() == 1);
  watched[0]->notify(1);
  CHECK(fences.sweep() == 0);
  theirs.reset();
  watched[0]->notify(1);
  CHECK(fences.sweep() == 1);
  CHECK(fences.empty());
  CHECK_FALSE(fences.holds({0, 101}));
  // One that has ended already is none.
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
  ::close(ends[1]);
  fences.add(base::UniqueFd(ends[0]), {{0, 1}}, false);
  CHECK(fences.empty());
}

}  // namespace
}  // namespace blobcache::net
