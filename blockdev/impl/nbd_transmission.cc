#include "blockdev/impl/nbd_transmission.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

#include "blockdev/impl/nbd_protocol.h"

namespace blobcache::blockdev {
namespace {

// The ids of completions: the side that they belong to, and a slot of it.
constexpr uint32_t kReads = 0U << 28;
constexpr uint32_t kStatuses = 1U << 28;
constexpr uint32_t kWrites = 2U << 28;
constexpr uint32_t kSideMask = 3U << 28;

/// A client that sent so many requests one by one sends the next one so, too.
constexpr uint32_t kSingles = 4;

RequestRules rules_of(const Device& device, nbd::HeaderStyle style, MetaContextSet contexts) {
  return {.size_bytes = device.size_bytes(),
          .read_only = device.read_only(),
          .can_zero_fast = device.can_zero_fast(),
          .has_contexts = !contexts.empty(),
          .style = style};
}

}  // namespace

Transmission::Transmission(OpenExport opened, nbd::HeaderStyle style, MetaContextSet contexts,
                           const TransmissionLimits& limits,
                           std::shared_ptr<CompletionQueue> completions, ByteAllowance& payloads)
    : export_(std::move(opened)),
      rules_(rules_of(*export_.device, style, contexts)),
      max_requests_(std::max<size_t>(limits.max_requests, 1)),
      completions_(std::move(completions)),
      replies_(style),
      reads_(*export_.device, replies_, *completions_, kReads,
             {.share_bytes = std::max<uint64_t>(limits.share_bytes, 1),
              .warm_bytes = std::max<uint64_t>(limits.warm_bytes, 1)}),
      statuses_(*export_.device, replies_, *completions_, kStatuses, contexts),
      writes_(*export_.device, replies_, *completions_, kWrites, payloads) {}

Transmission::~Transmission() {
  reads_.cancel();
  statuses_.cancel();
  completions_->drain();
}

size_t Transmission::requests() const {
  return reads_.requests() + statuses_.requests() + writes_.requests() + replies_.out().requests() +
         replies_.held().requests();
}

bool Transmission::wants_input() const {
  if (ended_ || !violation_.empty()) return false;
  if (writes_.receiving()) return writes_.can_receive();
  return requests() < max_requests_ && reads_.has_room();
}

bool Transmission::finished() const {
  return ended_ && reads_.idle() && statuses_.requests() == 0 && writes_.requests() == 0 &&
         replies_.out().empty() && replies_.held().empty();
}

void Transmission::consume(nbd::Bytes& input, bool client_waits) {
  // A volume may have grown since the handshake told its size.
  rules_.size_bytes = export_.device->size_bytes();
  const size_t header = header_bytes();
  while (!ended_ && violation_.empty()) {
    if (writes_.receiving() && !writes_.receive(input)) break;
    if (input.size() < header || !wants_input()) break;
    const std::optional<nbd::Request> request = rules_.style == nbd::HeaderStyle::kExtended
                                                    ? nbd::decode_extended_request(input)
                                                    : nbd::decode_request(input);
    if (!request) {
      violation_ = "a request had the wrong magic";
      break;
    }
    input.remove_prefix(header);
    ++requests_;
    singles_ = input.empty() && requests() == 0 ? singles_ + 1 : 0;
    handle(*request, client_waits && singles_ > kSingles);
  }
  // What a device does at once is answered at once.
  if (completions_->any()) collect();
}

size_t Transmission::header_bytes() const {
  return rules_.style == nbd::HeaderStyle::kExtended ? nbd::kExtendedRequestBytes
                                                     : nbd::kRequestBytes;
}

size_t Transmission::input_room(size_t held) const {
  const bool alone = after_long_payload_ && !writes_.receiving() && held < header_bytes();
  return alone ? header_bytes() - held : std::numeric_limits<size_t>::max();
}

void Transmission::handle(const nbd::Request& request, bool may_block) {
  if (request.type == nbd::kCmdDisc) {
    ended_ = true;
    return;
  }
  const uint64_t payload = payload_bytes(request, rules_.style);
  after_long_payload_ = payload >= WriteSide::kLongPayload;
  if (payload > nbd::kMaxPayload) {
    violation_ = "a payload was longer than 32 MiB";
    return;
  }
  if (const std::optional<Refusal> refusal = check_request(request, rules_)) {
    if (payload > 0) {
      writes_.begin_drain(request, *refusal);
    } else {
      replies_.error({request.cookie, request.offset}, refusal->error, refusal->text);
    }
    return;
  }
  switch (request.type) {
    case nbd::kCmdRead:
      reads_.read(request, may_block);
      break;
    case nbd::kCmdCache:
      reads_.warm(request);
      break;
    case nbd::kCmdBlockStatus:
      statuses_.query(request);
      break;
    case nbd::kCmdWrite:
      writes_.begin_write(request);
      break;
    default:
      writes_.change(request);
      break;
  }
}

void Transmission::collect() {
  completions_->take(arrived_);
  for (Completion& completion : arrived_) {
    const uint32_t slot = completion.id & ~kSideMask;
    switch (completion.id & kSideMask) {
      case kReads:
        reads_.completed(slot, std::move(completion));
        break;
      case kStatuses:
        statuses_.completed(slot, std::move(completion));
        break;
      default:
        writes_.completed(slot, std::move(completion));
        break;
    }
  }
  arrived_.clear();
  reads_.pump();
  if (reads_.broken()) violation_ = "a read failed after a part of its simple reply was sent";
}

void Transmission::end_of_input() {
  ended_ = true;
  writes_.abandon();
}

void Transmission::shut_down() {
  replies_.shut_down();
  end_of_input();
  if (!reads_.shut_down()) {
    violation_ = "the server is shutting down and a simple reply is half sent";
    return;
  }
  statuses_.cancel();
}

Transmission::Tally Transmission::take_tally() {
  return {std::exchange(requests_, 0), replies_.take_errors()};
}

}  // namespace blobcache::blockdev
