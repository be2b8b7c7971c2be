#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "blockdev/impl/byte_allowance.h"
#include "blockdev/impl/completion_queue.h"
#include "blockdev/impl/export_directory.h"
#include "blockdev/impl/meta_contexts.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_reply_codec.h"
#include "blockdev/impl/nbd_rules.h"
#include "blockdev/impl/read_side.h"
#include "blockdev/impl/replies.h"
#include "blockdev/impl/reply_queue.h"
#include "blockdev/impl/status_side.h"
#include "blockdev/impl/write_side.h"

namespace blobcache::blockdev {

/// What a connection may have under way. Value type.
struct TransmissionLimits {
  static constexpr uint64_t kShareBytes = uint64_t{32} << 20;
  static constexpr uint64_t kWarmBytes = uint64_t{256} << 20;

  size_t max_requests = 128;
  uint64_t share_bytes = kShareBytes;  ///< pinned or asked for; see ReadSide
  uint64_t warm_bytes = kWarmBytes;    ///< that one NBD_CMD_CACHE brings at most
};

/// The transmission phase of one connection without its socket: requests in, replies out.
///
/// A request is checked (nbd_rules.h), and then is the business of one of three sides: reads, block
/// status, and what changes the device. A callback of the device only fills the CompletionQueue.
///
/// Everything is bounded: requests in flight, bytes pinned or asked for, payloads. At a bound
/// consume() takes no more, so the client waits in its socket. One thread, the connection's.
/// Destroying it cancels what is under way and waits for the device to confirm, so that no callback
/// outlives the export.
class Transmission {
 public:
  /// What happened since the last call of take_tally(). Value type.
  struct Tally {
    uint64_t requests = 0;
    uint64_t errors = 0;
  };

  /// `payloads` must outlive this.
  Transmission(OpenExport opened, nbd::HeaderStyle style, MetaContextSet contexts,
               const TransmissionLimits& limits, std::shared_ptr<CompletionQueue> completions,
               ByteAllowance& payloads);
  Transmission(const Transmission&) = delete;
  Transmission& operator=(const Transmission&) = delete;
  ~Transmission();

  /// Handles the requests at the front of `input` and takes their bytes off it. What stays is part
  /// of a request, or more than the bounds admit now, or came after the end.
  ///
  /// `client_waits`: lately it has sent nothing before it had all its answers. If requests have
  /// come one by one, too, a read of the disk is waited for here.
  void consume(nbd::Bytes& input, bool client_waits = false);
  /// Where the next bytes of a payload may be received without a detour through consume()'s input,
  /// which must be empty: perhaps nowhere. received() tells how many came.
  [[nodiscard]] absl::Span<std::byte> payload_target() const { return writes_.target(); }
  void payload_received(size_t bytes) { writes_.received(bytes); }
  [[nodiscard]] bool after_long_payload() const { return after_long_payload_; }
  /// How many bytes are worth having in consume()'s input, of which `held` are there: behind a long
  /// payload those of the next request alone, since another such payload may follow it.
  [[nodiscard]] size_t input_room(size_t held) const;
  /// Turns what the device has done into replies, and asks for more pieces.
  void collect();
  /// Fails what is under way with NBD_ESHUTDOWN and takes no more requests.
  void shut_down();
  /// The client will send no more: what is in flight is still answered.
  void end_of_input();
  /// Memory that nobody uses and other connections may want; and gives it back.
  [[nodiscard]] bool has_spare() const { return writes_.has_spare(); }
  void free_spare() { writes_.free_spare(); }

  [[nodiscard]] ReplyQueue& replies() { return replies_.out(); }
  /// Replies that wait for a long one to be through; they pin memory, too.
  [[nodiscard]] ReplyQueue& held() { return replies_.held(); }

  /// False while the client has to wait, and once it has nothing more to say.
  [[nodiscard]] bool wants_input() const;
  /// The client has said goodbye (or is gone) and everything is answered and sent.
  [[nodiscard]] bool finished() const;
  /// Not empty when the client broke the protocol, or a reply cannot be completed: close at once.
  [[nodiscard]] std::string_view violation() const { return violation_; }

  [[nodiscard]] Tally take_tally();
  /// The last error of the device that became a reply (or a violation), once; OK when there was
  /// none.
  [[nodiscard]] absl::Status take_error() { return replies_.take_reason(); }
  [[nodiscard]] const std::string& export_name() const { return export_.name; }

 private:
  void handle(const nbd::Request& request, bool may_block);
  [[nodiscard]] size_t header_bytes() const;
  [[nodiscard]] size_t requests() const;

  const OpenExport export_;
  RequestRules rules_;
  const size_t max_requests_;
  const std::shared_ptr<CompletionQueue> completions_;

  Replies replies_;
  ReadSide reads_;
  StatusSide statuses_;
  WriteSide writes_;
  std::vector<Completion> arrived_;

  bool ended_ = false;
  bool after_long_payload_ = false;
  uint32_t singles_ = 0;  // requests in a row that came with no other under way
  std::string_view violation_;
  uint64_t requests_ = 0;  // since the last take_tally()
};

}  // namespace blobcache::blockdev
