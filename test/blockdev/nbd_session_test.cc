#include "blockdev/impl/nbd_session.h"

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "test/blockdev/test_export.h"

namespace blobcache::blockdev {
namespace {

constexpr uint64_t kUnevenSize = 9 * kMiB + 1234;

TEST_CASE("nbd session: simple reads, aligned or not, up to the last byte") {
  TestStore store(kUnevenSize);
  TestSession session(store.object());
  RawClient& client = session.client();
  CHECK(client.open("disk", false) == kUnevenSize);
  const std::pair<uint64_t, uint32_t> ranges[] = {
      {0, 4096},           {1, 1}, {4095, 2}, {262143, 4099}, {kUnevenSize - 1, 1}, {123, kMiB},
      {kUnevenSize - 7, 7}};
  for (const bool warm : {false, true}) {
    if (warm) store.warm();
    for (const auto& [offset, length] : ranges) {
      client.send_request(kRawRead, offset + 77, offset, length);
      const RawClient::Reply reply = client.receive_reply(length);
      CHECK_FALSE(reply.structured);
      CHECK(reply.error == 0);
      CHECK(reply.cookie == offset + 77);
      CHECK(reply.data == pattern(offset, length));
    }
  }
}

TEST_CASE("nbd session: structured reads are single final chunks up to 1 MiB") {
  TestStore store(kUnevenSize);
  store.warm();
  TestSession session(store.object());
  RawClient& client = session.client();
  client.open("", true);
  for (const uint16_t flags : {uint16_t{0}, uint16_t{4}}) {
    client.send_request(kRawRead, 5, 999, kMiB, flags);
    const RawClient::Reply reply = client.receive_reply();
    CHECK(reply.structured);
    CHECK(reply.done());
    CHECK(reply.type == 1);
    CHECK(reply.cookie == 5);
    CHECK(reply.offset == 999);
    CHECK(reply.data == pattern(999, kMiB));
  }
}

TEST_CASE("nbd session: a long structured read comes in chunks that cover it once") {
  TestStore store(kUnevenSize);
  for (const bool warm : {false, true}) {
    if (warm) store.warm();
    TestSession session(store.object());
    RawClient& client = session.client();
    client.open("disk", true);
    client.send_request(kRawRead, 5, 1000, 7 * kMiB);
    std::map<uint64_t, std::string> chunks;
    RawClient::Reply reply;
    do {
      reply = client.receive_reply();
      REQUIRE(reply.type == 1);
      CHECK(reply.cookie == 5);
      chunks[reply.offset] = reply.data;
    } while (!reply.done());
    std::string all;
    for (const auto& [offset, data] : chunks) {
      REQUIRE(offset == 1000 + all.size());
      all += data;
    }
    CHECK(all == pattern(1000, 7 * kMiB));
  }
}

TEST_CASE("nbd session: a long simple read is one reply, and others wait for its end") {
  TestStore store(kUnevenSize);
  store.warm();
  auto gated = std::make_shared<GatedObject>(store.object());
  TestSession session(gated);
  RawClient& client = session.client();
  client.open("disk", false);
  gated->open_below(kMiB);
  client.send_request(kRawRead, 1, 0, 3 * kMiB);
  gated->wait_for(2);                           // the first MiB was there
  client.send_request(kRawRead, 2, 4096, 100);  // a hit that could go at once
  client.send_request(kRawRead, 3, 8 * kMiB, 50);
  gated->wait_for(3);
  gated->release(2);
  gated->release(1);
  gated->release(0);
  RawClient::Reply reply = client.receive_reply(3 * kMiB);
  CHECK(reply.cookie == 1);
  CHECK(reply.data == pattern(0, 3 * kMiB));
  std::map<uint64_t, std::string> others;
  for (int i = 0; i < 2; ++i) {
    const uint64_t expected = others.empty() ? 100 : 50;
    reply = client.receive_reply(expected);
    others[reply.cookie] = reply.data;
  }
  CHECK(others[2] == pattern(4096, 100));
  CHECK(others[3] == pattern(8 * kMiB, 50));
}

TEST_CASE("nbd session: misses are answered in the order in which they come") {
  TestStore store(kUnevenSize);
  auto gated = std::make_shared<GatedObject>(store.object());
  TestSession session(gated);
  RawClient& client = session.client();
  client.open("disk", true);
  for (uint64_t i = 0; i < 8; ++i) client.send_request(kRawRead, i, i * kMiB, 4096);
  gated->wait_for(8);
  for (size_t i = 8; i-- > 0;) {
    gated->release(i);
    const RawClient::Reply reply = client.receive_reply();
    CHECK(reply.cookie == i);
    CHECK(reply.data == pattern(i * kMiB, 4096));
  }
}

TEST_CASE("nbd session: a hit overtakes a miss") {
  TestStore store(kUnevenSize);
  store.warm();
  auto gated = std::make_shared<GatedObject>(store.object());
  gated->open_below(kMiB);
  TestSession session(gated);
  RawClient& client = session.client();
  client.open("disk", true);
  client.send_request(kRawRead, 1, 2 * kMiB, 4096);
  client.send_request(kRawRead, 2, 0, 4096);
  CHECK(client.receive_reply().cookie == 2);
  gated->wait_for(1);
  gated->release();
  CHECK(client.receive_reply().cookie == 1);
}

TEST_CASE("nbd session: no more requests are in flight than allowed") {
  TestStore store(kUnevenSize);
  auto gated = std::make_shared<GatedObject>(store.object());
  NbdSessionOptions options = TestSession::default_options();
  options.limits.max_requests = 4;
  TestSession session(gated, options);
  RawClient& client = session.client();
  client.open("disk", true);
  for (uint64_t i = 0; i < 32; ++i) client.send_request(kRawRead, i, i * 4096, 4096);
  for (uint64_t i = 0; i < 32; ++i) {
    gated->wait_for(1);
    CHECK(gated->waiting() <= 4);
    gated->release();
    const RawClient::Reply reply = client.receive_reply();
    CHECK(reply.data == pattern(reply.cookie * 4096, 4096));
  }
}

TEST_CASE("nbd session: errors of the store are replies, and the connection goes on") {
  TestStore store(kUnevenSize);
  auto gated = std::make_shared<GatedObject>(store.object());
  SUBCASE("structured, small") {
    TestSession session(gated);
    session.client().open("disk", true);
    session.client().send_request(kRawRead, 9, 8192, 4096);
    gated->wait_for(1);
    gated->fail(absl::DataLossError("damaged"));
    const RawClient::Reply reply = session.client().receive_reply();
    CHECK(reply.type == 0x8002);
    CHECK(reply.error == 5);
    CHECK(reply.offset == 8192);
    CHECK(reply.done());
    gated->open_below(kUnevenSize);
    store.warm();
    session.client().send_request(kRawRead, 10, 8192, 10);
    CHECK(session.client().receive_reply().data == pattern(8192, 10));
  }
  SUBCASE("structured, with the place where it is") {
    TestSession session(gated);
    session.client().open("disk", true);
    const std::vector<std::pair<uint64_t, uint64_t>> places = {
        {20480, 20480}, {73727, 73727}, {73728, 8192}, {4096, 8192}};
    for (const auto& [place, told] : places) {
      session.client().send_request(kRawRead, 9, 8192, 65536);
      gated->wait_for(1);
      gated->fail(base::at_offset(absl::DataLossError("damaged"), place));
      const RawClient::Reply reply = session.client().receive_reply();
      CHECK(reply.type == 0x8002);
      CHECK(reply.offset == told);
    }
  }
  SUBCASE("structured, in the middle of a long read") {
    TestSession session(gated);
    session.client().open("disk", true);
    session.client().send_request(kRawRead, 9, 0, 6 * kMiB);
    gated->wait_for(4);
    gated->release(0);
    CHECK(session.client().receive_reply().data == pattern(0, kMiB));
    gated->wait_for(4);
    gated->fail(absl::UnavailableError("origin"), 0);
    const RawClient::Reply reply = session.client().receive_reply();
    CHECK(reply.error == 5);
    CHECK(reply.offset == kMiB);
    CHECK(reply.done());
    while (gated->waiting() > 0) gated->release();
    session.client().send_request(kRawRead, 10, 0, 10);
    gated->wait_for(1);
    gated->release();
    CHECK(session.client().receive_reply().data == pattern(0, 10));
  }
  SUBCASE("simple, before anything was sent") {
    TestSession session(gated);
    session.client().open("disk", false);
    session.client().send_request(kRawRead, 9, 0, 2 * kMiB);
    gated->wait_for(2);
    gated->fail(absl::UnavailableError("origin"), 0);
    CHECK(session.client().receive_reply().error == 5);
    gated->release();
    session.client().send_request(kRawFlush, 11, 0, 0);
    CHECK(session.client().receive_reply().error == 0);
  }
  SUBCASE("simple, half sent: only the end of the connection can tell") {
    TestSession session(gated);
    session.client().open("disk", false);
    session.client().send_request(kRawRead, 9, 0, 2 * kMiB);
    gated->wait_for(2);
    gated->release(0);
    CHECK(session.client().receive(16 + kMiB).substr(16) == pattern(0, kMiB));
    gated->fail(absl::UnavailableError("origin"), 0);
    CHECK(session.client().at_end());
  }
}

TEST_CASE("nbd session: CACHE warms and answers without data, FLUSH succeeds") {
  TestStore store(kUnevenSize);
  TestSession session(store.object());
  RawClient& client = session.client();
  client.open("disk", true);
  client.send_request(kRawCache, 3, 4096, 3 * kMiB);
  RawClient::Reply reply = client.receive_reply();
  CHECK(reply.cookie == 3);
  CHECK(reply.error == 0);
  CHECK(reply.type == 0);
  CHECK(reply.done());
  page::PinnedRange range;
  CHECK(store.object()->try_read(4096, kMiB, range));
  client.send_request(kRawFlush, 4, 0, 0);
  reply = client.receive_reply();
  CHECK(reply.cookie == 4);
  CHECK(reply.error == 0);
}

TEST_CASE("nbd session: DISC and a half-close answer what is in flight first") {
  TestStore store(kUnevenSize);
  for (const bool disc : {true, false}) {
    auto gated = std::make_shared<GatedObject>(store.object());
    TestSession session(gated);
    RawClient& client = session.client();
    client.open("disk", true);
    client.send_request(kRawRead, 1, 0, 4096);
    client.send_request(kRawRead, 2, kMiB, 3 * kMiB);
    if (disc) {
      client.send_request(kRawDisc, 3, 0, 0);
      client.send("what comes after the end is not read");
    } else {
      client.shut_down_sending();
    }
    gated->wait_for(4);
    while (gated->waiting() > 0) gated->release();
    size_t bytes = 0;
    for (int done = 0; done < 2;) {
      const RawClient::Reply reply = client.receive_reply();
      CHECK(reply.data == pattern(reply.offset, reply.data.size()));
      bytes += reply.data.size();
      if (reply.done()) ++done;
    }
    CHECK(bytes == 4096 + 3 * kMiB);
    CHECK(client.at_end());
    session.join();
  }
}

TEST_CASE("nbd session: a client that vanishes with reads in flight harms nothing") {
  TestStore store(kUnevenSize);
  auto gated = std::make_shared<GatedObject>(store.object());
  {
    TestSession session(gated);
    session.client().open("disk", true);
    for (uint64_t i = 0; i < 8; ++i) session.client().send_request(kRawRead, i, i * kMiB, 4096);
    gated->wait_for(8);
    session.close_client();
    // The session stays until the store has let go of every read.
    while (gated->waiting() > 0) gated->release();
    session.join();
  }
  CHECK(gated.use_count() == 1);
}

TEST_CASE("nbd session: stop() fails what is under way with ESHUTDOWN") {
  TestStore store(kUnevenSize);
  auto gated = std::make_shared<GatedObject>(store.object());
  TestSession session(gated);
  RawClient& client = session.client();
  client.open("disk", true);
  client.send_request(kRawRead, 1, 0, 4096);
  gated->wait_for(1);
  client.send_request(kRawRead, 2, 0, 3 * kMiB);
  gated->wait_for(4);
  session.stop();
  RawClient::Reply reply = client.receive_reply();
  CHECK(reply.cookie == 2);
  CHECK(reply.error == 108);
  gated->fail(absl::CancelledError("stopped"));
  reply = client.receive_reply();
  CHECK(reply.cookie == 1);
  CHECK(reply.error == 108);
  while (gated->waiting() > 0) gated->fail(absl::CancelledError("stopped"));
  CHECK(client.at_end());
  session.join();
}

TEST_CASE("nbd session: counters tell what was done") {
  TestStore store(kUnevenSize);
  store.warm();
  TestSession session(store.object());
  session.client().open("disk", true);
  session.client().send_request(kRawRead, 1, 0, 4096);
  session.client().send_request(kRawRead, 2, kUnevenSize, 4096);
  (void)session.client().receive_reply();
  (void)session.client().receive_reply();
  session.client().send_request(kRawDisc, 3, 0, 0);
  CHECK(session.client().at_end());
  session.join();
  CHECK(session.counters().requests == 3);
  CHECK(session.counters().errors == 1);
  CHECK(session.counters().bytes_out > 4096);
  CHECK(session.counters().bytes_in > 3 * 28);
}

}  // namespace
}  // namespace blobcache::blockdev
