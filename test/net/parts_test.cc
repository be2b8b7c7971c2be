// The parts that need neither gRPC nor a store.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <fstream>
#include <latch>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "net/impl/connection.h"
#include "net/impl/credentials.h"
#include "net/impl/grpc_status.h"
#include "net/impl/handed_sockets.h"
#include "net/impl/peer.h"
#include "net/impl/pin_ledger.h"
#include "net/impl/put_slots.h"
#include "net/impl/worker_pool.h"
#include "test/net/fixture.h"

namespace blobcache::net {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;

TEST_CASE("a pool runs everything, and several things at once") {
  std::atomic<int> done = 0;
  {
    std::latch together(4);  // outlives those who wait at it
    WorkerPool pool(4, "test");
    for (int i = 0; i < 4; ++i) {
      pool.run([&] {
        together.arrive_and_wait();  // ends only if all four are running
        ++done;
      });
    }
    for (int i = 0; i < 100; ++i) pool.run([&] { ++done; });
  }
  CHECK(done == 104);
}

struct SocketPair {
  SocketPair() {
    std::array<int, 2> ends = {-1, -1};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0);
    ours = base::UniqueFd(ends[0]);
    theirs = base::UniqueFd(ends[1]);
  }
  [[nodiscard]] bool ended() const {
    char byte = 0;
    return ::recv(theirs.get(), &byte, 1, MSG_DONTWAIT) == 0;
  }
  base::UniqueFd ours;
  base::UniqueFd theirs;
};

TEST_CASE(
    "sockets that were handed over are shut down, and those that took their numbers are not") {
  HandedSockets sockets;
  const SocketPair open;
  SocketPair closed;
  sockets.note(open.ours.get());
  sockets.note(closed.ours.get());
  const SocketPair later;
  // Another socket under the number of one that is closed.
  REQUIRE(::dup2(later.ours.get(), closed.ours.get()) == closed.ours.get());
  CHECK(sockets.shut_down() == 1);
  CHECK(open.ended());
  CHECK_FALSE(later.ended());
  closed.ours.reset();
  CHECK(sockets.shut_down() == 1);
}

TEST_CASE("a write that nobody takes ends when its socket is shut down") {
  const SocketPair pair;
  HandedSockets sockets;
  sockets.note(pair.ours.get());
  std::thread writer([&] {
    const std::vector<char> much(1 << 20);
    while (::send(pair.ours.get(), much.data(), much.size(), MSG_NOSIGNAL) > 0) {
    }
  });
  CHECK(sockets.shut_down() == 1);
  writer.join();
}

TEST_CASE("a pool keeps to its bound") {
  std::atomic<int> now = 0;
  std::atomic<int> most = 0;
  {
    WorkerPool pool(3, "test");
    for (int i = 0; i < 200; ++i) {
      pool.run([&] {
        const int mine = ++now;
        int seen = most;
        while (seen < mine && !most.compare_exchange_weak(seen, mine)) {
        }
        --now;
      });
    }
  }
  CHECK(most <= 3);
  CHECK(most >= 1);
}

struct Waiter final : PutSlots::Waiter {
  void on_slot(bool granted) override { answers.push_back(granted); }
  std::vector<bool> answers;
};

TEST_CASE("put slots are given in order, and not for ever waited for") {
  PutSlots slots(1);
  const absl::Time start = absl::UnixEpoch();
  Waiter a;
  Waiter b;
  Waiter c;
  Waiter d;
  CHECK(slots.acquire(a, start));
  CHECK_FALSE(slots.acquire(b, start));
  CHECK_FALSE(slots.acquire(c, start + absl::Seconds(1)));
  CHECK_FALSE(slots.acquire(d, start + absl::Seconds(20)));
  CHECK(slots.withdraw(c));
  CHECK_FALSE(slots.withdraw(c));

  slots.expire(start + PutSlots::kMaxWait - absl::Seconds(1));
  CHECK(b.answers.empty());
  slots.expire(start + PutSlots::kMaxWait);
  CHECK(b.answers == std::vector<bool>{false});
  slots.release();
  CHECK(d.answers == std::vector<bool>{true});
  CHECK_FALSE(slots.withdraw(d));
  CHECK(c.answers.empty());
  slots.release();
  CHECK(slots.acquire(a, start));
}

TEST_CASE("pins: a bound a call and one in all, and what stalls is cut") {
  PinLedger ledger(6 * kMib);
  int cuts = 0;
  const auto slow = std::make_shared<CutHandle>([&] { ++cuts; });
  const auto fast = std::make_shared<CutHandle>([] {});
  const absl::Time start = absl::UnixEpoch();
  std::vector<std::unique_ptr<PinLedger::Hold>> holds;
  for (int i = 0; i < 4; ++i) {
    holds.push_back(ledger.try_hold(slow, kMib, start));
    CHECK(holds.back() != nullptr);
  }
  CHECK(ledger.try_hold(slow, 1, start) == nullptr);  // its own bound
  auto first = ledger.try_hold(fast, 2 * kMib, start);
  CHECK(first != nullptr);
  CHECK(ledger.try_hold(fast, 1, start + PinLedger::kStuck) == nullptr);  // the bound in all
  CHECK(cuts == 0);
  CHECK(ledger.try_hold(fast, 1, start + PinLedger::kStuck + absl::Seconds(1)) == nullptr);
  CHECK(cuts == 1);
  slow->ended();
  CHECK(ledger.try_hold(fast, 1, start + 2 * PinLedger::kStuck) == nullptr);
  CHECK(cuts == 1);

  CHECK_FALSE(ledger.wait_until_empty(absl::ZeroDuration()));
  holds.clear();
  CHECK(ledger.held_bytes() == 2 * kMib);
  first.reset();
  CHECK(ledger.wait_until_empty(absl::ZeroDuration()));
}

TEST_CASE("statuses cross over") {
  const absl::Status status = absl::DataLossError("bad");
  CHECK(from_grpc(to_grpc(status)) == status);
  CHECK(from_grpc(to_grpc(absl::OkStatus())).ok());
  const std::string error(100'000, 'x');
  CHECK(to_grpc(absl::NotFoundError(error)).error_message().size() < 1100);
}

TEST_CASE("the peer of a unix socket is known") {
  int pair[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  const Peer peer = value_of(read_peer(pair[0]));
  close(pair[0]);
  close(pair[1]);
  CHECK(peer.uid == geteuid());
  CHECK(peer.gid == getegid());
  std::vector<gid_t> groups(static_cast<size_t>(getgroups(0, nullptr)));
  CHECK(getgroups(static_cast<int>(groups.size()), groups.data()) >= 0);
  CHECK(peer.groups == groups);
  const int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
  CHECK_FALSE(read_peer(file).ok());
  close(file);
}

TEST_CASE("who may administer") {
  CHECK(may_administer({0, 0, {}}, 1000, std::nullopt));
  CHECK(may_administer({1000, 5, {}}, 1000, std::nullopt));
  CHECK_FALSE(may_administer({1001, 1000, {0}}, 1000, std::nullopt));
  CHECK(may_administer({1001, 44, {}}, 1000, gid_t{44}));
  CHECK(may_administer({1001, 9, {7, 44}}, 1000, gid_t{44}));
  CHECK_FALSE(may_administer({1001, 9, {7, 45}}, 1000, gid_t{44}));
  CHECK(is_owner({0, 0, {}}, 1000));
  CHECK(is_owner({1000, 5, {}}, 1000));
  CHECK_FALSE(is_owner({1001, 0, {0}}, 1000));
}

TEST_CASE("token files") {
  const TempDir dir;
  const std::string path = (dir.path() / "token").string();
  const auto write_file = [&](const std::string& text) {
    std::ofstream(path, std::ios::trunc) << text;
    REQUIRE(chmod(path.c_str(), 0600) == 0);
  };
  const auto fails_with = [&](const char* why) {
    const absl::Status status = read_token(path).status();
    CAPTURE(status.ToString());
    CHECK(base::message(status).find(path) != std::string_view::npos);
    CHECK(base::message(status).find(why) != std::string_view::npos);
  };
  fails_with("No such file");
  write_file("s3cret-token\n");
  CHECK(value_of(read_token(path)) == "s3cret-token");
  write_file(" \n");
  fails_with("is empty");
  write_file("two words");
  fails_with("one word");
  write_file(std::string(5000, 'x'));
  fails_with("over 4096 bytes");
}

TEST_CASE("secrets are compared whole") {
  CHECK(same_secret("abc", "abc"));
  CHECK_FALSE(same_secret("abc", "abd"));
  CHECK_FALSE(same_secret("abc", "ab"));
  CHECK_FALSE(same_secret("abc", "abcd"));
  CHECK_FALSE(same_secret("abc", ""));
}

TEST_CASE("why a TLS handshake failed, without the library's own names") {
  const std::string prefix =
      "failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:5: ";
  CHECK(handshake_reason(prefix + "Ssl handshake failed: SSL_ERROR_SSL: error:0A000086:SSL "
                                  "routines::certificate verify failed",
                         false) == "certificate verify failed");
  CHECK(handshake_reason(prefix + "Peer name x is not in peer certificate", true) ==
        "Peer name x is not in peer certificate");
  CHECK(handshake_reason(prefix + "Socket closed", false) ==
        "the server hung up; it may want a client certificate");
  CHECK(handshake_reason("Connection reset by peer", true) ==
        "the server hung up; it may not accept our certificate");
  CHECK(handshake_reason("", false) == "no reason was given");
}

}  // namespace
}  // namespace blobcache::net
