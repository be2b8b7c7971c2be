// Whatever a client says in the handshake, the server answers in whole option replies or closes,
// the same in whatever pieces it comes.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockdev/impl/big_endian.h"
#include "blockdev/impl/export_directory.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_handshake.h"
#include "blockdev/tls.h"
#include "test/fuzz/blockdev/fuzz_device.h"

namespace {

namespace blockdev = blobcache::blockdev;
namespace nbd = blobcache::blockdev::nbd;
using State = blockdev::Handshake::State;

class Directory : public blockdev::ExportDirectory {
 public:
  absl::StatusOr<blockdev::OpenExport> open(std::string_view name) override {
    if (name.size() > 1) return absl::NotFoundError("");
    return blockdev::OpenExport{std::string(name),
                                std::make_shared<blockdev::FuzzDevice>(name == "w")};
  }
  absl::StatusOr<blockdev::ExportList> list(size_t /*limit*/) override {
    return blockdev::ExportList{{{"", 1}, {"w", 1}}, {}};
  }
};

struct Outcome {
  State state = State::kNegotiating;
  std::string said;
  size_t left = 0;
};

/// Feeds at most `step` bytes at a time; TLS always begins well.
Outcome run(nbd::Bytes input, size_t step) {
  Directory directory;
  blockdev::Handshake handshake(directory, blockdev::TlsMode::kAllow);
  Outcome outcome;
  while (!input.empty() && outcome.state == State::kNegotiating) {
    nbd::Bytes piece = input.first(std::min(step, input.size()));
    const size_t given = piece.size();
    outcome.state = handshake.advance(piece, outcome.said);
    input.remove_prefix(given - piece.size());
    if (outcome.state == State::kStartTls) {
      handshake.tls_started();
      outcome.state = State::kNegotiating;
    }
  }
  outcome.left = input.size();
  return outcome;
}

/// Every reply is whole.
void check_replies(std::string_view said) {
  constexpr size_t kHeader = 20;
  while (said.size() >= kHeader) {
    const void* text = said.data();
    const auto* at = static_cast<const std::byte*>(text);
    if (nbd::load<uint64_t>(at) != nbd::kOptionReplyMagic) return;  // that of EXPORT_NAME
    const auto length = nbd::load<uint32_t>(at + 16);
    if (length > said.size() - kHeader) std::abort();
    said.remove_prefix(kHeader + length);
  }
  if (!said.empty() && said.size() != 10) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const void* bytes = data;
  const nbd::Bytes input(static_cast<const std::byte*>(bytes), size);
  const Outcome whole = run(input, std::max<size_t>(size, 1));
  check_replies(whole.said);
  const Outcome pieces = run(input, 7);
  if (pieces.state != whole.state || pieces.said != whole.said || pieces.left != whole.left) {
    std::abort();
  }
  return 0;
}
