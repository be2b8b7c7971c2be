#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "blobcache.pb.h"
#include "net/impl/data_door.h"
#include "net/impl/pin_ledger.h"
#include "net/impl/wire.h"
#include "store/page/object.h"

namespace blobcache::net {

/// One Data.Read under way. No thread waits for it: it is driven by gRPC (a message went out), by
/// the page store (pages came in) and by the caller's cancellation. At any time at most one piece
/// is being read, one is being sent and kAhead are ready to be sent.
///
///     pump(): while there is something to do: send what is ready; read ahead; finish
///
/// One thread pumps at a time, and it alone ends the stream; so whoever pumps may touch the stream
/// until then. Others leave their news under the mutex and go.
///
/// What a hit needs happens on the thread that is there; an answer made of fetched pages is made on
/// one of the door's own threads, so that the page store's are not kept.
///
/// Owns itself: OnDone(), gRPC's last call, deletes it. All else may come from several threads at
/// once.
class ReadStream final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  static constexpr size_t kAhead = 2;

  /// Begins a stream. The result belongs to gRPC.
  [[nodiscard]] static ReadStream* begin(DataDoor& door, grpc::CallbackServerContext& context,
                                         const grpc::ByteBuffer& request);

  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  enum class Step : uint8_t { kNothing, kSend, kSendLast, kRead, kFinish };

  ReadStream(DataDoor& door, grpc::CallbackServerContext& context);

  /// Opens what is asked for, here or on a thread that may wait.
  void begin(const grpc::ByteBuffer& request);
  [[nodiscard]] absl::Status open(const v1::ReadRequest& request);
  /// Goes on when it is open, or not to be had.
  void opened(absl::Status status) ABSL_LOCKS_EXCLUDED(mutex_);
  void pump();
  /// Whether the calling thread is to pump: true once until next_step() finds nothing to do.
  [[nodiscard]] bool claim() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void pump_claimed();
  [[nodiscard]] Step next_step();
  void read_piece();
  void read_later(uint64_t offset, uint64_t length);
  /// Takes in what was read; nothing else reads meanwhile. Claims in the same breath, as the stream
  /// may be gone afterwards: true when the calling thread is to pump.
  [[nodiscard]] bool accept(absl::StatusOr<page::PinnedRange> range) ABSL_LOCKS_EXCLUDED(mutex_);
  [[nodiscard]] grpc::ByteBuffer encode(page::PinnedRange range);
  void finish();
  /// Where the piece that begins at `offset` ends: pieces end on multiples of the message size, so
  /// that all but the first begin on a page.
  [[nodiscard]] uint64_t piece_end(uint64_t offset) const;

  DataDoor& door_;
  const std::shared_ptr<CutHandle> handle_;
  page::ObjectRef object_;
  uint64_t end_ = 0;  ///< fixed once opened() is called

  absl::Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 0;  ///< where the next piece begins
  std::deque<grpc::ByteBuffer> ready_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  page::PendingRead pending_ ABSL_GUARDED_BY(mutex_);
  bool reading_ ABSL_GUARDED_BY(mutex_) = true;  ///< also until it is open
  bool sending_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  bool pumping_ ABSL_GUARDED_BY(mutex_) = false;

  std::optional<FileFacts>
      facts_;                 ///< belongs to the read under way; until the first message took them
  grpc::ByteBuffer current_;  ///< belongs to the send under way
};

}  // namespace blobcache::net
