#include "blockdev/impl/nbd_session.h"

#include <fmt/format.h>
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

#include "base/io_flusher.h"
#include "base/status.h"

namespace blobcache::blockdev {
namespace {

/// Holds every request that a connection may have in flight, and an option's data in few reads.
constexpr size_t kBufferBytes = size_t{64} << 10;
/// The kernel's limit on the pieces of one sendmsg (UIO_MAXIOV).
constexpr size_t kMaxPieces = 1024;
/// How long requests may gather while the client reads replies.
constexpr std::chrono::microseconds kGather{20};
/// How many answers of long writes leave together at most.
constexpr size_t kGathered = 4;
/// A client that waited so often in a row for what it had asked for is one that waits.
constexpr uint32_t kWaits = 4;
/// Unread bytes (as the kernel counts its buffers) that keep a client busy for the time of a batch.
constexpr int kPlenty = 32 << 10;
/// How long a connection keeps memory that others may want.
constexpr int kSpareMs = 1000;
/// How long stop() lets a client take its last replies.
constexpr std::chrono::milliseconds kStopGrace{500};

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
    : wire_(std::move(socket)),
      peer_(std::move(peer)),
      options_(options),
      stall_copy_(absl::ToChronoNanoseconds(options.stall_copy)),
      stall_cut_(absl::ToChronoNanoseconds(options.stall_cut)),
      exports_(exports),
      counters_(shared.counters),
      log_(shared.log),
      copies_(shared.copies),
      payloads_(shared.payloads),
      busy_wait_(shared.spin_slots),
      completions_(std::move(completions)),
      buffer_(kBufferBytes) {}

void NbdSession::stop() {
  stopping_.store(true, std::memory_order_release);
  completions_->wake();
}

void NbdSession::run() {
  {
    Handshake handshake(exports_, options_.tls);
    const bool agreed = shake_hands(handshake);
    shakes_hands_.store(false, std::memory_order_relaxed);
    if (agreed) {
      spdlog::debug("nbd: {}: uses {}", peer_, handshake.chosen().name);
      const MetaContextSet contexts = handshake.meta_contexts();
      // The client may be a kernel whose block device this is; and what this thread reads from the
      // disk may be waited for by one that is.
      base::become_io_flusher();
      Transmission transmission(std::move(handshake.chosen()), handshake.style(), contexts,
                                options_.limits, completions_, payloads_);
      {
        const page::ThreadRing::Scope own_reads(ring_);
        transmit(transmission);
      }
      ring_.finish();
    } else if (!handshake.violation().empty()) {
      complain(handshake.violation());
    }
  }
  give_copies_back();
  wire_.shut_down();
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
    if (state == Handshake::State::kStartTls) {
      if (!send_text(out, deadline) || !start_tls(deadline)) return false;
      handshake.tls_started();
      continue;
    }
    if (state != Handshake::State::kNegotiating) {
      return send_text(out, deadline) && state == Handshake::State::kTransmission;
    }
    if (bytes.size() < before || !out.empty()) continue;
    const Io got = receive(kBufferBytes);
    if (got == Io::kDead || input_ended_) return false;
    if (got == Io::kNothing && !wait_handshake(POLLIN, deadline)) return false;
  }
}

bool NbdSession::start_tls(Clock::time_point deadline) {
  if (begin_ != end_) {
    complain("it sent more in clear after it had asked for TLS");
    return false;
  }
  bool going = wire_.start_tls(options_.tls_context);
  while (going) {
    switch (wire_.shake_hands()) {
      case Wire::Handshake::kDone:
        return true;
      case Wire::Handshake::kWantsRead:
        going = wait_handshake(POLLIN, deadline);
        break;
      case Wire::Handshake::kWantsWrite:
        going = wait_handshake(POLLOUT, deadline);
        break;
      case Wire::Handshake::kFailed:
        complain(fmt::format("TLS failed: {}", wire_.tls_error()));
        return false;
    }
  }
  return false;
}

bool NbdSession::send_text(std::string& text, Clock::time_point deadline) {
  size_t sent = 0;
  while (sent < text.size()) {
    iovec rest{text.data() + sent, text.size() - sent};
    const ssize_t n = wire_.send({&rest, 1});
    if (n > 0) {
      sent += static_cast<size_t>(n);
    } else if (n == Wire::kDead || !wait_handshake(POLLOUT, deadline)) {
      return false;
    }
  }
  text.clear();
  return true;
}

/// Waits for the socket. False when it is too late, or the server stops, or the client is gone.
bool NbdSession::wait_handshake(short events, Clock::time_point deadline) {
  std::array<pollfd, 2> fds{{{wire_.fd(), events, 0}, {completions_->wake_fd(), POLLIN, 0}}};
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
    ring_.reap();
    transmission.collect();
    if (begin_ != end_) {
      nbd::Bytes bytes = input();
      transmission.consume(bytes, waits_ >= kWaits);
      keep(bytes);
      ring_.submit();
    }
    report(transmission);
    if (!transmission.violation().empty()) return;
    const bool gathers = let_replies_gather(transmission);
    Io io = replies.empty() || blocked_ || gathers ? Io::kNothing : flush(replies);
    if (io == Io::kDead || transmission.finished()) return;
    if (io == Io::kProgress) continue;  // what was sent may have made room for more
    if (transmission.wants_input()) {
      const bool first = sent_;
      if (first) let_requests_gather();
      io = receive(transmission);
      if (first) waits_ = io == Io::kProgress ? 0 : waits_ + 1;
    }
    if (io == Io::kNothing && gathers) io = flush(replies);
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

/// Whether the next of many long writes may come before the last one is answered: for the client
/// to be woken by each answer costs both sides more than the wait, which ends when nothing more is
/// there at once.
bool NbdSession::let_replies_gather(Transmission& transmission) {
  return waits_ == 0 && !blocked_ && transmission.after_long_payload() &&
         !transmission.replies().empty() && transmission.replies().requests() < kGathered &&
         transmission.wants_input();
}

/// Waits, not for long, while the client has most of the last replies still to read. It is busy
/// with them, and what it asks for meanwhile is answered together.
void NbdSession::let_requests_gather() {
  sent_ = false;
  if (!busy_wait_.hot()) return;
  int unread = 0;
  if (::ioctl(wire_.fd(), SIOCOUTQ, &unread) != 0) return;
  const int enough = std::max(unread / 2, kPlenty);
  const Clock::time_point until = Clock::now() + kGather;
  while (unread > enough && Clock::now() < until && !completions_->any()) {
    BusyWait::relax();
    if (::ioctl(wire_.fd(), SIOCOUTQ, &unread) != 0) return;
  }
}

/// Looks for something to do for a moment before sleeping.
NbdSession::Io NbdSession::watch(Transmission& transmission) {
  if (blocked_ || !transmission.wants_input()) return Io::kNothing;
  Io io = Io::kNothing;
  const bool came = busy_wait_.spin([this, &io, &transmission] {
    ring_.reap();
    if (completions_->any() || stopping_.load(std::memory_order_relaxed)) return true;
    io = receive(transmission);
    return io != Io::kNothing;
  });
  return came && io == Io::kNothing ? Io::kProgress : io;
}

/// At most `room` bytes more.
NbdSession::Io NbdSession::receive(size_t room) {
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  const ssize_t n = wire_.receive(absl::MakeSpan(buffer_).subspan(end_, room));
  if (n > 0) end_ += static_cast<size_t>(n);
  return received(n);
}

/// What clients write goes where the device will take it from, when that saves a copy.
NbdSession::Io NbdSession::receive(Transmission& transmission) {
  const absl::Span<std::byte> target = transmission.payload_target();
  if (begin_ != end_ || target.empty()) return receive(transmission.input_room(end_ - begin_));
  const ssize_t n = wire_.receive(target);
  if (n > 0) transmission.payload_received(static_cast<size_t>(n));
  return received(n);
}

/// So many bytes have come, or why none have.
NbdSession::Io NbdSession::received(ssize_t n) {
  if (n > 0) {
    counters_.bytes_in.fetch_add(static_cast<uint64_t>(n), std::memory_order_relaxed);
    return Io::kProgress;
  }
  if (n == 0) {
    if (begin_ != end_) complain("it hung up in the middle of a message");
    input_ended_ = true;
    return Io::kProgress;
  }
  return n == Wire::kBlocked ? Io::kNothing : Io::kDead;
}

/// Sends what the socket takes. When that is not all, the socket is blocked until poll() says
/// otherwise.
NbdSession::Io NbdSession::flush(ReplyQueue& replies) {
  std::array<iovec, kMaxPieces> pieces;
  const size_t count = replies.gather(absl::MakeSpan(pieces));
  size_t total = 0;
  for (size_t i = 0; i < count; ++i) total += pieces[i].iov_len;
  const ssize_t n = wire_.send(absl::MakeSpan(pieces).first(count));
  if (n == Wire::kDead) return Io::kDead;
  const size_t sent = n == Wire::kBlocked ? 0 : static_cast<size_t>(n);
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
    if (transmission.has_spare()) timeout = kSpareMs;
  }
  short events = 0;
  if (transmission.wants_input()) events |= POLLIN;
  if (blocked_ || wire_.reading_wants_write()) events |= POLLOUT;
  ring_.submit();
  if (!completions_->arm()) return true;
  std::array<pollfd, 3> fds{{{wire_.fd(), events, 0},
                             {completions_->wake_fd(), POLLIN, 0},
                             {ring_.wake_fd(), POLLIN, 0}}};
  busy_wait_.before_sleep();
  const int ready = ::poll(fds.data(), fds.size(), timeout);
  busy_wait_.after_sleep();
  completions_->disarm(ready > 0 && fds[1].revents != 0);
  if (ready > 0 && fds[2].revents != 0) ring_.woken();
  if (ready < 0 && errno != EINTR) return false;
  if (ready == 0 && !timed) transmission.free_spare();
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
      spdlog::warn("nbd: {}: a request of {} failed: {}", peer_, transmission.export_name(),
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
