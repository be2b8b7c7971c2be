// Block status, holes and extended headers, through a session.

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "test/blockdev/memory_device.h"
#include "test/blockdev/test_export.h"

namespace blobcache::blockdev {
namespace {

using Style = RawClient::Style;
using Runs = std::vector<RawClient::StatusRun>;

constexpr uint64_t kExtent = 256 << 10;

/// 8 MiB: a MiB of zeros, a MiB of the pattern, and zeros, but for a page of the pattern.
std::string sparse_content() {
  std::string content(8 * kMiB, '\0');
  content.replace(kMiB, kMiB, pattern(kMiB, kMiB));
  content.replace(5 * kMiB + 8192, 4096, pattern(5 * kMiB + 8192, 4096));
  return content;
}

/// All chunks of one block status reply, by context.
std::vector<Runs> ask_status(RawClient& client, uint64_t offset, uint64_t length,
                             uint16_t flags = 0) {
  std::vector<Runs> contexts(3);
  client.send_request(kRawStatus, 3, offset, length, flags);
  RawClient::Reply reply;
  do {
    reply = client.receive_reply();
    REQUIRE(reply.error == 0);
    REQUIRE(reply.context >= 1);
    REQUIRE(reply.context <= 2);
    CHECK(contexts[reply.context].empty());
    contexts[reply.context] = reply.status;
  } while (!reply.done());
  return contexts;
}

TEST_CASE("nbd status: both contexts tell of the same range") {
  TestStore store(sparse_content());
  for (const Style style : {Style::kStructured, Style::kExtended}) {
    TestSession session(store.object());
    RawClient& client = session.client();
    client.open("disk", style, {"base:allocation", "blobcache:tier"});
    store.store().evict_memory(*store.object());
    const Runs holes{{kMiB, 3}, {kMiB, 0}, {3 * kMiB + 8192, 3}, {4096, 0}, {3 * kMiB - 12288, 3}};
    const Runs on_disk{
        {kMiB, 3}, {kMiB, 1}, {3 * kMiB + 8192, 3}, {4096, 1}, {3 * kMiB - 12288, 3}};
    CHECK(ask_status(client, 0, 8 * kMiB) == std::vector<Runs>{{}, holes, on_disk});
    CHECK(client.read(kMiB, 4096) == pattern(kMiB, 4096));
    CHECK(ask_status(client, kMiB - 100, 10'000) ==
          std::vector<Runs>{{}, {{100, 3}, {9900, 0}}, {{100, 3}, {4096, 0}, {5804, 1}}});
    // With the flag one run each, which does not go past the range.
    CHECK(ask_status(client, kMiB, 4100, kRawReqOne) ==
          std::vector<Runs>{{}, {{4100, 0}}, {{4096, 0}}});
    CHECK(ask_status(client, 8 * kMiB - 1, 1) == std::vector<Runs>{{}, {{1, 3}}, {{1, 3}}});
  }
}

TEST_CASE("nbd status: a context alone is told alone") {
  TestStore store(sparse_content());
  TestSession session(store.object());
  session.client().open("disk", Style::kStructured, {"blobcache:tier"});
  CHECK(ask_status(session.client(), 0, kMiB) == std::vector<Runs>{{}, {}, {{kMiB, 3}}});
}

TEST_CASE("nbd status: errors") {
  TestStore store(sparse_content());
  for (const Style style : {Style::kStructured, Style::kExtended}) {
    TestSession session(store.object());
    RawClient& client = session.client();
    client.open("disk", style, {"base:allocation"});
    struct Case {
      uint64_t offset = 0;
      uint64_t length = 0;
      uint16_t flags = 0;
    };
    for (const Case& bad : {Case{8 * kMiB, 1}, Case{0, 8 * kMiB + 1}, Case{0, 0},
                            Case{~uint64_t{0}, 4096}, Case{0, 4096, 4}, Case{0, 4096, 1}}) {
      client.send_request(kRawStatus, 4, bad.offset, bad.length, bad.flags);
      const RawClient::Reply reply = client.receive_reply();
      CHECK(reply.error == 22);
      CHECK(reply.done());
    }
    CHECK(ask_status(client, 0, 4096)[1] == Runs{{4096, 3}});
  }
  // Without a context, or without replies in chunks, there is no such command.
  for (const Style style : {Style::kSimple, Style::kStructured, Style::kExtended}) {
    TestSession session(store.object());
    session.client().open("disk", style);
    session.client().send_request(kRawStatus, 4, 0, 4096);
    CHECK(session.client().receive_reply().error == 22);
  }
}

TEST_CASE("nbd status: a device that cannot tell is an error at the offset; stop() ends it") {
  auto device = std::make_shared<MemoryDevice>(kMiB);
  TestSession session(device);
  RawClient& client = session.client();
  client.open("disk", Style::kExtended, {"base:allocation"});
  device->fail(absl::DataLossError("gone"));
  client.send_request(kRawStatus, 4, 512, 1024);
  RawClient::Reply reply = client.receive_reply();
  CHECK(reply.error == 5);
  CHECK(reply.offset == 512);
  CHECK(reply.request_offset == 512);
  device->hold();
  client.send_request(kRawStatus, 5, 0, 1024);
  device->wait_for(1);
  session.stop();
  device->fail(absl::CancelledError("stopped"));
  device->release(1);
  reply = client.receive_reply();
  CHECK(reply.cookie == 5);
  // As the connection's thread learns of the stop or of the failure first.
  CHECK((reply.error == 108 || reply.error == 5));
}

TEST_CASE("nbd holes: zeros leave as holes where replies come in chunks") {
  const std::string content = sparse_content();
  TestStore store(content);
  for (const bool warm : {false, true}) {
    if (warm) store.warm();
    for (const Style style : {Style::kSimple, Style::kStructured, Style::kExtended}) {
      TestSession session(store.object());
      RawClient& client = session.client();
      client.open("disk", style);
      const bool chunks = style != Style::kSimple;
      const auto holes_of = [&](uint64_t offset, uint32_t length, uint16_t flags = 0) {
        uint64_t holes = 0;
        CHECK(client.read(offset, length, flags, &holes) == content.substr(offset, length));
        return holes;
      };
      CHECK(holes_of(0, kMiB) == (chunks ? kMiB : 0));
      CHECK(holes_of(3 * kMiB + 77, 5000) == (chunks ? 5000 : 0));
      CHECK(holes_of(kMiB, kMiB) == 0);
      // By whole extents, where data and zeros are near each other.
      CHECK(holes_of(kMiB - kExtent, 2 * kExtent) == (chunks ? kExtent : 0));
      CHECK(holes_of(kMiB - 100, 200) == (chunks ? 100 : 0));
      CHECK(holes_of(0, 8 * kMiB) == (chunks ? 7 * kMiB - kExtent : 0));
      if (!chunks) continue;
      // One chunk, which is a hole only when all of it is.
      CHECK(holes_of(kMiB - 100, 200, kRawDf) == 0);
      CHECK(holes_of(0, 4096, kRawDf) == 4096);
    }
  }
}

TEST_CASE("nbd holes: what must not be broken up comes in one chunk, up to 32 MiB") {
  const std::string content = sparse_content();
  TestStore store(content);
  for (const Style style : {Style::kStructured, Style::kExtended}) {
    TestSession session(store.object());
    RawClient& client = session.client();
    client.open("disk", style);
    client.send_request(kRawRead, 6, 100, 7 * kMiB, kRawDf);
    RawClient::Reply reply = client.receive_reply();
    CHECK(reply.type == 1);
    CHECK(reply.offset == 100);
    CHECK(reply.data == content.substr(100, 7 * kMiB));
    CHECK_FALSE(reply.done());
    reply = client.receive_reply();
    CHECK(reply.type == 0);
    CHECK(reply.done());
    CHECK(client.read(5 * kMiB, 4 * 4096) == content.substr(5 * kMiB, 4 * 4096));
  }
}

TEST_CASE("nbd holes: a long chunk that fails half way is filled up, and the error follows") {
  TestStore store(uint64_t{4} * kMiB);
  auto gated = std::make_shared<GatedObject>(store.object());
  TestSession session(gated);
  RawClient& client = session.client();
  client.open("disk", Style::kStructured);
  client.send_request(kRawRead, 6, 0, 3 * kMiB, kRawDf);
  gated->wait_for(3);
  gated->release(0);
  CHECK(client.receive(28 + kMiB).substr(28) == pattern(0, kMiB));
  client.send_request(kRawFlush, 7, 0, 0);  // whose answer must not come in between
  gated->fail(absl::DataLossError("damaged"), 0);
  CHECK(client.receive(2 * kMiB) == std::string(2 * kMiB, '\0'));
  const RawClient::Reply reply = client.receive_reply();
  CHECK(reply.cookie == 6);
  CHECK(reply.error == 5);
  CHECK(reply.offset == kMiB);
  CHECK(reply.done());
  CHECK(client.receive_reply().cookie == 7);
  while (gated->waiting() > 0) gated->release();
}

TEST_CASE("nbd extended: reads of all sorts") {
  TestStore store(uint64_t{9} * kMiB);
  for (const bool warm : {false, true}) {
    if (warm) store.warm();
    TestSession session(store.object());
    RawClient& client = session.client();
    CHECK(client.open("disk", Style::kExtended) == 9 * kMiB);
    CHECK(client.read(0, 4096) == pattern(0, 4096));
    CHECK(client.read(4095, 2) == pattern(4095, 2));
    CHECK(client.read(1000, 7 * kMiB) == pattern(1000, 7 * kMiB));
    for (const uint64_t length : {9 * kMiB + 1, uint64_t{1} << 40, ~uint64_t{0}}) {
      client.send_request(kRawRead, 1, 0, length);
      CHECK(client.receive_reply().error == 22);
    }
    client.send_request(kRawCache, 2, 0, 9 * kMiB);
    CHECK(client.receive_reply().error == 0);
    client.send(std::string("\x25\x60\x95\x13", 4) + std::string(28, '\0'));  // the compact magic
    CHECK(client.at_end());
  }
}

TEST_CASE("nbd limits: warming takes what it may, and holds up no read") {
  TestStore store(uint64_t{8} * kMiB);
  auto gated = std::make_shared<GatedObject>(store.object());
  NbdSessionOptions options = TestSession::default_options();
  options.limits.warm_bytes = 2 * kMiB + 1;
  TestSession session(gated, options);
  RawClient& client = session.client();
  client.open("disk", Style::kStructured);
  client.send_request(kRawCache, 1, 0, 8 * kMiB);
  gated->wait_for(3);
  client.send_request(kRawRead, 2, 4 * kMiB, 2 * kMiB);
  gated->wait_for(5);
  CHECK(gated->waiting() == 5);
  gated->release(3);
  gated->release(3);
  for (int i = 0; i < 2; ++i) CHECK(client.receive_reply().cookie == 2);
  while (gated->waiting() > 0) gated->release();
  const RawClient::Reply reply = client.receive_reply();
  CHECK(reply.cookie == 1);
  CHECK(reply.error == 0);
}

TEST_CASE("nbd limits: a connection has a share of what may be pinned") {
  TestStore store(uint64_t{8} * kMiB);
  auto gated = std::make_shared<GatedObject>(store.object());
  NbdSessionOptions options = TestSession::default_options();
  options.limits.share_bytes = 2 * kMiB;
  TestSession session(gated, options);
  RawClient& client = session.client();
  client.open("disk", Style::kStructured);
  for (uint64_t i = 0; i < 8; ++i) client.send_request(kRawRead, i, i * kMiB, kMiB);
  for (uint64_t i = 0; i < 8; ++i) {
    gated->wait_for(1);
    CHECK(gated->waiting() <= 2);
    gated->release();
    const RawClient::Reply reply = client.receive_reply();
    CHECK(reply.data == pattern(reply.cookie * kMiB, kMiB));
  }
}

}  // namespace
}  // namespace blobcache::blockdev
