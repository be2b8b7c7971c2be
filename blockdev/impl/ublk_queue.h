#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "blockdev/impl/command_ring.h"
#include "blockdev/impl/completion_queue.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/ublk_protocol.h"
#include "store/page/pending_read.h"

namespace blobcache::blockdev {

/// One queue of a ublk device and the thread that serves it: it fetches requests from the driver,
/// and answers reads with bytes that it writes from the store's frames into the request's pages
/// (UBLK_F_USER_COPY), one copy and no hop for what memory holds; what is to be written it reads
/// from there. A miss occupies no thread: the queue sleeps on the driver and on its CompletionQueue
/// at once.
///
/// The driver ties a queue to the thread that fetches first. When the ring goes with requests
/// unanswered the driver keeps them for who recovers the device.
///
/// start() and stop() are for one thread. The device is used until stop() has returned.
class UblkQueue {
 public:
  struct Place {
    int device = -1;  ///< /dev/ublkcN; stays open until the queue is gone
    uint16_t queue = 0;
    uint16_t depth = 0;
  };

  /// Maps the queue and starts its thread, which fetches at once.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<UblkQueue>> start(const Place& place,
                                                                        DeviceRef device);
  ~UblkQueue();
  UblkQueue(const UblkQueue&) = delete;
  UblkQueue& operator=(const UblkQueue&) = delete;

  /// Ends the thread: at once, or, once the driver has stopped the device, when it has given
  /// everything back.
  void stop();

 private:
  UblkQueue(const Place& place, DeviceRef device, std::shared_ptr<CompletionQueue> completions,
            std::unique_ptr<CommandRing> ring);

  [[nodiscard]] absl::Status map();
  void run();
  void serve();
  void on_fetched(uint16_t tag, int result);
  void begin(uint16_t tag);
  void begin_read(uint16_t tag, const ublksrv_io_desc& request);
  void begin_write(uint16_t tag, const ublksrv_io_desc& request);
  void answer(const Completion& done);
  [[nodiscard]] int copy(uint16_t tag, absl::Span<const iovec> pieces) const;
  [[nodiscard]] int fetch_payload(uint16_t tag, absl::Span<std::byte> into) const;
  void tell(uint32_t operation, uint16_t tag, int result);

  const Place place_;
  const DeviceRef device_;
  const std::shared_ptr<CompletionQueue> completions_;
  const ublksrv_io_desc* descriptors_ = nullptr;  // of the driver, by tag
  size_t mapped_bytes_ = 0;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;

  // The thread's own.
  std::unique_ptr<CommandRing> ring_;
  std::vector<page::PendingRead> reads_;          // by tag
  std::vector<std::vector<std::byte>> payloads_;  // by tag
  uint32_t with_driver_ = 0;                      // commands that the driver has
};

}  // namespace blobcache::blockdev
