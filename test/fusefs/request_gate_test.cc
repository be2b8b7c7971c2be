#include "fusefs/impl/request_gate.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/unique_fd.h"
#include "fusefs/impl/threads.h"
#include "test/eventually.h"

namespace blobcache::fusefs {
namespace {

/// A device that is a pipe, with workers that read single bytes and count them.
class Workers {
 public:
  explicit Workers(RequestGate& gate, int threads) : gate_(gate) {
    std::array<int, 2> ends = {-1, -1};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    device_ = base::UniqueFd(ends[0]);
    kernel_ = base::UniqueFd(ends[1]);
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Workers() {
    gate_.close();
    gate_.dismiss();
    works_on_ = false;
    for (std::thread& thread : threads_) thread.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  void send(int requests) {
    const std::string bytes(static_cast<size_t>(requests), 'r');
    REQUIRE(::write(kernel_.get(), bytes.data(), bytes.size()) == requests);
  }
  void hold() { works_on_ = true; }
  void let_go() { works_on_ = false; }
  [[nodiscard]] int taken() const { return taken_; }
  [[nodiscard]] int done() const { return done_; }

 private:
  void work() {
    prepare_thread("test");
    signal_.admit();
    char byte = 0;
    while (gate_.read(device_.get(), &byte, 1) > 0) {
      ++taken_;
      while (works_on_) absl::SleepFor(absl::Milliseconds(1));
      ++done_;
    }
    CHECK(errno == EINTR);
  }

  RequestGate& gate_;
  const WakeSignal signal_;
  base::UniqueFd device_;
  base::UniqueFd kernel_;
  std::atomic<bool> works_on_{false};
  std::atomic<int> taken_{0};
  std::atomic<int> done_{0};
  std::vector<std::thread> threads_;
};

TEST_CASE("fusefs request gate: while it is closed nothing is taken, and nothing is lost") {
  RequestGate gate;
  Workers workers(gate, 4);
  int sent = 0;
  for (int round = 0; round < 50; ++round) {
    workers.send(20);
    sent += 20;
    gate.close();
    CHECK(gate.wait_until_idle(absl::InfiniteFuture()));
    const int taken = workers.taken();
    CHECK(workers.done() == taken);
    workers.send(3);
    sent += 3;
    CHECK(workers.taken() == taken);
    gate.open();
    CHECK(test::eventually([&] { return workers.done() == sent; }));
  }
}

TEST_CASE("fusefs request gate: a request that is worked on is waited for, until the deadline") {
  RequestGate gate;
  Workers workers(gate, 2);
  workers.hold();
  workers.send(1);
  CHECK(test::eventually([&] { return workers.taken() == 1; }));
  gate.close();
  CHECK_FALSE(gate.wait_until_idle(absl::Now() + absl::Milliseconds(20)));
  workers.let_go();
  CHECK(gate.wait_until_idle(absl::InfiniteFuture()));
  CHECK(workers.done() == 1);
}

}  // namespace
}  // namespace blobcache::fusefs
