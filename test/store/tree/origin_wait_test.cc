#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "store/tree/impl/call_threads.h"
#include "store/tree/namespace.h"
#include "store/tree/volumes.h"
#include "test/store/tree/fake_origin.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

/// A tree with an origin that does not answer, and one that does.
struct HeldFixture : TreeFixture {
  HeldFixture() {
    origins = {slow, quick};
    reopen();
    slow->put("x", "slow");
    quick->put("x", "quick");
    put("content", "files/x");
  }
  ~HeldFixture() {
    slow->release();
    close();
  }

  std::shared_ptr<FakeOrigin> slow = std::make_shared<FakeOrigin>("slow");
  std::shared_ptr<FakeOrigin> quick = std::make_shared<FakeOrigin>("quick");
};

TEST_CASE_FIXTURE(HeldFixture, "origins: who waits for one is in nobody's way") {
  const NodeId top = names().resolve("origins/slow").value().id;
  const NodeId node = names().resolve("origins/slow/x").value().id;
  slow->hold();
  std::vector<std::thread> waiting;
  waiting.emplace_back([&] { CHECK(names().resolve("origins/slow/x").ok()); });
  waiting.emplace_back([&] { CHECK(names().lookup(top, "x").ok()); });
  waiting.emplace_back([&] { CHECK(names().list(top, 0, 10).ok()); });
  waiting.emplace_back([&] { CHECK(names().open(node).ok()); });
  slow->wait_held(4);

  CHECK(read("origins/quick/x") == "quick");
  CHECK(list("origins/quick").size() == 1);
  CHECK(read("files/x") == "content");
  CHECK(list("origins").size() == 2);
  CHECK(names().stat(top).ok());
  CHECK(names().remove("files/x").ok());
  put("more", "files/y");
  CHECK(names().volumes().create("v", 8192, "", Creator{}).ok());

  slow->release();
  for (std::thread& each : waiting) each.join();
}

TEST_CASE_FIXTURE(HeldFixture, "origins: calls that may wait run on threads of the origin") {
  const NodeId held = names().resolve("origins/slow/x").value().id;
  const NodeId other = names().resolve("origins/quick/x").value().id;
  const NodeId file = names().resolve("files/x").value().id;
  CHECK(names().waits(held));
  CHECK(names().waits(names().resolve("origins/slow").value().id));
  CHECK(!names().waits(file));
  CHECK(!names().waits(names().resolve("origins").value().id));

  std::thread::id ran;
  CHECK(names().run(file, [&] { ran = std::this_thread::get_id(); }));
  CHECK(ran == std::this_thread::get_id());
  CHECK(names().run("files/x", [&] { ran = std::this_thread::get_id(); }));
  CHECK(names().run("origins/nobody/x", [&] { ran = std::this_thread::get_id(); }));
  CHECK(names().run("no//path", [&] { ran = std::this_thread::get_id(); }));
  CHECK(ran == std::this_thread::get_id());

  slow->hold();
  absl::Notification opened, resolved;
  CHECK(names().run(held, [&] {
    CHECK(names().open(held).ok());
    opened.Notify();
  }));
  CHECK(names().run("origins/slow/x", [&] {
    CHECK(names().resolve("origins/slow/x").ok());
    resolved.Notify();
  }));
  slow->wait_held(2);
  absl::Notification answered;
  CHECK(names().run(other, [&] {
    CHECK(names().open(other).ok());
    answered.Notify();
  }));
  answered.WaitForNotification();
  slow->release();
  opened.WaitForNotification();
  resolved.WaitForNotification();
}

TEST_CASE_FIXTURE(HeldFixture, "origins: when the daemon ends, who waits is told so") {
  slow->hold();
  absl::Status status;
  std::thread waits([&] { status = names().resolve("origins/slow/x").status(); });
  slow->wait_held(1);
  slow->stop();
  waits.join();
  CHECK(absl::IsCancelled(status));
}

TEST_CASE("call threads: what is too much is refused, the rest is run to the end") {
  std::atomic<size_t> ran{0};
  size_t accepted = 0;
  absl::Notification go_on;
  {
    CallThreads threads;
    const auto call = [&] {
      go_on.WaitForNotification();
      ++ran;
    };
    while (threads.run(call)) {
      ++accepted;
      REQUIRE(accepted <= CallThreads::kThreads + CallThreads::kMostWaiting);
    }
    go_on.Notify();
  }
  CHECK(accepted >= CallThreads::kMostWaiting);
  CHECK(ran == accepted);
}

}  // namespace
}  // namespace blobcache::tree
