#include "fusefs/impl/invalidator.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <atomic>
#include <limits>
#include <vector>

#include "absl/time/clock.h"

namespace blobcache::fusefs {
namespace {

/// Writes down what it is told, and can be made to wait in the middle of it.
class FakeCache final : public KernelCache {
 public:
  void forget_name(tree::NodeId parent, const std::string& name) override {
    told(fmt::format("{}/{}", parent, name));
  }
  void forget_content(tree::NodeId file, uint64_t offset, uint64_t length) override {
    told(fmt::format("{}[{}+{}]", file, offset, length));
  }
  void forget_all() override { told("all"); }

  void hold() {
    absl::MutexLock lock(&mutex_);
    held_ = true;
  }
  void let_go() {
    absl::MutexLock lock(&mutex_);
    held_ = false;
  }
  std::vector<std::string> wait_for(size_t count) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [this, count]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return told_.size() >= count; };
    mutex_.Await(absl::Condition(&enough));
    return told_;
  }

 private:
  void told(std::string what) {
    absl::MutexLock lock(&mutex_);
    told_.push_back(std::move(what));
    const auto free = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !held_; };
    mutex_.Await(absl::Condition(&free));
  }

  absl::Mutex mutex_;
  bool held_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::string> told_ ABSL_GUARDED_BY(mutex_);
};

TEST_CASE("fusefs invalidator: changes are told in their order") {
  FakeCache cache;
  Invalidator invalidator(cache);
  invalidator.on_name_changed(3, "early");  // before the thread runs: kept
  invalidator.start();
  invalidator.on_name_changed(3, "b");
  invalidator.on_name_changed(4, "a");
  CHECK(cache.wait_for(3) == std::vector<std::string>{"3/early", "3/b", "4/a"});
}

TEST_CASE("fusefs invalidator: a full queue makes the kernel forget every name, once") {
  FakeCache cache;
  cache.hold();
  Invalidator invalidator(cache, 2);
  invalidator.start();
  invalidator.on_name_changed(1, "under way");
  REQUIRE(cache.wait_for(1).size() == 1);
  for (int i = 0; i < 100; ++i) invalidator.on_name_changed(2, "many");  // never waits
  cache.let_go();
  CHECK(cache.wait_for(2) == std::vector<std::string>{"1/under way", "all"});
  invalidator.on_name_changed(5, "after");  // and it works as before
  CHECK(cache.wait_for(3).back() == "5/after");
  invalidator.stop();
  CHECK(cache.wait_for(0).size() == 3);
}

TEST_CASE("fusefs invalidator: stopping drops what is queued, twice is once") {
  FakeCache cache;
  cache.hold();
  Invalidator invalidator(cache);
  invalidator.start();
  invalidator.on_name_changed(1, "under way");
  REQUIRE(cache.wait_for(1).size() == 1);
  invalidator.on_name_changed(1, "queued");
  std::thread stopper([&] { invalidator.stop(); });
  cache.let_go();
  stopper.join();
  invalidator.stop();
  invalidator.on_name_changed(1, "late");
  CHECK(cache.wait_for(0).size() <= 2);
  CHECK(cache.wait_for(0).back() != "1/late");
}

TEST_CASE("fusefs invalidator: what is to be forgotten first is, and who waits for it goes on") {
  FakeCache cache;
  cache.hold();
  Invalidator invalidator(cache, 2);
  invalidator.start();
  invalidator.on_name_changed(1, "under way");
  REQUIRE(cache.wait_for(1).size() == 1);
  std::atomic<int> went_on{0};
  for (int i = 0; i < 100; ++i) invalidator.on_name_changed(2, "many");
  // No queue that is full takes these.
  for (int i = 0; i < 3; ++i) invalidator.forget_first({7, 10, 5}, [&] { ++went_on; });
  CHECK(went_on == 0);
  cache.let_go();
  CHECK(cache.wait_for(5) ==
        std::vector<std::string>{"1/under way", "7[10+5]", "7[10+5]", "7[10+5]", "all"});
  CHECK(went_on == 3);
  cache.hold();
  invalidator.on_name_changed(1, "under way");
  REQUIRE(cache.wait_for(6).size() == 6);
  invalidator.forget_first({7, 10, 5}, [&] { ++went_on; });
  std::thread stopper([&] { invalidator.stop(); });
  cache.let_go();
  stopper.join();
  CHECK(went_on == 4);  // told or not
  invalidator.forget_first({7, 10, 5}, [&] { ++went_on; });
  CHECK(went_on == 5);
}

TEST_CASE("fusefs invalidator: changes of one file's bytes that wait are told as one") {
  FakeCache cache;
  cache.hold();
  Invalidator invalidator(cache);
  invalidator.start();
  invalidator.on_content_changed(9, 0, 1);
  REQUIRE(cache.wait_for(1).size() == 1);
  invalidator.on_content_changed(7, 4096, 100);
  invalidator.on_content_changed(8, 5, 6);
  invalidator.on_content_changed(7, 100, 10);
  invalidator.on_content_changed(7, 9000, 10);
  cache.let_go();
  CHECK(cache.wait_for(3) == std::vector<std::string>{"9[0+1]", "7[100+8910]", "8[5+6]"});
  invalidator.on_content_changed(7, 1, std::numeric_limits<uint64_t>::max());
  CHECK(cache.wait_for(4).back() ==
        fmt::format("7[1+{}]", std::numeric_limits<uint64_t>::max() - 1));
}

TEST_CASE("fusefs invalidator: too many files' bytes make the kernel forget everything, once") {
  FakeCache cache;
  cache.hold();
  Invalidator invalidator(cache, 2);
  invalidator.start();
  invalidator.on_content_changed(1, 0, 1);
  REQUIRE(cache.wait_for(1).size() == 1);
  for (tree::NodeId node = 2; node < 10; ++node) invalidator.on_content_changed(node, 0, 1);
  cache.let_go();
  CHECK(cache.wait_for(2) == std::vector<std::string>{"1[0+1]", "all"});
  invalidator.on_content_changed(5, 0, 1);
  CHECK(cache.wait_for(3).back() == "5[0+1]");
}

TEST_CASE("fusefs invalidator: what the mount itself changes is not told to it") {
  FakeCache cache;
  Invalidator invalidator(cache);
  invalidator.start();
  {
    const OwnChanges::Marker own(invalidator.own());
    invalidator.on_name_changed(3, "mine");
    invalidator.on_content_changed(4, 0, 1);
  }
  invalidator.own().begin({5, 10, 20});
  invalidator.on_content_changed(5, 10, 20);
  invalidator.on_content_changed(5, 10, 20);  // another mount's
  invalidator.own().end({5, 10, 20});
  invalidator.on_name_changed(3, "another's");
  CHECK(cache.wait_for(2) == std::vector<std::string>{"5[10+20]", "3/another's"});
}

TEST_CASE("fusefs invalidator: while it is paused it tells nothing, and keeps what comes") {
  FakeCache cache;
  Invalidator invalidator(cache);
  invalidator.start();
  invalidator.on_name_changed(1, "before");
  CHECK(invalidator.pause(absl::InfiniteDuration(), absl::InfiniteFuture()));
  CHECK(cache.wait_for(1) == std::vector<std::string>{"1/before"});
  CHECK_FALSE(invalidator.has_news());
  invalidator.on_name_changed(1, "meanwhile");
  CHECK(invalidator.has_news());
  CHECK(cache.wait_for(0).size() == 1);
  invalidator.resume();
  CHECK(cache.wait_for(2).back() == "1/meanwhile");
  // What is being told may wait for the kernel, and so for us.
  cache.hold();
  invalidator.on_name_changed(1, "long");
  REQUIRE(cache.wait_for(3).size() == 3);
  CHECK_FALSE(invalidator.pause(absl::ZeroDuration(), absl::Now() + absl::Milliseconds(20)));
  cache.let_go();
  invalidator.resume();
  invalidator.forget_all();
  CHECK(cache.wait_for(4).back() == "all");
}

}  // namespace
}  // namespace blobcache::fusefs
