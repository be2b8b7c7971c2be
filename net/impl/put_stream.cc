#include "net/impl/put_stream.h"

#include <fmt/format.h>

#include "absl/time/clock.h"
#include "base/status.h"
#include "blobcache.pb.h"
#include "net/impl/grpc_status.h"
#include "net/impl/wire.h"

namespace blobcache::net {

PutStream* PutStream::begin(DataDoor& door, const tree::Creator& creator,
                            grpc::ByteBuffer& response) {
  std::unique_ptr<PutStream> stream(new PutStream(door, creator, response));
  if (absl::Status status = door.enter(); !status.ok()) {
    stream->finish(status);
  } else if (door.puts().acquire(*stream, absl::Now())) {
    stream->on_slot(true);
  }
  return stream.release();
}

void PutStream::on_slot(bool granted) {
  has_slot_ = granted;
  if (granted) {
    StartRead(&message_);
    return;
  }
  finish(base::error(absl::StatusCode::kResourceExhausted,
                     fmt::format("{} puts are under way and none has ended for {} s; try again",
                                 DataDoor::kMaxPuts, absl::ToInt64Seconds(PutSlots::kMaxWait))));
}

void PutStream::OnReadDone(bool ok) {
  door_.writers().run([this, ok] { advance(ok); });
}

void PutStream::advance(bool more) {
  const auto cancelled = [this] { return cancelled_.load(std::memory_order_relaxed); };
  absl::Status status;
  if (cancelled()) {
    status = absl::CancelledError("cancelled by the caller");
  } else if (more) {
    door_.count_in(message_.Length());
    status = receiver_->take(message_, cancelled);
    message_.Clear();
    if (status.ok()) {
      StartRead(&message_);
      return;
    }
  } else {
    status = commit();
  }
  finish(status);
}

absl::Status PutStream::commit() {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::CommittedBlob blob, receiver_->commit());
  v1::PutResponse response;
  response.set_digest(blob.key.bytes.data(), blob.key.bytes.size());
  response.set_size(blob.size_bytes);
  response.set_existed(blob.existed);
  response_ = encode_message(response);
  return absl::OkStatus();
}

void PutStream::finish(const absl::Status& status) {
  // What the put leaves behind is settled before its sender learns that it is over.
  receiver_.reset();
  if (has_slot_) door_.puts().release();
  if (!cancelled_.load(std::memory_order_relaxed)) door_.report("put", status);
  Finish(to_grpc(status));
}

void PutStream::OnCancel() {
  cancelled_.store(true, std::memory_order_relaxed);
  // A stream that waits for a slot has nothing else that would end it.
  if (door_.puts().withdraw(*this)) finish(absl::CancelledError("cancelled by the caller"));
}

void PutStream::OnDone() {
  door_.leave();
  const std::unique_ptr<PutStream> self(this);
}

}  // namespace blobcache::net
