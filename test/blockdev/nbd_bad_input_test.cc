#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "test/blockdev/test_export.h"

namespace blobcache::blockdev {
namespace {

constexpr uint64_t kVictimSize = 4 * kMiB;

struct Command {
  const char* what;
  uint16_t type = 0;
  uint64_t offset = 0;
  uint32_t length = 0;
  uint16_t flags = 0;
  uint32_t error = 22;
};

TEST_CASE("nbd bad input: requests that are refused leave the connection working") {
  TestStore store(kVictimSize);
  store.warm();
  const std::vector<Command> commands = {
      {"read past the end", 0, kVictimSize - 10, 11},
      {"read from past the end", 0, kVictimSize + 1, 1},
      {"read whose end overflows", 0, ~uint64_t{0}, 4096},
      {"empty read", 0, 0, 0},
      {"read over 32 MiB", 0, 0, (32U << 20) + 1},
      {"read with FUA, which was not offered", 0, 0, 4096, 1},
      {"read with an unknown flag", 0, 0, 4096, 0x8000},
      {"trim", 4, 0, 4096, 0, 1},
      {"write zeroes", 6, 0, 4096, 0, 1},
      {"cache past the end", 5, kVictimSize, 1},
      {"cache with a flag", 5, 0, 4096, 1},
      {"block status without a context", 7, 0, 4096},
      {"flush with a range", 3, 0, 1},
      {"resize", 8, 0, 4096},
      {"a command that does not exist", 200, 1, 2},
  };
  for (const bool structured : {false, true}) {
    TestSession session(store.object());
    RawClient& client = session.client();
    client.open("disk", structured);
    uint64_t cookie = 100;
    for (const Command& command : commands) {
      CAPTURE(command.what);
      client.send_request(command.type, ++cookie, command.offset, command.length, command.flags);
      const RawClient::Reply reply = client.receive_reply();
      CHECK(reply.cookie == cookie);
      CHECK(reply.error == command.error);
      CHECK(reply.structured == structured);
      CHECK(reply.done());
      client.send_request(0, ++cookie, 5, 10);
      CHECK(client.receive_reply(10).data == pattern(5, 10));
    }
  }
}

TEST_CASE("nbd bad input: don't-fragment is unknown without chunks") {
  TestStore store(kVictimSize);
  store.warm();
  TestSession simple(store.object());
  simple.client().open("disk", false);
  simple.client().send_request(0, 1, 0, 4096, 4);
  CHECK(simple.client().receive_reply().error == 22);
}

TEST_CASE("nbd bad input: a write is refused once its payload is read past") {
  TestStore store(kVictimSize);
  store.warm();
  for (const bool structured : {false, true}) {
    TestSession session(store.object());
    RawClient& client = session.client();
    client.open("disk", structured);
    for (const uint32_t length : {0U, 1U, 4096U, 200'000U, 32U << 20}) {
      client.send_request(1, length, 0, length);
      client.send(std::string(length, '\x25'));
      const RawClient::Reply reply = client.receive_reply();
      CHECK(reply.cookie == length);
      CHECK(reply.error == 1);
    }
    client.send_request(0, 7, 0, 4096);
    CHECK(client.receive_reply(4096).data == pattern(0, 4096));
  }
}

TEST_CASE("nbd bad input: a broken message ends its own connection and no other") {
  TestStore store(kVictimSize);
  store.warm();
  TestSession healthy(store.object());
  healthy.client().open("disk", true);
  const auto healthy_works = [&healthy] {
    healthy.client().send_request(0, 1, 4096, 4096);
    return healthy.client().receive_reply().data == pattern(4096, 4096);
  };
  TestSession broken(store.object());
  RawClient& client = broken.client();
  SUBCASE("wrong client flags") {
    client.greet(0xffffffff);
    CHECK(client.at_end());
  }
  SUBCASE("wrong option magic") {
    client.greet();
    client.send("GARBAGE!" + be32(7) + be32(0));
    CHECK(client.at_end());
  }
  SUBCASE("an option longer than any") {
    client.greet();
    client.send("IHAVEOPT" + be32(7) + be32(0xffffffff));
    CHECK(client.at_end());
  }
  SUBCASE("an option cut short") {
    client.greet();
    client.send("IHAVEOPT" + be32(7) + be32(100) + "not a hundred");
    client.shut_down_sending();
    CHECK(client.at_end());
  }
  SUBCASE("an unknown export name") {
    client.greet();
    client.send_option(1, "nope");
    CHECK(client.at_end());
  }
  SUBCASE("wrong request magic") {
    client.open("disk", true);
    client.send(std::string(28, '\x11'));
    CHECK(client.at_end());
  }
  SUBCASE("a request cut short") {
    client.open("disk", true);
    client.send(be32(0x25609513) + "half");
    client.shut_down_sending();
    CHECK(client.at_end());
  }
  SUBCASE("a write longer than any") {
    client.open("disk", true);
    client.send_request(1, 1, 0, (32U << 20) + 1);
    CHECK(client.at_end());
  }
  SUBCASE("a write cut short") {
    client.open("disk", true);
    client.send_request(1, 1, 0, 4096);
    client.send("too little");
    client.shut_down_sending();
    CHECK(client.at_end());
  }
  SUBCASE("a client that only listens") {
    client.greet();
    client.shut_down_sending();
    CHECK(client.at_end());
  }
  broken.join();
  CHECK(healthy_works());
}

}  // namespace
}  // namespace blobcache::blockdev
