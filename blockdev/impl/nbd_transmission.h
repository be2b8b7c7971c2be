#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "blockdev/impl/completion_queue.h"
#include "blockdev/impl/large_read.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_handshake.h"
#include "blockdev/impl/reply_queue.h"

namespace blobcache::blockdev {

/// The transmission phase of one connection without its socket: requests in, replies out.
///
/// A read that RAM holds is answered on the spot: its frames are pinned into the reply, and nothing
/// is allocated or copied. A miss is asked of the store and answered when it comes, in whatever
/// order; its callback runs on a thread of the store and only fills the CompletionQueue. Reads over
/// Object::kMaxRead go piece by piece, one such read at a time.
///
/// Everything is bounded: requests in flight, and bytes pinned or asked for (kMaxBytes, which one
/// more piece may overshoot, and the pieces of one large read). At the bound consume() takes no
/// more, so the client waits in its socket. One thread, the connection's. Destroying it cancels
/// what is under way and waits for the store to confirm, so that no callback outlives the export.
class Transmission {
 public:
  static constexpr uint64_t kMaxBytes = uint64_t{32} << 20;
  /// A write is refused only after its payload has been read past; one longer than this ends the
  /// connection instead.
  static constexpr uint64_t kMaxDrained = uint64_t{64} << 20;

  /// What happened since the last call of take_tally(). Value type.
  struct Tally {
    uint64_t requests = 0;
    uint64_t errors = 0;
  };

  Transmission(OpenExport opened, bool structured_replies, size_t max_requests,
               std::shared_ptr<CompletionQueue> completions);
  Transmission(const Transmission&) = delete;
  Transmission& operator=(const Transmission&) = delete;
  ~Transmission();

  /// Handles the requests at the front of `input` and takes their bytes off it. What stays is part
  /// of a request, or more than the bounds admit now, or came after the end.
  void consume(nbd::Bytes& input);
  /// Turns the reads that the store has finished into replies, and asks for more pieces.
  void collect();
  /// Fails what is under way with NBD_ESHUTDOWN and takes no more requests.
  void shut_down();
  /// The client will send no more: what is in flight is still answered.
  void end_of_input() { ended_ = true; }

  [[nodiscard]] ReplyQueue& replies() { return out_; }
  /// Replies that wait for a long simple reply to end; they come into replies() then.
  [[nodiscard]] ReplyQueue& held() { return held_; }

  /// False at the bounds, and after the end.
  [[nodiscard]] bool wants_input() const;
  /// True while the store owes an answer.
  [[nodiscard]] bool waits_for_store() const { return under_way_ > 0; }
  /// True when the client has said goodbye (or is gone) and everything is answered and sent.
  [[nodiscard]] bool finished() const;
  /// Not empty when the client broke the protocol, or a reply cannot be completed: close at once.
  [[nodiscard]] std::string_view violation() const { return violation_; }

  [[nodiscard]] Tally take_tally();
  /// The last error of the store that became a reply (or a violation), once; OK when there was
  /// none.
  [[nodiscard]] absl::Status take_error();
  [[nodiscard]] const std::string& export_name() const { return export_.name; }

 private:
  /// A read that the store works on; ids of completions are indices of these.
  struct UnderWay {
    uint64_t cookie = 0;
    LargeRead::Piece piece;
    page::PendingRead read;
    uint64_t large =
        0;  // the serial number of the large read that it is a piece of; 0 for a whole one
    uint32_t number = 0;  // of the piece
    bool used = false;
  };

  void handle(const nbd::Request& request);
  void handle_read(const nbd::Request& request);
  void handle_cache(const nbd::Request& request);
  [[nodiscard]] bool inside(const nbd::Request& request) const;
  bool reply_hit(uint64_t cookie, uint64_t offset, uint32_t length);
  void ask_store(UnderWay what);
  void pump_large();
  void send_piece(LargeRead& large, LargeRead::Arrival arrival);
  void finish_large();
  void reply_data(uint64_t cookie, LargeRead::Piece piece, page::PinnedRange range, bool done);
  void reply_done(uint64_t cookie);
  void reply_error(uint64_t cookie, uint32_t error, std::string_view text,
                   std::optional<uint64_t> offset = std::nullopt);
  void reply_store_error(uint64_t cookie, uint64_t offset, absl::Status status);
  [[nodiscard]] ReplyQueue& queue() { return streaming_ ? held_ : out_; }
  [[nodiscard]] uint64_t bytes_in_flight() const;

  const OpenExport export_;
  const uint64_t size_bytes_;
  const bool structured_;
  const size_t max_requests_;
  const std::shared_ptr<CompletionQueue> completions_;

  ReplyQueue out_;
  ReplyQueue held_;         // replies that must not cut into a simple reply under way
  bool streaming_ = false;  // the front of large_ is a simple reply whose header is queued

  std::vector<UnderWay> slots_;
  std::vector<uint32_t> free_slots_;
  size_t under_way_ = 0;        // slots in use
  size_t small_under_way_ = 0;  // of them, whole requests
  uint64_t bytes_under_way_ = 0;
  std::deque<LargeRead> large_;  // only the front one moves
  uint64_t front_serial_ = 1;    // of large_.front()
  std::vector<Completion> arrived_;

  std::optional<nbd::Request> drained_;  // a write whose payload is being read past
  uint64_t drain_left_ = 0;
  bool ended_ = false;
  bool shutting_down_ = false;
  std::string_view violation_;
  Tally tally_;
  absl::Status error_;
};

}  // namespace blobcache::blockdev
