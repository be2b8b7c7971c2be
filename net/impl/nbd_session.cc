#include "net/impl/nbd_session.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "net/impl/nbd_fences.h"
#include "net/impl/nbd_operation.h"

namespace blobcache::net {

/// The store's handle of a fetch. Holds the operation, which is over before its session goes.
class NbdFetch final : public page::Source::Fetch {
 public:
  NbdFetch(std::shared_ptr<NbdLoop> loop, std::weak_ptr<NbdOperation> operation)
      : loop_(std::move(loop)), operation_(std::move(operation)) {}

  void cancel() override {
    NbdLoop::Task task = [operation = operation_] {
      if (const std::shared_ptr<NbdOperation> live = operation.lock()) live->cancel();
    };
    // A loop that has ended has ended the fetch, too.
    (void)loop_->post(task);
  }

 private:
  const std::shared_ptr<NbdLoop> loop_;
  const std::weak_ptr<NbdOperation> operation_;
};

NbdSession::NbdSession(std::shared_ptr<NbdLoop> loop, std::shared_ptr<NbdWire> wire,
                       std::shared_ptr<OriginVitals> vitals, const NbdExportInfo& info,
                       const page::ObjectKey& key)
    : loop_(std::move(loop)),
      wire_(std::move(wire)),
      vitals_(std::move(vitals)),
      info_(info),
      key_(key),
      written_(info.size_bytes) {
  // What an earlier session left may still be made: nothing of it may be cached.
  for (const NbdFences::Range& held : wire_->held_at_open()) {
    if (held.begin < info_.size_bytes) {
      written_.mark(held.begin, std::min(held.end, info_.size_bytes) - held.begin);
    }
  }
}

NbdSession::~NbdSession() {
  NbdLoop::Task task = [wire = wire_] { wire->close(); };
  // A loop that has ended has closed it.
  (void)loop_->post(task);
}

bool NbdSession::admit(Done& done) {
  if (under_way_.fetch_add(1) >= kMaxOperations) {
    --under_way_;
    done(absl::UnavailableError("too many requests wait for the NBD server"));
    return false;
  }
  done = [self = shared_from_this(), done = std::move(done)](const absl::Status& status) mutable {
    --self->under_way_;
    done(status);
  };
  return true;
}

void NbdSession::start(const std::shared_ptr<NbdOperation>& operation) {
  NbdLoop::Task task = [operation] { operation->begin(); };
  if (!loop_->post(task)) operation->refuse(absl::UnavailableError("the origin was closed"));
}

std::unique_ptr<page::Source::Fetch> NbdSession::fetch(uint64_t offset, absl::Span<std::byte> into,
                                                       FetchDone done) {
  if (!admit(done)) return std::make_unique<NbdFetch>(loop_, std::weak_ptr<NbdOperation>());
  const auto operation = std::make_shared<NbdRead>(shared_from_this(), offset, into.data(),
                                                   into.size(), true, std::move(done));
  auto fetch = std::make_unique<NbdFetch>(loop_, operation);
  start(operation);
  return fetch;
}

void NbdSession::read(uint64_t offset, absl::Span<std::byte> into, Done done) {
  if (!admit(done)) return;
  start(std::make_shared<NbdRead>(shared_from_this(), offset, into.data(), into.size(), false,
                                  std::move(done)));
}

void NbdSession::mark(uint64_t offset, uint64_t length) {
  written_.mark(offset, length);
  changing(offset, length);
}

void NbdSession::write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done) {
  if (!admit(done)) return;
  mark(offset, bytes.size());
  start(std::make_shared<NbdWrite>(shared_from_this(), offset, bytes, fua, std::move(done)));
}

void NbdSession::zero(uint64_t offset, uint64_t length, volume::ZeroFlags flags, Done done) {
  if (!admit(done)) return;
  mark(offset, length);
  start(std::make_shared<NbdZero>(shared_from_this(), offset, length, flags, std::move(done)));
}

void NbdSession::trim(uint64_t offset, uint64_t length, bool fua, Done done) {
  if (!admit(done)) return;
  mark(offset, length);
  start(std::make_shared<NbdTrim>(shared_from_this(), offset, length, fua, std::move(done)));
}

void NbdSession::flush(Done done) {
  if (!admit(done)) return;
  start(std::make_shared<NbdFlush>(shared_from_this(), std::move(done)));
}

void NbdSession::map(uint64_t offset, uint64_t length, size_t max_runs, RunsDone done) {
  Done told = [this, offset, length, max_runs,
               done = std::move(done)](const absl::Status& status) mutable {
    if (!status.ok()) {
      done(status);
      return;
    }
    std::vector<HoleList::Run> runs;
    for (uint64_t at = offset; at < offset + length && runs.size() < max_runs;) {
      const std::optional<HoleList::Run> run = holes().at(at, offset + length - at);
      if (!run) break;
      runs.push_back(*run);
      at += run->length;
    }
    // Who does not tell has data.
    if (runs.empty()) runs.push_back({length, false});
    done(std::move(runs));
  };
  if (!admit(told)) return;  // from here on the session is held by it
  start(std::make_shared<NbdMap>(shared_from_this(), offset, length, std::move(told)));
}

bool NbdSession::enter(const std::shared_ptr<NbdOperation>& change, WriteOrder::Ticket& ticket,
                       uint64_t offset, uint64_t length) {
  bool ready = false;
  ticket = order_.enter(offset, length, ready);
  if (!ready) waiting_.emplace(ticket, change);
  return ready;
}

void NbdSession::leave(WriteOrder::Ticket ticket) {
  for (const WriteOrder::Ticket next : order_.leave(ticket)) {
    if (auto node = waiting_.extract(next)) ready_.push_back(std::move(node.mapped()));
  }
  // One that has nothing to do ends, and leaves, at once: a loop, not as deep as there are such.
  if (letting_in_) return;
  letting_in_ = true;
  while (!ready_.empty()) {
    const std::shared_ptr<NbdOperation> change = std::move(ready_.front());
    ready_.pop_front();
    change->begin();
  }
  letting_in_ = false;
}

}  // namespace blobcache::net
