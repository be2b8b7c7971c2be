#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "blockdev/impl/busy_wait.h"
#include "blockdev/impl/byte_allowance.h"
#include "blockdev/impl/completion_queue.h"
#include "blockdev/impl/export_directory.h"
#include "blockdev/impl/log_limiter.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_handshake.h"
#include "blockdev/impl/nbd_transmission.h"
#include "blockdev/impl/wire.h"
#include "blockdev/tls.h"
#include "store/page/thread_ring.h"

namespace blobcache::blockdev {

/// What all connections of a server count together.
struct NbdCounters {
  std::atomic<uint64_t> requests = 0;
  std::atomic<uint64_t> bytes_out = 0;
  std::atomic<uint64_t> bytes_in = 0;
  std::atomic<uint64_t> errors = 0;
};

/// What a server's connections share.
struct NbdShared {
  /// Beside the memory budget; with it the daemon stays within what it is said to take.
  static constexpr uint64_t kCopyBytes = uint64_t{64} << 20;
  static constexpr uint64_t kPayloadBytes = uint64_t{64} << 20;

  explicit NbdShared(uint32_t processors, uint64_t copy_bytes = kCopyBytes)
      : spin_slots(processors), copies(copy_bytes) {}
  NbdCounters counters;
  LogLimiter log;
  SpinSlots spin_slots;
  ByteAllowance copies;
  ByteAllowance payloads{kPayloadBytes};  ///< of what clients write; see PayloadBuffers
};

struct NbdSessionOptions {
  TransmissionLimits limits;
  TlsMode tls = TlsMode::kOff;
  std::shared_ptr<TlsContext> tls_context = nullptr;  ///< unless kOff
  absl::Duration handshake_timeout;
  absl::Duration stall_copy;
  absl::Duration stall_cut;
};

/// One connection and its thread, from the greeting to the close.
///
/// Why a thread a connection: the answer to a hit is two system calls for a whole batch, one recv
/// that brings many requests and one sendmsg that takes many replies straight from the frames;
/// handing the work to another thread would cost more than doing it. A miss does not block the
/// thread while there is anything else to do: it sleeps on the socket and on the CompletionQueue at
/// once.
///
/// A client that keeps requests coming is served without sleeping, see BusyWait, and in batches:
/// after a batch of replies the thread looks at the socket again only when the client has read half
/// of them (or 20 us later), so requests come by several and replies leave by several, and the
/// client, which is not kept waiting, pays for fewer wake-ups too.
///
/// Long writes, which take a batch each, have their answers gathered while the next ones are there
/// already, and only the header of the next request is read behind a payload, since another payload
/// is likely to follow it. A client that has one request at a time under way has its reads of the
/// disk waited for by this thread; see page::AllowBlocking.
///
/// A client that does not read its replies holds pins on frames that others need: after stall_copy
/// they are copied out and unpinned, after stall_cut without a byte of progress the connection is
/// cut; it is cut at once when the server's connections hold as many copies as they may.
///
/// run() is for one thread; the others for any. `exports` and `shared` must outlive it.
class NbdSession {
 public:
  /// `peer` names the client in the log.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<NbdSession>> create(
      base::UniqueFd socket, std::string peer, const NbdSessionOptions& options,
      ExportDirectory& exports, NbdShared& shared);

  /// Serves the connection to its end; the socket is closed when it returns.
  void run();

  /// Whether its handshake is not through yet.
  [[nodiscard]] bool shakes_hands() const { return shakes_hands_.load(std::memory_order_relaxed); }

  /// Ends the connection soon: requests under way fail with NBD_ESHUTDOWN. Idempotent.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  enum class Io : uint8_t { kProgress, kNothing, kDead };

  NbdSession(base::UniqueFd socket, std::string peer, const NbdSessionOptions& options,
             ExportDirectory& exports, NbdShared& shared,
             std::shared_ptr<CompletionQueue> completions);

  bool shake_hands(Handshake& handshake);
  bool start_tls(Clock::time_point deadline);
  bool send_text(std::string& text, Clock::time_point deadline);
  void transmit(Transmission& transmission);
  void begin_stop(Transmission& transmission);
  Io receive(size_t room);
  Io receive(Transmission& transmission);
  Io received(ssize_t n);
  Io flush(ReplyQueue& replies);
  [[nodiscard]] bool let_replies_gather(Transmission& transmission);
  void let_requests_gather();
  Io watch(Transmission& transmission);
  bool wait(Transmission& transmission);
  bool wait_handshake(short events, Clock::time_point deadline);
  bool check_stall(Transmission& transmission, Clock::time_point now);
  bool copy_out(Transmission& transmission);
  void give_copies_back();
  [[nodiscard]] int timeout_ms(Clock::time_point now) const;
  void report(Transmission& transmission);
  void complain(std::string_view what);

  [[nodiscard]] nbd::Bytes input() const {
    return nbd::Bytes(buffer_).subspan(begin_, end_ - begin_);
  }
  void keep(nbd::Bytes rest) { begin_ = end_ - rest.size(); }

  Wire wire_;
  const std::string peer_;
  const NbdSessionOptions options_;
  const std::chrono::nanoseconds stall_copy_;
  const std::chrono::nanoseconds stall_cut_;
  ExportDirectory& exports_;
  NbdCounters& counters_;
  LogLimiter& log_;
  ByteAllowance& copies_;
  ByteAllowance& payloads_;
  BusyWait busy_wait_;
  page::ThreadRing ring_;
  const std::shared_ptr<CompletionQueue> completions_;
  std::atomic<bool> stopping_ = false;
  std::atomic<bool> shakes_hands_ = true;

  std::vector<std::byte> buffer_;  // what came and is not handled: [begin_, end_)
  size_t begin_ = 0;
  size_t end_ = 0;
  bool input_ended_ = false;

  bool sent_ = false;     // something was sent since the last receive()
  uint32_t waits_ = 0;    // how often in a row nothing more was there when something had been sent
  bool blocked_ = false;  // the socket took less than we had
  Clock::time_point progress_time_;
  bool pins_timed_ = false;  // mark_time_ and mark_ are set
  Clock::time_point mark_time_;
  uint64_t mark_ = 0;          // replies queued by mark_time_
  uint64_t copied_bytes_ = 0;  // taken of copies_
  bool stop_begun_ = false;
  Clock::time_point stop_deadline_;
};

}  // namespace blobcache::blockdev
