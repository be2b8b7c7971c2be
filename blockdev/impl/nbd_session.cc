#include "blockdev/impl/nbd_session.h"

#include <linux/sockios.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/status.h"

namespace blobcache::blockdev {
namespace {

/// Holds every request that a connection may have in flight, and an option's data in few reads.
constexpr size_t kBufferBytes = size_t{64} << 10;
/// The kernel's limit on the pieces of one sendmsg (UIO_MAXIOV).
constexpr size_t kMaxPieces = 1024;
/// How long requests may gather while the client reads replies.
constexpr std::chrono::microseconds kGather{20};
/// Unread bytes (as the kernel counts its buffers) that keep a client busy for the time of a batch.
constexpr int kPlenty = 32 << 10;
/// How long stop() lets a client take its last replies.
constexpr std::chrono::milliseconds kStopGrace{500};

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK; }

int ms_until(std::chrono::steady_clock::time_point when,
             std::chrono::steady_clock::time_point now) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(when - now).count();
  return static_cast<int>(std::clamp<int64_t>(left, 0, 60'000));
}

}  // namespace

absl::StatusOr<std::unique_ptr<NbdSession>> NbdSession::create(base::UniqueFd socket,
                                                               std::string peer,
                                                               const NbdSessionOptions& options,
                                                               ExportDirectory& exports,
                                                               NbdShared& shared) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::shared_ptr<CompletionQueue> completions,
                             CompletionQueue::create());
  return std::unique_ptr<NbdSession>(new NbdSession(std::move(socket), std::move(peer), options,
                                                    exports, shared, std::move(completions)));
}

NbdSession::NbdSession(base::UniqueFd socket, std::string peer, const NbdSessionOptions& options,
                       ExportDirectory& exports, NbdShared& shared,
                       std::shared_ptr<CompletionQueue> completions)
    : socket_(std::move(socket)),
      peer_(std::move(peer)),
      options_(options),
      stall_copy_(absl::ToChronoNanoseconds(options.stall_copy)),
      stall_cut_(absl::ToChronoNanoseconds(options.stall_cut)),
      exports_(exports),
      counters_(shared.counters),
      log_(shared.log),
      copies_(shared.copies),
      busy_wait_(shared.spin_slots),
      completions_(std::move(completions)),
      buffer_(kBufferBytes) {}

void NbdSession::stop() {
  stopping_.store(true, std::memory_order_release);
  completions_->wake();
}

void NbdSession::run() {
  {
    Handshake handshake(exports_);
    if (shake_hands(handshake)) {
      spdlog::debug("nbd: {}: reads {}", peer_, handshake.chosen().name);
      Transmission transmission(std::move(handshake.chosen()), handshake.structured_replies(),
                                options_.max_requests, completions_);
      transmit(transmission);
    } else if (!handshake.violation().empty()) {
      complain(handshake.violation());
    }
  }
  give_copies_back();
  ::shutdown(socket_.get(),
             SHUT_RDWR);  // the fd itself stays ours until stop() cannot come any more
}

bool NbdSession::shake_hands(Handshake& handshake) {
  const Clock::time_point deadline =
      Clock::now() + absl::ToChronoNanoseconds(options_.handshake_timeout);
  std::string out;
  Handshake::greet(out);
  for (;;) {
    if (!send_text(out, deadline)) return false;
    nbd::Bytes bytes = input();
    const size_t before = bytes.size();
    const Handshake::State state = handshake.advance(bytes, out);
    keep(bytes);
    if (state != Handshake::State::kNegotiating) {
      return send_text(out, deadline) && state == Handshake::State::kTransmission;
    }
    if (bytes.size() < before || !out.empty()) continue;
    const Io got = receive();
    if (got == Io::kDead || input_ended_) return false;
    if (got == Io::kNothing && !wait_handshake(POLLIN, deadline)) return false;
  }
}

bool NbdSession::send_text(std::string& text, Clock::time_point deadline) {
  size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t n =
        ::send(socket_.get(), text.data() + sent, text.size() - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n >= 0) {
      sent += static_cast<size_t>(n);
    } else if (errno != EINTR && (!would_block(errno) || !wait_handshake(POLLOUT, deadline))) {
      return false;
    }
  }
  text.clear();
  return true;
}

/// Waits for the socket. False when it is too late, or the server stops, or the client is gone.
bool NbdSession::wait_handshake(short events, Clock::time_point deadline) {
  std::array<pollfd, 2> fds{{{socket_.get(), events, 0}, {completions_->wake_fd(), POLLIN, 0}}};
  const Clock::time_point now = Clock::now();
  if (now >= deadline) {
    complain("its handshake took too long");
    return false;
  }
  if (::poll(fds.data(), fds.size(), ms_until(deadline, now)) < 0 && errno != EINTR) return false;
  if (stopping_.load(std::memory_order_acquire)) return false;
  return (fds[0].revents & (POLLERR | POLLNVAL)) == 0;
}

void NbdSession::transmit(Transmission& transmission) {
  ReplyQueue& replies = transmission.replies();
  for (;;) {
    if (stopping_.load(std::memory_order_acquire) && !stop_begun_) begin_stop(transmission);
    transmission.collect();
    if (begin_ != end_) {
      nbd::Bytes bytes = input();
      transmission.consume(bytes);
      keep(bytes);
    }
    report(transmission);
    if (!transmission.violation().empty()) return;
    Io io = replies.empty() || blocked_ ? Io::kNothing : flush(replies);
    if (io == Io::kDead || transmission.finished()) return;
    if (io == Io::kProgress) continue;  // what was sent may have made room for more
    if (transmission.wants_input()) {
      if (sent_) let_requests_gather();
      io = receive();
    }
    if (io == Io::kNothing) io = watch(transmission);
    if (io == Io::kDead) return;
    if (input_ended_) transmission.end_of_input();
    if (io == Io::kNothing && !wait(transmission)) return;
  }
}

void NbdSession::begin_stop(Transmission& transmission) {
  stop_begun_ = true;
  stop_deadline_ = Clock::now() + kStopGrace;
  transmission.shut_down();
}

/// Waits, not for long, while the client has most of the last replies still to read. It is busy
/// with them, and what it asks for meanwhile is answered together.
void NbdSession::let_requests_gather() {
  sent_ = false;
  if (!busy_wait_.hot()) return;
  int unread = 0;
  if (::ioctl(socket_.get(), SIOCOUTQ, &unread) != 0) return;
  const int enough = std::max(unread / 2, kPlenty);
  const Clock::time_point until = Clock::now() + kGather;
  while (unread > enough && Clock::now() < until && !completions_->any()) {
    BusyWait::relax();
    if (::ioctl(socket_.get(), SIOCOUTQ, &unread) != 0) return;
  }
}

/// Looks for something to do for a moment before sleeping.
NbdSession::Io NbdSession::watch(Transmission& transmission) {
  if (blocked_ || !transmission.wants_input()) return Io::kNothing;
  Io io = Io::kNothing;
  const bool came = busy_wait_.spin([this, &io] {
    if (completions_->any() || stopping_.load(std::memory_order_relaxed)) return true;
    io = receive();
    return io != Io::kNothing;
  });
  return came && io == Io::kNothing ? Io::kProgress : io;
}

NbdSession::Io NbdSession::receive() {
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const ssize_t n =
      ::recv(socket_.get(), buffer_.data() + end_, buffer_.size() - end_, MSG_DONTWAIT);
  if (n > 0) {
    end_ += static_cast<size_t>(n);
    counters_.bytes_in.fetch_add(static_cast<uint64_t>(n), std::memory_order_relaxed);
    return Io::kProgress;
  }
  if (n == 0) {
    if (begin_ != end_) complain("it hung up in the middle of a message");
    input_ended_ = true;
    return Io::kProgress;
  }
  return would_block(errno) || errno == EINTR ? Io::kNothing : Io::kDead;
}

/// Sends what the socket takes. When that is not all, the socket is blocked until poll() says
/// otherwise.
NbdSession::Io NbdSession::flush(ReplyQueue& replies) {
  std::array<iovec, kMaxPieces> pieces;
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = replies.gather(absl::MakeSpan(pieces));
  size_t total = 0;
  for (size_t i = 0; i < message.msg_iovlen; ++i) total += pieces[i].iov_len;
  const ssize_t n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n < 0 && errno == EINTR) return Io::kProgress;
  if (n < 0 && !would_block(errno)) return Io::kDead;
  const size_t sent = n < 0 ? 0 : static_cast<size_t>(n);
  replies.sent(sent);
  sent_ = true;
  counters_.bytes_out.fetch_add(sent, std::memory_order_relaxed);
  if (sent < total) {
    blocked_ = true;
    progress_time_ = Clock::now();
    return Io::kNothing;
  }
  return Io::kProgress;
}

/// Sleeps until there is something to do. False when the connection must end.
bool NbdSession::wait(Transmission& transmission) {
  const bool timed = stop_begun_ || !transmission.replies().empty() || !transmission.held().empty();
  int timeout = -1;
  if (timed) {
    const Clock::time_point now = Clock::now();
    if (!check_stall(transmission, now)) return false;
    timeout = timeout_ms(now);
  } else {
    pins_timed_ = false;
    give_copies_back();
  }
  short events = 0;
  if (transmission.wants_input()) events |= POLLIN;
  if (blocked_) events |= POLLOUT;
  if (!completions_->arm()) return true;
  std::array<pollfd, 2> fds{{{socket_.get(), events, 0}, {completions_->wake_fd(), POLLIN, 0}}};
  busy_wait_.before_sleep();
  const int ready = ::poll(fds.data(), fds.size(), timeout);
  busy_wait_.after_sleep();
  completions_->disarm(ready > 0 && fds[1].revents != 0);
  if (ready < 0 && errno != EINTR) return false;
  if (ready <= 0) return true;
  if ((fds[0].revents & POLLOUT) != 0) blocked_ = false;
  // The client is gone whole, not only done with sending; what it sent before is read first.
  const short gone = POLLERR | POLLHUP | POLLNVAL;
  return (fds[0].revents & gone) == 0 || (fds[0].revents & POLLIN) != 0;
}

/// Frees frames that wait too long for the client. False when the connection must be cut.
bool NbdSession::check_stall(Transmission& transmission, Clock::time_point now) {
  ReplyQueue& replies = transmission.replies();
  ReplyQueue& held = transmission.held();
  const bool passed = replies.sent_count() >= mark_ && held.empty();
  if (passed) give_copies_back();
  if (!pins_timed_ || passed) {
    pins_timed_ = true;
    mark_ = replies.queued_count();
    mark_time_ = now;
  }
  if (now - mark_time_ >= stall_copy_) {
    if (!copy_out(transmission)) return false;
    mark_ = replies.queued_count();
    mark_time_ = now;
  }
  if (blocked_ && now - progress_time_ >= stall_cut_) {
    complain("it did not read its replies");
    return false;
  }
  return !stop_begun_ || now < stop_deadline_;
}

/// Moves what waits for the client out of the frames. False when the connection must be cut.
bool NbdSession::copy_out(Transmission& transmission) {
  ReplyQueue& replies = transmission.replies();
  ReplyQueue& held = transmission.held();
  const uint64_t bytes = replies.pinned_bytes() + held.pinned_bytes();
  if (!copies_.take(bytes)) {
    complain("it did not read its replies, and too many clients do not");
    return false;
  }
  copied_bytes_ += bytes;
  replies.copy_out();
  held.copy_out();
  return true;
}

void NbdSession::give_copies_back() { copies_.give_back(std::exchange(copied_bytes_, 0)); }

int NbdSession::timeout_ms(Clock::time_point now) const {
  Clock::time_point next = mark_time_ + stall_copy_;
  if (blocked_) next = std::min(next, progress_time_ + stall_cut_);
  if (stop_begun_) next = std::min(next, stop_deadline_);
  return ms_until(next, now);
}

/// Counts what was done and logs what went wrong.
void NbdSession::report(Transmission& transmission) {
  const Transmission::Tally tally = transmission.take_tally();
  if (tally.requests > 0) counters_.requests.fetch_add(tally.requests, std::memory_order_relaxed);
  if (tally.errors > 0) {
    counters_.errors.fetch_add(tally.errors, std::memory_order_relaxed);
    const absl::Status error = transmission.take_error();
    if (!error.ok() && log_.allow()) {
      spdlog::warn("nbd: {}: reading {} failed: {}", peer_, transmission.export_name(),
                   base::message(error));
    }
  }
  if (!transmission.violation().empty()) complain(transmission.violation());
}

void NbdSession::complain(std::string_view what) {
  counters_.errors.fetch_add(1, std::memory_order_relaxed);
  if (log_.allow()) spdlog::warn("nbd: {}: connection closed: {}", peer_, what);
}

}  // namespace blobcache::blockdev
