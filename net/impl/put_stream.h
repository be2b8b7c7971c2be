#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <optional>

#include "absl/status/status.h"
#include "net/impl/data_door.h"
#include "net/impl/put_receiver.h"
#include "net/impl/put_slots.h"
#include "store/tree/namespace.h"

namespace blobcache::net {

/// One Data.Put under way. It waits for a slot, then takes one message at a time: gRPC reads it,
/// one of the door's writers checks, hashes and appends it, and only then the next one is read. So
/// a transfer holds one message, gRPC's window and the writer's buffers, whatever the blob's size,
/// and a slow sender holds no thread.
///
/// Owns itself: OnDone(), gRPC's last call, deletes it. There is never more than one call into it
/// at a time but for OnCancel(), which only looks and leaves a flag.
class PutStream final : public grpc::ServerReadReactor<grpc::ByteBuffer>, private PutSlots::Waiter {
 public:
  /// Begins a stream, on behalf of `creator`. The result belongs to gRPC.
  [[nodiscard]] static PutStream* begin(DataDoor& door, const tree::Creator& creator,
                                        grpc::ByteBuffer& response);

  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  PutStream(DataDoor& door, const tree::Creator& creator, grpc::ByteBuffer& response)
      : door_(door), response_(response), receiver_(std::in_place, door.names(), creator) {}

  void on_slot(bool granted) override;
  void advance(bool more);
  [[nodiscard]] absl::Status commit();
  void finish(const absl::Status& status);

  DataDoor& door_;
  grpc::ByteBuffer& response_;
  std::optional<PutReceiver> receiver_;  ///< until the end: destroyed before the caller is answered
  grpc::ByteBuffer message_;
  bool has_slot_ = false;
  std::atomic<bool> cancelled_ = false;
};

}  // namespace blobcache::net
