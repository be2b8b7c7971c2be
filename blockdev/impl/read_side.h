#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "blockdev/impl/completion_queue.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/large_read.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/replies.h"
#include "blockdev/impl/slot_table.h"
#include "store/page/pending_read.h"

namespace blobcache::blockdev {

/// NBD_CMD_READ and NBD_CMD_CACHE of one connection.
///
/// What is at hand is answered on the spot; else the device is asked, and the answer goes out when
/// it comes, in whatever order. Reads over Device::kMaxRead go piece by piece, one such read at a
/// time, and so does warming, beside them.
///
/// `share_bytes` is about what may be pinned or asked for at once; one more piece may overshoot it,
/// and the pieces of a large read and of a warming. One thread, the connection's.
class ReadSide {
 public:
  struct Limits {
    uint64_t share_bytes = 0;
    uint64_t warm_bytes = 0;  ///< that one NBD_CMD_CACHE brings at most
  };

  /// All must outlive this. Completions of its slots come with ids from `first_id` on.
  ReadSide(Device& device, Replies& replies, CompletionQueue& completions, uint32_t first_id,
           Limits limits)
      : device_(device),
        replies_(replies),
        completions_(completions),
        first_id_(first_id),
        limits_(limits) {}
  ReadSide(const ReadSide&) = delete;
  ReadSide& operator=(const ReadSide&) = delete;

  /// A valid request. `may_block`: the connection has nothing else to do than wait for the disk.
  void read(const nbd::Request& request, bool may_block);
  void warm(const nbd::Request& request);

  /// The device has done what is in this slot.
  void completed(uint32_t slot, Completion completion);
  /// Goes on with what is done in pieces as far as the limits allow.
  void pump();

  /// Cancels all; those in pieces are answered here, the others as they end. False when a simple
  /// reply is half sent, which nothing can end well.
  [[nodiscard]] bool shut_down();
  void cancel();

  /// Requests that have no answer yet.
  [[nodiscard]] size_t requests() const {
    return small_ + reading_.line.size() + warming_.line.size();
  }
  [[nodiscard]] bool idle() const { return requests() == 0 && under_way_.size() == 0; }
  /// Whether the bounds admit another request.
  [[nodiscard]] bool has_room() const {
    return bytes_under_way_ + replies_.out().payload_bytes() + replies_.held().payload_bytes() <
           limits_.share_bytes;
  }
  /// A simple reply was half sent when its read failed: the connection must end.
  [[nodiscard]] bool broken() const { return broken_; }

 private:
  /// Requests that are done in pieces; only the front one moves.
  struct Lane {
    std::deque<LargeRead> line;
    uint64_t front_serial = 1;  // of the front one
  };
  struct UnderWay {
    nbd::Request request;
    LargeRead::Piece piece;
    Lane* lane = nullptr;  // of the large read that it is a piece of; none for a whole one
    uint64_t serial = 0;   // of that
    uint32_t number = 0;   // of the piece
    page::PendingRead read;
  };

  void ask(UnderWay what);
  void pump(Lane& lane);
  void ask_pieces(Lane& lane);
  void send_piece(Lane& lane, LargeRead::Arrival arrival);
  void fail_front(Lane& lane, uint64_t offset, absl::Status status);
  void finish_front(Lane& lane);

  Device& device_;
  Replies& replies_;
  CompletionQueue& completions_;
  const uint32_t first_id_;
  const Limits limits_;

  SlotTable<UnderWay> under_way_;
  size_t small_ = 0;  // of them, whole requests
  uint64_t bytes_under_way_ = 0;
  Lane reading_;
  Lane warming_;
  bool broken_ = false;
};

}  // namespace blobcache::blockdev
