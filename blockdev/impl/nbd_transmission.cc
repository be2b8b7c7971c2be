#include "blockdev/impl/nbd_transmission.h"

#include <algorithm>
#include <utility>

#include "base/status.h"

namespace blobcache::blockdev {
namespace {

using page::Object;
using page::PinnedRange;

uint32_t nbd_error(const absl::Status& status) {
  return absl::IsOutOfRange(status) || absl::IsInvalidArgument(status) ? nbd::kEInval : nbd::kEIo;
}

}  // namespace

Transmission::Transmission(OpenExport opened, bool structured_replies, size_t max_requests,
                           std::shared_ptr<CompletionQueue> completions)
    : export_(std::move(opened)),
      size_bytes_(export_.object->size_bytes()),
      structured_(structured_replies),
      max_requests_(std::max<size_t>(max_requests, 1)),
      completions_(std::move(completions)) {}

Transmission::~Transmission() {
  for (UnderWay& slot : slots_) {
    if (slot.used) slot.read.cancel();
  }
  completions_->drain();
}

uint64_t Transmission::bytes_in_flight() const {
  return bytes_under_way_ + out_.payload_bytes() + held_.payload_bytes();
}

bool Transmission::wants_input() const {
  if (ended_ || !violation_.empty()) return false;
  if (drained_) return true;
  const size_t requests = small_under_way_ + large_.size() + out_.requests() + held_.requests();
  return requests < max_requests_ && bytes_in_flight() < kMaxBytes;
}

bool Transmission::finished() const {
  return ended_ && under_way_ == 0 && large_.empty() && out_.empty() && held_.empty();
}

void Transmission::consume(nbd::Bytes& input) {
  while (!ended_ && violation_.empty()) {
    if (drained_) {
      const size_t taken = std::min<uint64_t>(drain_left_, input.size());
      input.remove_prefix(taken);
      drain_left_ -= taken;
      if (drain_left_ > 0) return;
      reply_error(drained_->cookie, nbd::kEPerm, "the export is read-only");
      drained_.reset();
    }
    if (input.size() < nbd::kRequestBytes || !wants_input()) return;
    const std::optional<nbd::Request> request = nbd::decode_request(input);
    if (!request) {
      violation_ = "a request had the wrong magic";
      return;
    }
    input.remove_prefix(nbd::kRequestBytes);
    ++tally_.requests;
    handle(*request);
  }
}

void Transmission::handle(const nbd::Request& request) {
  const uint16_t known_flags =
      request.type == nbd::kCmdRead && structured_ ? nbd::kCmdFlagDf : uint16_t{0};
  const bool bad_flags = (request.flags & ~known_flags) != 0;
  switch (request.type) {
    case nbd::kCmdRead:
      if (bad_flags) break;
      handle_read(request);
      return;
    case nbd::kCmdDisc:
      ended_ = true;
      return;
    case nbd::kCmdWrite:
      if (request.length > kMaxDrained) {
        violation_ = "a write was longer than any that this protocol allows";
        return;
      }
      drained_ = request;
      drain_left_ = request.length;
      return;
    case nbd::kCmdTrim:
    case nbd::kCmdWriteZeroes:
      reply_error(request.cookie, nbd::kEPerm, "the export is read-only");
      return;
    case nbd::kCmdFlush:
      if (bad_flags || request.offset != 0 || request.length != 0) break;
      reply_done(request.cookie);  // no write is ever pending
      return;
    case nbd::kCmdCache:
      if (bad_flags) break;
      handle_cache(request);
      return;
    default:
      reply_error(request.cookie, nbd::kEInval, "this server does not have that command");
      return;
  }
  reply_error(request.cookie, nbd::kEInval, "a flag or field is not valid for this command");
}

bool Transmission::inside(const nbd::Request& request) const {
  return request.length > 0 && request.offset <= size_bytes_ &&
         request.length <= size_bytes_ - request.offset;
}

void Transmission::handle_read(const nbd::Request& request) {
  if (!inside(request)) {
    reply_error(request.cookie, nbd::kEInval, "the range is empty or not inside the export");
    return;
  }
  if (request.length <= Object::kMaxRead) {
    if (reply_hit(request.cookie, request.offset, request.length)) return;
    ++small_under_way_;
    ask_store({.cookie = request.cookie, .piece = {request.offset, request.length}, .read = {}});
    return;
  }
  if ((request.flags & nbd::kCmdFlagDf) != 0) {
    reply_error(request.cookie, nbd::kEOverflow, "over 1 MiB cannot be sent without fragments");
    return;
  }
  if (request.length > nbd::kMaxPayload) {
    reply_error(request.cookie, nbd::kEInval, "reads are limited to 32 MiB");
    return;
  }
  large_.emplace_back(structured_ ? LargeRead::Kind::kChunks : LargeRead::Kind::kStream,
                      request.cookie, request.offset, request.length);
  pump_large();
}

void Transmission::handle_cache(const nbd::Request& request) {
  if (!inside(request) || request.length > nbd::kMaxPayload) {
    reply_error(request.cookie, nbd::kEInval, "the range is empty, too long or not inside");
    return;
  }
  large_.emplace_back(LargeRead::Kind::kWarm, request.cookie, request.offset, request.length);
  pump_large();
}

/// The hot path: the frames are pinned straight into the reply's slot.
bool Transmission::reply_hit(uint64_t cookie, uint64_t offset, uint32_t length) {
  ReplyQueue& queue_now = queue();
  Reply& reply = queue_now.push();
  if (!export_.object->try_read(offset, length, reply.range)) {
    queue_now.drop_last();
    return false;
  }
  reply.header_bytes = structured_
                           ? nbd::encode_data_chunk(reply.header, cookie, offset, length, true)
                           : nbd::encode_simple_reply(reply.header, cookie, 0);
  reply.payload_bytes = length;
  queue_now.finish();
  return true;
}

void Transmission::ask_store(UnderWay what) {
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const uint32_t id = free_slots_.back();
  free_slots_.pop_back();
  const LargeRead::Piece piece = what.piece;
  slots_[id] = std::move(what);
  slots_[id].used = true;
  ++under_way_;
  bytes_under_way_ += piece.length;
  slots_[id].read = export_.object->read(piece.offset, piece.length, completions_->expect(id));
}

void Transmission::collect() {
  if (under_way_ > 0) completions_->take(arrived_);
  for (Completion& completion : arrived_) {
    UnderWay what = std::exchange(slots_[completion.id], UnderWay{});
    free_slots_.push_back(completion.id);
    --under_way_;
    bytes_under_way_ -= what.piece.length;
    if (what.large > 0) {
      if (what.large == front_serial_ && !large_.empty()) {
        large_.front().arrived(what.number, what.piece, std::move(completion.result));
      }
      continue;
    }
    --small_under_way_;
    if (completion.result.ok()) {
      reply_data(what.cookie, what.piece, *std::move(completion.result), true);
    } else {
      reply_store_error(what.cookie, what.piece.offset, std::move(completion.result).status());
    }
  }
  arrived_.clear();
  pump_large();
}

/// Moves the large read at the front as far as it goes: asks for pieces while its window and the
/// bounds allow, and sends what has come in order. The bound leaves out the held replies, which
/// cannot be sent before this read is through, and is waived for a read with nothing under way: so
/// it always goes on.
void Transmission::pump_large() {
  while (!large_.empty()) {
    LargeRead& large = large_.front();
    const auto may_ask = [&] {
      return large.nothing_under_way() || bytes_under_way_ + out_.payload_bytes() < kMaxBytes;
    };
    while (large.can_ask() && may_ask()) {
      uint32_t number = 0;
      const LargeRead::Piece piece = large.ask(number);
      PinnedRange range;
      if (export_.object->try_read(piece.offset, piece.length, range)) {
        large.arrived(number, piece, std::move(range));
      } else {
        ask_store({.cookie = large.cookie(),
                   .piece = piece,
                   .read = {},
                   .large = front_serial_,
                   .number = number});
      }
    }
    std::optional<LargeRead::Arrival> arrival = large.leave();
    if (!arrival) return;
    send_piece(large, *std::move(arrival));
    if (!violation_.empty()) return;
  }
}

void Transmission::send_piece(LargeRead& large, LargeRead::Arrival arrival) {
  const LargeRead::Piece piece = arrival.piece;
  if (!arrival.result.ok()) {
    if (streaming_) {
      violation_ = "a read failed after a part of its simple reply was sent";
      error_ = std::move(arrival.result).status();
      ++tally_.errors;
      return;
    }
    reply_store_error(large.cookie(), piece.offset, std::move(arrival.result).status());
    finish_large();
    return;
  }
  const bool done = large.done();
  switch (large.kind()) {
    case LargeRead::Kind::kChunks:
      reply_data(large.cookie(), piece, *std::move(arrival.result), done);
      break;
    case LargeRead::Kind::kStream: {
      Reply& reply = out_.push();
      if (piece.offset == large.begin()) {
        reply.header_bytes = nbd::encode_simple_reply(reply.header, large.cookie(), 0);
      }
      reply.range = *std::move(arrival.result);
      reply.payload_bytes = piece.length;
      reply.ends_request = done;
      out_.finish();
      streaming_ = !done;
      break;
    }
    case LargeRead::Kind::kWarm:
      if (done) reply_done(large.cookie());
      break;
  }
  if (done) finish_large();
}

/// The front large read is through, well or badly. Pieces of it that are still under way are
/// cancelled; collect() drops them by their serial number.
void Transmission::finish_large() {
  for (UnderWay& slot : slots_) {
    if (slot.used && slot.large == front_serial_) slot.read.cancel();
  }
  large_.pop_front();
  ++front_serial_;
  out_.append(held_);
}

void Transmission::reply_data(uint64_t cookie, LargeRead::Piece piece, PinnedRange range,
                              bool done) {
  ReplyQueue& queue_now = queue();
  Reply& reply = queue_now.push();
  reply.header_bytes =
      structured_ ? nbd::encode_data_chunk(reply.header, cookie, piece.offset, piece.length, done)
                  : nbd::encode_simple_reply(reply.header, cookie, 0);
  reply.range = std::move(range);
  reply.payload_bytes = piece.length;
  reply.ends_request = done;
  queue_now.finish();
}

void Transmission::reply_done(uint64_t cookie) {
  ReplyQueue& queue_now = queue();
  Reply& reply = queue_now.push();
  reply.header_bytes = structured_ ? nbd::encode_none_chunk(reply.header, cookie)
                                   : nbd::encode_simple_reply(reply.header, cookie, 0);
  queue_now.finish();
}

void Transmission::reply_error(uint64_t cookie, uint32_t error, std::string_view text,
                               std::optional<uint64_t> offset) {
  ReplyQueue& queue_now = queue();
  Reply& reply = queue_now.push();
  if (structured_) {
    const std::string chunk = nbd::encode_error_chunk(cookie, error, text, offset);
    const auto* bytes = reinterpret_cast<const std::byte*>(chunk.data());
    reply.owned.assign(bytes, bytes + chunk.size());
    reply.payload_bytes = chunk.size();
  } else {
    reply.header_bytes = nbd::encode_simple_reply(reply.header, cookie, error);
  }
  queue_now.finish();
  ++tally_.errors;
}

/// The client learns that it failed and where; the reason may speak of our files, so it goes to the
/// log.
void Transmission::reply_store_error(uint64_t cookie, uint64_t offset, absl::Status status) {
  if (shutting_down_) {
    reply_error(cookie, nbd::kEShutdown, "the server is shutting down");
    return;
  }
  reply_error(cookie, nbd_error(status), "the server could not read this range", offset);
  error_ = std::move(status);
}

void Transmission::shut_down() {
  ended_ = true;
  shutting_down_ = true;
  if (streaming_) {
    violation_ = "the server is shutting down and a simple reply is half sent";
    return;
  }
  while (!large_.empty()) {
    reply_error(large_.front().cookie(), nbd::kEShutdown, "the server is shutting down");
    finish_large();
  }
  for (UnderWay& slot : slots_) {
    if (slot.used) slot.read.cancel();
  }
}

Transmission::Tally Transmission::take_tally() { return std::exchange(tally_, Tally{}); }

absl::Status Transmission::take_error() { return std::exchange(error_, absl::OkStatus()); }

}  // namespace blobcache::blockdev
