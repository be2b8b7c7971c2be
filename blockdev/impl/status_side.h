#pragma once

#include <cstddef>
#include <cstdint>

#include "blockdev/impl/completion_queue.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/meta_contexts.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/replies.h"
#include "blockdev/impl/slot_table.h"
#include "store/page/pending_read.h"

namespace blobcache::blockdev {

/// NBD_CMD_BLOCK_STATUS of one connection, in the metadata contexts that it has chosen. One thread,
/// the connection's.
class StatusSide {
 public:
  /// As many runs does one reply tell of at most.
  static constexpr size_t kMaxRuns = 4096;

  /// All must outlive this. Completions of its slots come with ids from `first_id` on.
  StatusSide(Device& device, Replies& replies, CompletionQueue& completions, uint32_t first_id,
             MetaContextSet contexts)
      : device_(device),
        replies_(replies),
        completions_(completions),
        first_id_(first_id),
        contexts_(contexts) {}
  StatusSide(const StatusSide&) = delete;
  StatusSide& operator=(const StatusSide&) = delete;

  /// A valid request.
  void query(const nbd::Request& request);
  /// The device has done what is in this slot.
  void completed(uint32_t slot, Completion completion);
  void cancel();

  [[nodiscard]] size_t requests() const { return under_way_.size(); }

 private:
  struct UnderWay {
    nbd::Request request;
    page::PendingRead map;
  };

  Device& device_;
  Replies& replies_;
  CompletionQueue& completions_;
  const uint32_t first_id_;
  const MetaContextSet contexts_;
  SlotTable<UnderWay> under_way_;
};

}  // namespace blobcache::blockdev
