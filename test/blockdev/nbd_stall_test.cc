#include <doctest/doctest.h>

#include <string>

#include "test/blockdev/test_export.h"
#include "test/eventually.h"

namespace blobcache::blockdev {
namespace {

constexpr uint64_t kStalledSize = 32 * kMiB;

/// Waits until the store has no frame pinned.
void wait_until_unpinned(page::PageStore& store) {
  REQUIRE(test::eventually([&] { return store.stats().memory_pinned_frames == 0; }));
}

TEST_CASE(
    "nbd stall: a client that does not read has its replies copied out, then reads them all") {
  TestStore store(kStalledSize);
  store.warm();
  NbdSessionOptions options = TestSession::default_options();
  options.stall_copy = absl::Milliseconds(5);
  TestSession session(store.object(), options);
  RawClient& client = session.client();
  client.open("disk", true);
  for (uint64_t i = 0; i < 16; ++i) client.send_request(0, i, i * kMiB + 3, kMiB);
  REQUIRE(test::eventually([&] { return session.counters().requests >= 16; }));
  wait_until_unpinned(store.store());
  for (uint64_t i = 0; i < 16; ++i) {
    const RawClient::Reply reply = client.receive_reply();
    CHECK(reply.cookie == i);
    CHECK(reply.data == pattern(i * kMiB + 3, kMiB));
  }
}

TEST_CASE("nbd stall: a client that never reads is cut, and another is not disturbed") {
  TestStore store(kStalledSize);
  store.warm();
  TestSession healthy(store.object());
  healthy.client().open("disk", true);
  NbdSessionOptions options = TestSession::default_options();
  options.stall_copy = absl::Milliseconds(5);
  options.stall_cut = absl::Milliseconds(50);
  TestSession stalled(store.object(), options);
  stalled.client().open("disk", true);
  for (uint64_t i = 0; i < 64; ++i) stalled.client().send_request(0, i, 0, kMiB);
  stalled.join();  // the session ends of itself
  CHECK(store.store().stats().memory_pinned_frames == 0);
  healthy.client().send_request(0, 1, 0, 4096);
  CHECK(healthy.client().receive_reply().data == pattern(0, 4096));
}

TEST_CASE("nbd stall: copies for clients that do not read have a bound") {
  TestStore store(kStalledSize);
  store.warm();
  NbdSessionOptions options = TestSession::default_options();
  options.stall_copy = absl::Milliseconds(5);
  TestSession session(store.object(), options, kMiB);
  session.client().open("disk", true);
  for (uint64_t i = 0; i < 16; ++i) session.client().send_request(0, i, i * kMiB, kMiB);
  session.join();  // long before stall_cut
  CHECK(session.counters().errors == 1);
  CHECK(store.store().stats().memory_pinned_frames == 0);
}

TEST_CASE("nbd stall: a client that reads again and again gives its copies back") {
  TestStore store(kStalledSize);
  store.warm();
  NbdSessionOptions options = TestSession::default_options();
  options.stall_copy = absl::Milliseconds(5);
  TestSession session(store.object(), options, 6 * kMiB);
  RawClient& client = session.client();
  client.open("disk", true);
  for (uint64_t round = 0; round < 4; ++round) {
    for (uint64_t i = 0; i < 4; ++i) client.send_request(0, i, i * kMiB, kMiB);
    REQUIRE(test::eventually([&] { return session.counters().requests >= 4 * (round + 1); }));
    wait_until_unpinned(store.store());
    for (uint64_t i = 0; i < 4; ++i) CHECK(client.receive_reply().data == pattern(i * kMiB, kMiB));
    // Idle: all is sent, and the session has seen it.
    client.send_request(0, 9, 0, 4096);
    CHECK(client.receive_reply().cookie == 9);
  }
}

TEST_CASE("nbd stall: a handshake that does not get on is cut") {
  TestStore store(kMiB);
  NbdSessionOptions options = TestSession::default_options();
  options.handshake_timeout = absl::Milliseconds(20);
  TestSession session(store.object(), options);
  session.client().greet();
  session.client().send("IHAVEOPT");
  CHECK(session.client().at_end());
  session.join();
}

TEST_CASE("nbd stall: replies held behind a slow simple read are copied out too") {
  TestStore store(kStalledSize);
  store.warm();
  auto gated = std::make_shared<GatedObject>(store.object());
  gated->open_below(kMiB);
  NbdSessionOptions options = TestSession::default_options();
  options.stall_copy = absl::Milliseconds(5);
  TestSession session(gated, options);
  RawClient& client = session.client();
  client.open("disk", false);
  client.send_request(0, 1, 0, 2 * kMiB);
  gated->wait_for(1);
  client.send_request(0, 2, 4096, 4096);
  CHECK(client.receive(16 + kMiB).size() == 16 + kMiB);
  REQUIRE(test::eventually([&] { return session.counters().requests >= 2; }));
  wait_until_unpinned(store.store());
  gated->release();
  CHECK(client.receive(kMiB) == pattern(kMiB, kMiB));
  CHECK(client.receive_reply(4096).data == pattern(4096, 4096));
}

}  // namespace
}  // namespace blobcache::blockdev
