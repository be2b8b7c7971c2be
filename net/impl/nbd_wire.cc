#include "net/impl/nbd_wire.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "net/impl/nbd_connection.h"
#include "net/impl/nbd_fences.h"
#include "net/impl/nbd_retry.h"
#include "store/page/geometry.h"
#include "store/tree/path.h"

namespace blobcache::net {

namespace {

uint32_t any_number() {
  uint32_t number = 0;
  // Four bytes come whole, or the pause is the shortest.
  (void)!getrandom(&number, sizeof number, 0);
  return number;
}

/// `why` is OK where it is the server that is waited for.
absl::Status no_connection(absl::Duration patience, const absl::Status& why) {
  return absl::UnavailableError(fmt::format("no connection within {}{}{}",
                                            absl::FormatDuration(patience), why.ok() ? "" : ": ",
                                            why.ok() ? "" : base::message(why)));
}

}  // namespace

NbdWire::NbdWire(NbdWireOptions options, std::shared_ptr<OriginVitals> vitals,
                 std::shared_ptr<NbdFences> fences)
    : options_(std::move(options)),
      vitals_(std::move(vitals)),
      fences_(std::move(fences)),
      open_by_(absl::Now() + options_.connect_timeout) {
  slots_.resize(1);
}

absl::StatusOr<NbdExportInfo> NbdWire::wait_open() {
  const absl::MutexLock lock(&mutex_);
  // The loop ends it within connect_timeout, and when it stops.
  mutex_.Await(absl::Condition(&opened_));
  if (!broken_.ok()) return broken_;
  return told_;
}

std::vector<NbdFences::Range> NbdWire::held_at_open() const {
  const absl::MutexLock lock(&mutex_);
  return held_at_open_;
}

absl::Status NbdWire::broken() const {
  const absl::MutexLock lock(&mutex_);
  return broken_;
}

void NbdWire::submit(const NbdRequestRef& request) {
  request->number = ++last_number_;
  request->deadline = absl::Now() + options_.request_timeout;
  request->state = NbdRequest::State::kQueued;
  if (request->kind == NbdRequest::Kind::kFlush) request->flush = ledger_.begin();
  request->live = live_.insert(live_.end(), request);
  queue_.emplace(request->number, request);
}

void NbdWire::cancel(const NbdRequestRef& request) {
  request->cancelled = true;
  if (request->state == NbdRequest::State::kQueued) {
    finish(request, absl::CancelledError("the request was cancelled"));
  }
}

void NbdWire::close() {
  fail_all(absl::CancelledError("the export was closed"));
  closed_ = true;
}

void NbdWire::stop() {
  fail_all(absl::UnavailableError("the origin was closed"));
  fences_->clear();
  closed_ = true;
}

void NbdWire::end_by(absl::Time when) {
  end_by_ = when;
  if (!info_) fail_all(absl::CancelledError("the daemon ends"));
}

absl::Time NbdWire::work(absl::Time now) {
  release();
  if (closed_) return absl::InfiniteFuture();
  while (pass(now)) {
  }
  absl::Time until = live_.empty() ? end_by_ : std::min(end_by_, live_.front()->deadline);
  if (!info_ && !may_dial()) until = std::min(until, open_by_);
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    if (slot.connection && !slot.ready) until = std::min(until, slot.deadline);
    const bool missing = !slot.connection && may_dial() && (i == 0 || wants_more());
    if (missing) until = std::min(until, slot.next_try);
  }
  return broken().ok() ? until : absl::InfiniteFuture();
}

bool NbdWire::pass(absl::Time now) {
  if (const absl::Status status = broken(); !status.ok()) {
    fail_all(status);
    return false;
  }
  if (end_by_ <= now) {
    fail_all(absl::UnavailableError("the daemon ends"));
    return false;
  }
  if (!info_ && !may_dial() && open_by_ <= now) {
    fail_all(absl::UnavailableError("the server has not ended an earlier connection yet"));
    return false;
  }
  for (Slot& slot : slots_) settle(slot, now);
  expire(now);
  if (!broken().ok()) return true;
  if (info_ && slots_.size() == 1 && info_->multi_conn) {
    slots_.resize(options_.connections);
  }
  const bool died = dispatch();
  return dial(now) || died;
}

void NbdWire::watch(std::vector<NbdWatched*>& watched) {
  for (Slot& slot : slots_) {
    if (slot.connection && slot.connection->fd() >= 0) watched.push_back(slot.connection.get());
  }
  fences_->watch(watched);
}

/// What waited for a fence that is over may be sent.
void NbdWire::release() {
  const uint64_t over = fences_->sweep();
  if (std::exchange(fences_over_, over) == over) return;
  // The server made the late changes after it was asked.
  holes_.forget(0, page::kMaxObjectSize);
  queue_.merge(held_);
}

void NbdWire::settle(Slot& slot, absl::Time now) {
  if (!slot.connection) return;
  for (const NbdRequestRef& request : slot.connection->take_completed()) completed(request);
  switch (slot.connection->state()) {
    case NbdConnection::State::kDead:
      lose(slot, slot.connection->error(), now);
      return;
    case NbdConnection::State::kConnecting:
      if (now < slot.deadline) return;
      lose(slot, no_connection(options_.connect_timeout, slot.connection->error()), now);
      return;
    case NbdConnection::State::kNegotiating:
      if (slot.asked) {
        lose(slot, base::annotate(slot.connection->refusal(), "the export cannot be opened"), now);
        return;
      }
      slot.asked = true;
      if (const absl::Status status = slot.connection->go(options_.export_name); !status.ok()) {
        lose(slot, status, now);
        return;
      }
      // The answer may be here already, and then poll(2) tells of nothing.
      settle(slot, now);
      return;
    case NbdConnection::State::kReady:
      if (!slot.ready) greet(slot, now);
      return;
  }
}

void NbdWire::greet(Slot& slot, absl::Time now) {
  const absl::StatusOr<NbdExportInfo> info = slot.connection->info();
  if (!info.ok()) {
    lose(slot, info.status(), now);
    return;
  }
  if (info_) {
    if (const absl::Status same = same_nbd_export(*info_, *info); !same.ok()) {
      spdlog::warn("{}: export '{}': {}", vitals_->what(), tree::printable(options_.export_name),
                   base::message(same));
      fail_all(same);
      return;
    }
  }
  slot.ready = true;
  slot.backoff.succeeded();
  ++vitals_->connections;
  vitals_->reached();
  if (info_) return;
  info_ = *info;
  const absl::MutexLock lock(&mutex_);
  told_ = *info;
  held_at_open_ = fences_->held();
  opened_ = true;
}

/// `why` by value: it may be the connection's own, which goes.
void NbdWire::lose(Slot& slot, absl::Status why, absl::Time now) {
  last_error_ = why;
  slot.next_try = now + slot.backoff.next(any_number());
  if (std::exchange(slot.ready, false)) --vitals_->connections;
  // What the server refuses is no trouble of the server's. Told before what was under way is
  // answered: whose request fails may ask next how the origin is.
  const bool away = why.code() == absl::StatusCode::kUnavailable;
  if (away && ready() == 0) vitals_->failed(why);
  drop(slot);
  if (!info_) fail_all(why);
}

/// Closes the connection; what was under way goes back into the queue, or ends, behind a fence
/// where the server may still do it.
void NbdWire::drop(Slot& slot) {
  if (!slot.connection) return;
  if (std::exchange(slot.ready, false)) --vitals_->connections;
  slot.asked = false;
  const std::unique_ptr<NbdConnection> connection = std::move(slot.connection);
  std::vector<NbdRequestRef> back = connection->take_completed();
  std::vector<NbdRequestRef> lost = connection->take_lost();
  std::vector<NbdFences::Range> late;
  for (const NbdRequestRef& request : lost) {
    if (!changes_bytes(*request)) continue;
    late.push_back({request->offset, request->offset + request->length});
  }
  base::UniqueFd socket = connection->take_socket();
  const bool alone = info_ && !info_->multi_conn;
  if (socket.valid() && (!late.empty() || alone)) {
    fences_->add(std::move(socket), std::move(late), alone);
  }
  for (const NbdRequestRef& request : back) completed(request);
  // Given up or broken: what was answered so far may be gone with the server.
  ledger_.lost();
  for (const NbdRequestRef& request : lost) again(request);
}

/// A server that does not promise that its connections are one gets no second.
bool NbdWire::may_dial() const { return !fences_->alone(); }

bool NbdWire::wants_more() const {
  size_t under_way = 0;
  for (const Slot& slot : slots_) {
    if (slot.ready) under_way += slot.connection->under_way();
  }
  return ready() > 0 && (!queue_.empty() || under_way > ready());
}

/// True when a connection is further already than poll(2) will tell.
bool NbdWire::dial(absl::Time now) {
  if (!may_dial()) return false;
  bool further = false;
  for (size_t i = 0; i < slots_.size(); ++i) {
    Slot& slot = slots_[i];
    // Of those that are lost one is opened again in any case, so that a server that is back is
    // known to be.
    if (slot.connection || slot.next_try > now || (i > 0 && !wants_more())) continue;
    slot.deadline = now + options_.connect_timeout;
    absl::StatusOr<std::unique_ptr<NbdConnection>> connection =
        NbdConnection::dial(options_.target);
    if (connection.ok()) {
      slot.connection = *std::move(connection);
      further |= slot.connection->state() != NbdConnection::State::kConnecting;
    } else {
      lose(slot, connection.status(), now);
      if (!broken().ok()) return false;
    }
  }
  return further;
}

void NbdWire::expire(absl::Time now) {
  while (!live_.empty() && live_.front()->deadline <= now) {
    const NbdRequestRef request = live_.front();
    request->expired = true;
    if (request->state == NbdRequest::State::kQueued) {
      finish(request, too_late());
      continue;
    }
    const auto slot = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& s) {
      return s.connection.get() == request->connection;
    });
    if (slot == slots_.end()) return;  // cannot be: what was sent has a connection
    lose(*slot,
         absl::UnavailableError(
             fmt::format("no answer within {}", absl::FormatDuration(options_.request_timeout))),
         now);
  }
}

/// True when a connection died of it, so that there is more to do at once.
bool NbdWire::dispatch() {
  while (!queue_.empty()) {
    const NbdRequestRef request = queue_.begin()->second;
    if (is_held(*request)) {
      held_.insert(queue_.extract(queue_.begin()));
      continue;
    }
    Slot* const slot = roomiest(*request);
    if (slot == nullptr) return false;
    queue_.erase(queue_.begin());
    request->state = NbdRequest::State::kSent;
    const absl::Status status = slot->connection->send(request);
    const bool died = slot->connection->state() == NbdConnection::State::kDead;
    if (!status.ok() && died) {
      again(request);
    } else if (!status.ok()) {
      finish(request, status);
    }
    if (died) return true;
  }
  return false;
}

bool NbdWire::is_held(const NbdRequest& request) const {
  if (fences_->empty() || !(changes_bytes(request) || request.rewrites)) return false;
  // Each connection must be able to leave one.
  return fences_->size() + slots_.size() > NbdFences::kMaxFences ||
         fences_->holds({request.offset, request.offset + request.length});
}

NbdWire::Slot* NbdWire::roomiest(const NbdRequest& request) {
  Slot* best = nullptr;
  for (Slot& slot : slots_) {
    if (!slot.ready || !slot.connection->has_room(request.length)) continue;
    if (best == nullptr || slot.connection->under_way() < best->connection->under_way()) {
      best = &slot;
    }
  }
  return best;
}

void NbdWire::completed(const NbdRequestRef& request) {
  request->connection = nullptr;
  ++vitals_->requests;
  if (request->error != 0) {
    ++request->answers;
    if (nbd_error_may_pass(request->error, request->answers)) {
      again(request);
    } else {
      finish(request, nbd_error(request->error));
    }
    return;
  }
  if (request->kind == NbdRequest::Kind::kRead) vitals_->bytes_read += request->length;
  if (request->kind == NbdRequest::Kind::kWrite) vitals_->bytes_written += request->length;
  if (changes_bytes(*request) && !request->fua) ledger_.changed();
  const bool lost = request->kind == NbdRequest::Kind::kFlush && !flushed(*request);
  if (request->cancelled) {
    finish(request, absl::CancelledError("the request was cancelled"));
  } else if (lost) {
    finish(request, absl::UnavailableError("a connection was lost since the last flush, and what "
                                           "was written may be lost with the server"));
  } else {
    finish(request, absl::OkStatus());
  }
}

/// True when its success may be told.
bool NbdWire::flushed(const NbdRequest& request) {
  const bool believed = ledger_.believed(request.flush);
  // What a change's own flush tells the change's caller nobody else has been told.
  if (believed || !request.fua) ledger_.told(request.flush);
  return believed;
}

void NbdWire::again(const NbdRequestRef& request) {
  request->connection = nullptr;
  if (request->cancelled) {
    finish(request, absl::CancelledError("the request was cancelled"));
  } else if (request->expired) {
    finish(request, too_late());
  } else {
    ++vitals_->retries;
    request->state = NbdRequest::State::kQueued;
    queue_.emplace(request->number, request);
  }
}

absl::Status NbdWire::too_late() const {
  return absl::UnavailableError(fmt::format(
      "the NBD server did not answer within {}{}{}", absl::FormatDuration(options_.request_timeout),
      last_error_.ok() ? "" : ": ", last_error_.ok() ? "" : base::message(last_error_)));
}

/// `request` by value: the lists may have the last references.
void NbdWire::finish(NbdRequestRef request, const absl::Status& status) {
  request->state = NbdRequest::State::kDone;
  queue_.erase(request->number);
  held_.erase(request->number);
  live_.erase(request->live);
  absl::AnyInvocable<void(absl::Status)> done = std::move(request->done);
  done(status);
}

void NbdWire::fail_all(const absl::Status& status) {
  {
    const absl::MutexLock lock(&mutex_);
    if (broken_.ok()) broken_ = status;
    opened_ = true;
  }
  for (Slot& slot : slots_) {
    if (slot.connection && slot.ready) slot.connection->disconnect();
    drop(slot);
  }
  // What ends may begin something else, which ends the same way.
  while (!live_.empty()) finish(live_.front(), status);
}

size_t NbdWire::ready() const {
  return static_cast<size_t>(
      std::count_if(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.ready; }));
}

}  // namespace blobcache::net
