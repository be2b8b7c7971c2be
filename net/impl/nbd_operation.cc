#include "net/impl/nbd_operation.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "net/impl/hole_list.h"
#include "net/impl/nbd_request.h"

namespace blobcache::net {

void NbdOperation::step() {
  const std::shared_ptr<NbdOperation> self = shared_from_this();
  while (status_.ok() && !waiting_ && cursor_ < end_ && parts_.size() < kMaxParts) next_part();
  if (!parts_.empty() || !done_) return;
  if (status_.ok() && (cursor_ < end_ || last_part())) return;
  ended();
  NbdSession::Done done = std::exchange(done_, nullptr);
  done(status_);
}

void NbdOperation::fail(const absl::Status& status) {
  if (status_.ok()) status_ = status;
}

void NbdOperation::cancel() {
  if (!done_ || !status_.ok()) return;
  status_ = absl::CancelledError("the request was cancelled");
  // Those that are not sent end within the loop, and take themselves off the list.
  const std::vector<NbdRequestRef> parts = parts_;
  for (const NbdRequestRef& request : parts) session_->wire().cancel(request);
  step();
}

void NbdOperation::forget(const NbdRequest* request) {
  std::erase_if(parts_, [&](const NbdRequestRef& part) { return part.get() == request; });
}

void NbdOperation::send(NbdRequestRef request, Then then) {
  ask(std::move(request), [this, then = std::move(then)](const absl::Status& status) mutable {
    if (status_.ok()) status_ = status;
    if (status_.ok()) then();
  });
}

void NbdOperation::ask(NbdRequestRef request, absl::AnyInvocable<void(absl::Status)> then) {
  parts_.push_back(request);
  request->done = [self = shared_from_this(), raw = request.get(),
                   then = std::move(then)](const absl::Status& status) mutable {
    self->forget(raw);
    then(status);
    self->step();
  };
  session_->wire().submit(request);
}

void NbdOperation::read_block(uint64_t at, std::shared_ptr<std::vector<std::byte>> block,
                              bool rewrites, Then then) {
  const uint64_t begin = at & ~mask();
  block->resize(std::min(session_->info().min_block, session_->info().size_bytes - begin));
  auto request = std::make_shared<NbdRequest>();
  request->kind = NbdRequest::Kind::kRead;
  request->offset = begin;
  request->length = block->size();
  request->into = block->data();
  request->rewrites = rewrites;
  send(std::move(request), std::move(then));
}

NbdRequestRef ask_for_zeros(NbdSession& session, uint64_t offset, uint64_t length) {
  const uint64_t mask = session.info().min_block - 1;
  const uint64_t begin = offset & ~mask;
  const uint64_t end =
      std::min((offset + length + mask) & ~mask, session.info().size_bytes & ~mask);
  if (!session.info().block_status || end <= begin) return nullptr;
  auto request = std::make_shared<NbdRequest>();
  request->kind = NbdRequest::Kind::kStatus;
  request->offset = begin;
  request->length = std::min(end - begin, NbdRead::kAsked);
  return request;
}

void NbdRead::next_part() {
  uint64_t most = left();
  if (skip_zeros_) {
    if (const std::optional<HoleList::Run> known = session_->holes().at(cursor_, most)) {
      if (known->zero) {
        std::memset(into_ + (cursor_ - offset_), 0, known->length);
        session_->vitals().bytes_zero += known->length;
        cursor_ += known->length;
        return;
      }
      most = known->length;
    } else if (may_ask_ && most >= kMinAsk && session_->info().block_status) {
      ask_zeros();
      return;
    }
  }
  read_part(most);
}

void NbdRead::ask_zeros() {
  // What lies ahead is likely to be read next.
  NbdRequestRef request = ask_for_zeros(*session_, cursor_, kAsked);
  may_ask_ = request != nullptr;
  if (!request) return;
  waiting_ = true;
  const NbdRequest* const raw = request.get();
  ask(std::move(request), [this, raw, epoch = session_->holes().epoch()](const auto& status) {
    waiting_ = false;
    uint64_t told = 0;
    for (const HoleList::Run& run : raw->runs) told += run.length;
    if (status.ok()) session_->holes().learn(epoch, raw->offset, raw->runs);
    // Answers in small pieces would cost more round trips than they save, and one that does not
    // reach the cursor would be asked for again. An error is no error of the read.
    may_ask_ = status.ok() && told >= kMinAsk * 4 && session_->holes().at(cursor_, 1).has_value();
  });
}

void NbdRead::read_part(uint64_t most) {
  std::byte* const into = into_ + (cursor_ - offset_);
  const uint64_t in_block = cursor_ & mask();
  if (in_block != 0 || most <= mask()) {
    const uint64_t length = std::min(most, session_->info().min_block - in_block);
    auto block = std::make_shared<std::vector<std::byte>>();
    read_block(cursor_, block, false, [block, into, in_block, length] {
      std::memcpy(into, block->data() + in_block, length);
    });
    cursor_ += length;
    return;
  }
  auto request = std::make_shared<NbdRequest>();
  request->kind = NbdRequest::Kind::kRead;
  request->offset = cursor_;
  request->length = std::min(most, session_->info().max_block) & ~mask();
  request->into = into;
  cursor_ += request->length;
  send(std::move(request), [] {});
}

void NbdMap::next_part() {
  cursor_ = end_;
  NbdRequestRef request = ask_for_zeros(*session_, end_ - length_, length_);
  if (!request || session_->holes().at(end_ - length_, 1)) return;
  const NbdRequest* const raw = request.get();
  ask(std::move(request), [this, raw, epoch = session_->holes().epoch()](const auto& status) {
    if (status.ok()) session_->holes().learn(epoch, raw->offset, raw->runs);
  });
}

bool NbdFlush::last_part() {
  if (sent_ || !session_->info().can_flush) return false;
  sent_ = true;
  auto request = std::make_shared<NbdRequest>();
  request->kind = NbdRequest::Kind::kFlush;
  send(std::move(request), [] {});
  return true;
}

}  // namespace blobcache::net
