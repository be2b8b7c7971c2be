#include "blockdev/impl/read_side.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "blockdev/impl/nbd_protocol.h"
#include "store/page/allow_blocking.h"
#include "store/page/pinned_range.h"

namespace blobcache::blockdev {
namespace {

bool one_chunk(const nbd::Request& request) { return (request.flags & nbd::kCmdFlagDf) != 0; }

}  // namespace

void ReadSide::read(const nbd::Request& request, bool may_block) {
  if (request.length <= Device::kMaxRead) {
    if (replies_.hit(device_, request)) return;
    ++small_;
    const page::AllowBlocking here(may_block);
    ask({.request = request,
         .piece = {request.offset, static_cast<uint32_t>(request.length)},
         .read = {}});
    return;
  }
  const bool stream = !replies_.chunks() || one_chunk(request);
  reading_.line.emplace_back(stream ? LargeRead::Kind::kStream : LargeRead::Kind::kChunks, request);
  pump(reading_);
}

void ReadSide::warm(const nbd::Request& request) {
  // A hint, of which is taken what the limit allows.
  nbd::Request taken = request;
  taken.length = std::min(request.length, limits_.warm_bytes);
  warming_.line.emplace_back(LargeRead::Kind::kWarm, taken);
  pump(warming_);
}

void ReadSide::ask(UnderWay what) {
  const LargeRead::Piece piece = what.piece;
  bytes_under_way_ += piece.length;
  const uint32_t slot = under_way_.add(std::move(what));
  page::PendingRead read =
      device_.read(piece.offset, piece.length, completions_.expect_read(first_id_ + slot));
  under_way_.at(slot).read = std::move(read);
}

void ReadSide::completed(uint32_t slot, Completion completion) {
  const UnderWay what = under_way_.remove(slot);
  bytes_under_way_ -= what.piece.length;
  if (what.lane != nullptr) {
    // A piece of a read that has failed meanwhile is dropped.
    if (what.serial != what.lane->front_serial || what.lane->line.empty()) return;
    LargeRead& front = what.lane->line.front();
    if (completion.status.ok()) {
      front.arrived(what.number, what.piece, std::move(completion.bytes));
    } else {
      front.arrived(what.number, what.piece, std::move(completion.status));
    }
    return;
  }
  --small_;
  if (completion.status.ok()) {
    replies_.data(nbd::RequestId::of(what.request), what.piece.offset, what.piece.length,
                  std::move(completion.bytes), one_chunk(what.request), /*last=*/true);
  } else {
    replies_.failed(what.request, what.piece.offset, std::move(completion.status));
  }
}

void ReadSide::pump() {
  if (!reading_.line.empty()) pump(reading_);
  if (!warming_.line.empty()) pump(warming_);
}

/// Moves what is at the front as far as it goes: asks for pieces while its window and the bounds
/// allow, and sends what has come in order.
void ReadSide::pump(Lane& lane) {
  while (!lane.line.empty() && !broken_) {
    ask_pieces(lane);
    std::optional<LargeRead::Arrival> arrival = lane.line.front().leave();
    if (!arrival) return;
    send_piece(lane, *std::move(arrival));
  }
}

/// The bound leaves out the held replies, which cannot be sent before this read is through, and is
/// waived for a read with nothing under way: so it always goes on.
void ReadSide::ask_pieces(Lane& lane) {
  LargeRead& large = lane.line.front();
  const auto may_ask = [&] {
    return large.nothing_under_way() ||
           bytes_under_way_ + replies_.out().payload_bytes() < limits_.share_bytes;
  };
  while (large.can_ask() && may_ask()) {
    uint32_t number = 0;
    const LargeRead::Piece piece = large.ask(number);
    page::PinnedRange range;
    if (device_.try_read(piece.offset, piece.length, range)) {
      large.arrived(number, piece, DeviceBytes{std::move(range), {}});
    } else {
      ask({.request = large.request(),
           .piece = piece,
           .lane = &lane,
           .serial = lane.front_serial,
           .number = number,
           .read = {}});
    }
  }
}

void ReadSide::send_piece(Lane& lane, LargeRead::Arrival arrival) {
  LargeRead& large = lane.line.front();
  const LargeRead::Piece piece = arrival.piece;
  if (!arrival.result.ok()) {
    fail_front(lane, piece.offset, std::move(arrival.result).status());
    return;
  }
  const nbd::RequestId to = nbd::RequestId::of(large.request());
  const bool done = large.done();
  switch (large.kind()) {
    case LargeRead::Kind::kChunks:
      replies_.data(to, piece.offset, piece.length, *std::move(arrival.result),
                    /*one_chunk=*/false, done);
      break;
    case LargeRead::Kind::kStream:
      if (piece.offset == large.begin()) {
        replies_.begin_stream(to, large.begin(), static_cast<uint32_t>(large.length()));
      }
      replies_.stream(to, piece.length, *std::move(arrival.result), done);
      break;
    case LargeRead::Kind::kWarm:
      if (done) replies_.done(to);
      break;
  }
  if (done) finish_front(lane);
}

/// From `offset` on it cannot be had.
void ReadSide::fail_front(Lane& lane, uint64_t offset, absl::Status status) {
  const LargeRead& large = lane.line.front();
  // Warming never streams, but may fail while a read does.
  if (large.kind() != LargeRead::Kind::kStream || offset == large.begin()) {
    replies_.failed(large.request(), offset, std::move(status));
  } else if (replies_.chunks()) {
    const uint64_t missing = large.begin() + large.length() - offset;
    replies_.fail_stream(large.request(), offset, missing, std::move(status));
  } else {
    replies_.count_error(std::move(status));
    broken_ = true;
    return;
  }
  finish_front(lane);
}

/// What is at the front is through, well or badly. Pieces of it that are still under way are
/// cancelled; completed() drops them by their serial number.
void ReadSide::finish_front(Lane& lane) {
  under_way_.for_each([&lane](UnderWay& what) {
    if (what.lane == &lane && what.serial == lane.front_serial) what.read.cancel();
  });
  lane.line.pop_front();
  ++lane.front_serial;
}

bool ReadSide::shut_down() {
  if (replies_.streaming() && !replies_.chunks()) return false;
  for (Lane* lane : {&reading_, &warming_}) {
    while (!lane->line.empty()) {
      fail_front(*lane, lane->line.front().leaves(), absl::CancelledError("shutdown"));
    }
  }
  cancel();
  return true;
}

void ReadSide::cancel() {
  under_way_.for_each([](UnderWay& what) { what.read.cancel(); });
}

}  // namespace blobcache::blockdev
