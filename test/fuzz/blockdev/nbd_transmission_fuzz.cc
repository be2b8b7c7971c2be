// Whatever requests a client sends, the device is asked only for what it may be asked for, and the
// replies are whole messages of the style that was agreed on.

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "blockdev/impl/big_endian.h"
#include "blockdev/impl/byte_allowance.h"
#include "blockdev/impl/completion_queue.h"
#include "blockdev/impl/export_directory.h"
#include "blockdev/impl/meta_contexts.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_reply_codec.h"
#include "blockdev/impl/nbd_transmission.h"
#include "blockdev/impl/reply_queue.h"
#include "test/fuzz/blockdev/fuzz_device.h"

namespace {

namespace blockdev = blobcache::blockdev;
namespace nbd = blobcache::blockdev::nbd;
using nbd::HeaderStyle;

/// Takes what is to be sent out of the queue.
void drain(blockdev::ReplyQueue& replies, std::vector<std::byte>& sent) {
  std::array<iovec, 64> pieces{};
  while (!replies.empty()) {
    const size_t count = replies.gather(absl::MakeSpan(pieces));
    if (count == 0) std::abort();
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto* from = static_cast<const std::byte*>(pieces[i].iov_base);
      sent.insert(sent.end(), from, from + pieces[i].iov_len);
      bytes += pieces[i].iov_len;
    }
    replies.sent(bytes);
  }
}

/// Takes the whole replies off the front, which tell their own length.
void take_chunks(std::vector<std::byte>& sent, HeaderStyle style) {
  const bool extended = style == HeaderStyle::kExtended;
  const size_t header = extended ? nbd::kExtendedChunkHeaderBytes : nbd::kChunkHeaderBytes;
  const uint32_t magic = extended ? nbd::kExtendedReplyMagic : nbd::kStructuredReplyMagic;
  size_t at = 0;
  while (sent.size() - at >= header) {
    const std::byte* reply = sent.data() + at;
    if (nbd::load<uint32_t>(reply) != magic) std::abort();
    const uint64_t length =
        extended ? nbd::load<uint64_t>(reply + 24) : nbd::load<uint32_t>(reply + 16);
    if (length > sent.size() - at - header) break;
    at += header + length;
  }
  sent.erase(sent.begin(), sent.begin() + static_cast<std::ptrdiff_t>(at));
}

void run(nbd::Bytes input, HeaderStyle style, bool writable, size_t step) {
  blockdev::ByteAllowance payloads(0);
  auto completions = blockdev::CompletionQueue::create();
  if (!completions.ok()) return;
  blockdev::Transmission transmission({"", std::make_shared<blockdev::FuzzDevice>(writable)}, style,
                                      {.allocation = true, .tier = true}, {.max_requests = 3},
                                      *std::move(completions), payloads);
  std::vector<std::byte> sent;
  std::vector<std::byte> rest;
  while (!input.empty() && transmission.violation().empty()) {
    const nbd::Bytes piece = input.first(std::min(step, input.size()));
    input.remove_prefix(piece.size());
    rest.insert(rest.end(), piece.begin(), piece.end());
    // Until nothing moves any more.
    size_t before = 0;
    do {
      before = rest.size();
      nbd::Bytes bytes(rest);
      transmission.consume(bytes);
      rest.erase(rest.begin(), rest.end() - static_cast<std::ptrdiff_t>(bytes.size()));
      transmission.collect();
      drain(transmission.replies(), sent);
      if (style == HeaderStyle::kSimple) sent.clear();
      take_chunks(sent, style);
    } while (rest.size() < before);
  }
  transmission.end_of_input();
  transmission.collect();
  drain(transmission.replies(), sent);
  if (!transmission.finished()) std::abort();
  if (style == HeaderStyle::kSimple) return;
  take_chunks(sent, style);
  if (!sent.empty()) std::abort();
}

}  // namespace

/// The first byte says what was agreed on.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const void* bytes = data;
  const nbd::Bytes input(static_cast<const std::byte*>(bytes), size);
  const auto style = static_cast<HeaderStyle>(data[0] % 3);
  const bool writable = (data[0] & 0x40) != 0;
  const size_t step = (data[0] & 0x80) == 0 ? size : 5;
  run(input.subspan(1), style, writable, step);
  return 0;
}
