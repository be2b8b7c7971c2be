#include "blockdev/impl/replies.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status.h"

namespace blobcache::blockdev {

bool Replies::hit(Device& device, const nbd::Request& request) {
  ReplyQueue& queue = line();
  Reply& reply = queue.push();
  if (!device.try_read(request.offset, request.length, reply.range)) {
    queue.drop_last();
    return false;
  }
  const auto length = static_cast<uint32_t>(request.length);
  if (codec_.chunks() && reply.range.has_zeros()) {
    DeviceBytes bytes{std::move(reply.range), {}};
    queue.drop_last();
    const bool one_chunk = (request.flags & nbd::kCmdFlagDf) != 0;
    data(nbd::RequestId::of(request), request.offset, length, std::move(bytes), one_chunk,
         /*last=*/true);
    return true;
  }
  reply.header_bytes = codec_.encode_data(reply.header, nbd::RequestId::of(request), request.offset,
                                          length, /*done=*/true);
  reply.payload_bytes = length;
  queue.finish();
  return true;
}

void Replies::data(nbd::RequestId to, uint64_t offset, uint32_t length, DeviceBytes bytes,
                   bool one_chunk, bool last) {
  page::PinnedRange& range = bytes.range;
  if (!codec_.chunks() || !bytes.owned.empty() || !range.has_zeros()) {
    data_chunk(to, offset, length, std::move(bytes), last);
    return;
  }
  if (range.all_zeros()) {
    hole(to, offset, length, last);
    return;
  }
  if (one_chunk) {
    data_chunk(to, offset, length, std::move(bytes), last);
    return;
  }
  while (!range.pieces().empty()) {
    DeviceBytes front;
    range.take_front(front.range);
    const bool ends = last && range.pieces().empty();
    const auto part = static_cast<uint32_t>(front.range.size_bytes());
    if (front.range.all_zeros()) {
      hole(to, offset, part, ends);
    } else {
      data_chunk(to, offset, part, std::move(front), ends);
    }
    offset += part;
  }
}

void Replies::data_chunk(nbd::RequestId to, uint64_t offset, uint32_t length, DeviceBytes bytes,
                         bool last) {
  ReplyQueue& queue = line();
  Reply& reply = queue.push();
  reply.header_bytes = codec_.encode_data(reply.header, to, offset, length, last);
  reply.range = std::move(bytes.range);
  reply.owned = std::move(bytes.owned);
  reply.payload_bytes = length;
  reply.ends_request = last;
  queue.finish();
}

void Replies::hole(nbd::RequestId to, uint64_t offset, uint32_t length, bool last) {
  ReplyQueue& queue = line();
  Reply& reply = queue.push();
  reply.header_bytes = codec_.encode_hole(reply.header, to, offset, length, last);
  reply.ends_request = last;
  queue.finish();
}

void Replies::done(nbd::RequestId to) {
  ReplyQueue& queue = line();
  Reply& reply = queue.push();
  reply.header_bytes = codec_.encode_done(reply.header, to);
  queue.finish();
}

void Replies::owned(absl::Span<const std::byte> message, bool last) {
  ReplyQueue& queue = line();
  Reply& reply = queue.push();
  reply.payload_bytes = message.size();
  reply.owned = ByteBuffer::copy_of(message);
  reply.ends_request = last;
  queue.finish();
}

void Replies::error(nbd::RequestId to, uint32_t error, std::string_view text,
                    std::optional<uint64_t> offset) {
  ++errors_;
  if (codec_.chunks()) {
    owned(codec_.encode_error(to, error, text, offset), /*last=*/true);
    return;
  }
  ReplyQueue& queue = line();
  Reply& reply = queue.push();
  reply.header_bytes = nbd::ReplyCodec::encode_simple_error(reply.header, to, error);
  queue.finish();
}

void Replies::failed(const nbd::Request& request, uint64_t offset, absl::Status status) {
  const nbd::RequestId to = nbd::RequestId::of(request);
  if (shutting_down_) {
    error(to, nbd::kEShutdown, "the server is shutting down");
    return;
  }
  const uint32_t number = error_of(status, request);
  // Where exactly, if that is known: the range from `offset` on has a good part, too, then.
  if (const std::optional<uint64_t> place = base::offset_of(status)) {
    if (*place > offset && *place - request.offset < request.length) offset = *place;
  }
  // A flush has no range that the offset could lie in.
  const auto where = request.length == 0 ? std::nullopt : std::make_optional(offset);
  error(to, number, "the server could not do this at the offset", where);
  // The one failure that tells nothing.
  if (number != nbd::kENotSup) reason_ = std::move(status);
}

void Replies::status(nbd::RequestId to, MetaContextSet contexts,
                     absl::Span<const page::MapRun> runs, bool one) {
  const auto tell = [&](MetaContext context, bool last) {
    owned(codec_.encode_status(to, static_cast<uint32_t>(context), status_runs(context, runs, one),
                               last),
          last);
  };
  if (contexts.allocation) tell(MetaContext::kAllocation, !contexts.tier);
  if (contexts.tier) tell(MetaContext::kTier, true);
}

void Replies::begin_stream(nbd::RequestId to, uint64_t offset, uint32_t total) {
  // It may fail half way, so the header of its one chunk does not call it the last.
  stream_header_bytes_ = codec_.encode_data(stream_header_, to, offset, total, /*done=*/false);
  streaming_ = true;
}

void Replies::stream(nbd::RequestId to, uint32_t length, DeviceBytes bytes, bool last) {
  Reply& reply = out_.push();
  reply.header = stream_header_;
  reply.header_bytes = std::exchange(stream_header_bytes_, 0);
  reply.range = std::move(bytes.range);
  reply.owned = std::move(bytes.owned);
  reply.payload_bytes = length;
  reply.ends_request = last && !codec_.chunks();
  out_.finish();
  if (!last) return;
  streaming_ = false;
  if (codec_.chunks()) done(to);
  out_.append(held_);
}

void Replies::fail_stream(const nbd::Request& request, uint64_t offset, uint64_t missing,
                          absl::Status status) {
  while (missing > 0) {
    const auto length = static_cast<uint32_t>(std::min(missing, Device::kMaxRead));
    ByteBuffer zeros(length);
    std::memset(zeros.data(), 0, length);
    stream(nbd::RequestId::of(request), length, {{}, std::move(zeros)}, /*last=*/false);
    missing -= length;
  }
  streaming_ = false;
  failed(request, offset, std::move(status));
  out_.append(held_);
}

uint64_t Replies::take_errors() { return std::exchange(errors_, 0); }

absl::Status Replies::take_reason() { return std::exchange(reason_, absl::OkStatus()); }

void Replies::count_error(absl::Status reason) {
  ++errors_;
  reason_ = std::move(reason);
}

}  // namespace blobcache::blockdev
