#include "net/impl/nbd_fences.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

namespace blobcache::net {

class NbdFences::Fence final : public NbdWatched {
 public:
  Fence(base::UniqueFd socket, std::vector<Range> held, bool alone)
      : socket_(std::move(socket)), held_(std::move(held)), alone_(alone) {
    // Nobody sends on it any more, so only this finds out that the machine is gone. A socket that
    // is none of TCP needs it not, and refuses.
    const int on = 1;
    const int idle_s = 30;
    const int between_s = 10;
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
    ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_KEEPINTVL, &between_s, sizeof between_s);
    ::shutdown(socket_.get(), SHUT_WR);
    notify(POLLIN);
  }

  [[nodiscard]] int fd() override { return socket_.get(); }
  [[nodiscard]] int16_t events() override { return POLLIN; }
  /// A few times at once: others wait for the thread, and there may be no end of it.
  void notify(int16_t /*revents*/) override {
    std::array<std::byte, size_t{64} << 10> thrown_away;
    for (int i = 0; i < 16 && socket_.valid(); ++i) {
      const ssize_t got =
          ::recv(socket_.get(), thrown_away.data(), thrown_away.size(), MSG_DONTWAIT);
      if (got > 0) continue;
      if (got < 0 && errno == EINTR) continue;
      if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      socket_.reset();
    }
  }

  [[nodiscard]] bool over() const { return !socket_.valid(); }
  [[nodiscard]] const std::vector<Range>& held() const { return held_; }
  [[nodiscard]] bool alone() const { return alone_; }

 private:
  base::UniqueFd socket_;
  const std::vector<Range> held_;
  const bool alone_;
};

NbdFences::NbdFences() = default;
NbdFences::~NbdFences() = default;

bool NbdFences::empty() const { return fences_.empty(); }
size_t NbdFences::size() const { return fences_.size(); }
void NbdFences::clear() { fences_.clear(); }

void NbdFences::add(base::UniqueFd socket, std::vector<Range> held, bool alone) {
  auto fence = std::make_unique<Fence>(std::move(socket), std::move(held), alone);
  if (!fence->over()) fences_.push_back(std::move(fence));
}

bool NbdFences::holds(Range range) const {
  return std::any_of(fences_.begin(), fences_.end(), [&](const auto& fence) {
    return std::any_of(fence->held().begin(), fence->held().end(), [&](const Range& held) {
      return held.begin < range.end && range.begin < held.end;
    });
  });
}

bool NbdFences::alone() const {
  return std::any_of(fences_.begin(), fences_.end(),
                     [](const auto& fence) { return fence->alone(); });
}

std::vector<NbdFences::Range> NbdFences::held() const {
  std::vector<Range> all;
  for (const auto& fence : fences_) {
    all.insert(all.end(), fence->held().begin(), fence->held().end());
  }
  return all;
}

void NbdFences::watch(std::vector<NbdWatched*>& watched) const {
  for (const auto& fence : fences_) {
    if (!fence->over()) watched.push_back(fence.get());
  }
}

uint64_t NbdFences::sweep() {
  over_ += std::erase_if(fences_, [](const auto& fence) { return fence->over(); });
  return over_;
}

}  // namespace blobcache::net
