#include "net/impl/read_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"
#include "blobcache.pb.h"
#include "net/impl/grpc_status.h"
#include "store/tree/namespace.h"
#include "store/tree/path.h"

namespace blobcache::net {

static_assert(kMaxMessageData <= page::Object::kMaxRead);

ReadStream::ReadStream(DataDoor& door, grpc::CallbackServerContext& context)
    : door_(door), handle_(std::make_shared<CutHandle>([&context] { context.TryCancel(); })) {}

ReadStream* ReadStream::begin(DataDoor& door, grpc::CallbackServerContext& context,
                              const grpc::ByteBuffer& request) {
  std::unique_ptr<ReadStream> stream(new ReadStream(door, context));
  stream->begin(request);
  return stream.release();
}

void ReadStream::begin(const grpc::ByteBuffer& bytes) {
  absl::Status status = door_.enter();
  v1::ReadRequest request;
  if (status.ok() && !parse_message(bytes, request)) {
    status = absl::InvalidArgumentError("not a ReadRequest");
  }
  if (!status.ok()) return opened(std::move(status));
  const std::string path = request.path();
  const bool runs =
      door_.names().run(path, [this, request = std::move(request)] { opened(open(request)); });
  if (!runs) opened(absl::UnavailableError(fmt::format("{}: too much waits for it", path)));
}

void ReadStream::opened(absl::Status status) {
  {
    absl::MutexLock lock(&mutex_);
    reading_ = false;
    if (status_.ok()) status_ = std::move(status);
  }
  pump();
}

absl::Status ReadStream::open(const v1::ReadRequest& request) {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node node, door_.names().resolve(request.path()));
  if (node.type == tree::NodeType::kDirectory) {
    const std::string path = request.path().empty() ? "/" : tree::printable(request.path());
    return base::error(absl::StatusCode::kFailedPrecondition,
                       fmt::format("{}: is a directory", path));
  }
  if (node.type == tree::NodeType::kSymlink) {
    return base::error(absl::StatusCode::kFailedPrecondition,
                       fmt::format("{}: is a symbolic link", tree::printable(request.path())));
  }
  if (node.type == tree::NodeType::kImage) {
    const bool is_volume = request.path().find("volumes/") <= 1;  // after a slash, perhaps
    return base::error(
        absl::StatusCode::kFailedPrecondition,
        fmt::format("{}: is {} read it through NBD or the mount", tree::printable(request.path()),
                    is_volume ? "a volume; commit it, or" : "an image that may change;"));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(object_, door_.names().open(node.id));
  const uint64_t size = object_->size_bytes();
  if (request.offset() > size) {
    return base::error(absl::StatusCode::kInvalidArgument,
                       fmt::format("offset {} is past the end of {}, which has {} bytes",
                                   request.offset(), request.path(), size));
  }
  const uint64_t rest = size - request.offset();
  end_ = request.offset() + (request.length() == 0 ? rest : std::min(rest, request.length()));
  facts_ = FileFacts{size, object_->key()};
  absl::MutexLock lock(&mutex_);
  next_ = request.offset();
  if (next_ == end_) ready_.push_back(encode(page::PinnedRange()));
  return absl::OkStatus();
}

uint64_t ReadStream::piece_end(uint64_t offset) const {
  return std::min(end_, (offset / kMaxMessageData + 1) * kMaxMessageData);
}

void ReadStream::pump() {
  {
    absl::MutexLock lock(&mutex_);
    if (!claim()) return;
  }
  pump_claimed();
}

bool ReadStream::claim() {
  if (pumping_) return false;
  pumping_ = true;
  return true;
}

// After kSendLast and kFinish gRPC may delete the stream at any moment.
void ReadStream::pump_claimed() {
  for (;;) {
    switch (next_step()) {
      case Step::kNothing:
        return;
      case Step::kSend:
        StartWrite(&current_);
        break;
      case Step::kSendLast:
        StartWriteAndFinish(&current_, grpc::WriteOptions(), grpc::Status::OK);
        return;
      case Step::kRead:
        read_piece();
        break;
      case Step::kFinish:
        finish();
        return;
    }
  }
}

ReadStream::Step ReadStream::next_step() {
  absl::MutexLock lock(&mutex_);
  if (!status_.ok()) {
    ready_.clear();
    if (!reading_ && !sending_) return Step::kFinish;
  } else if (!sending_ && !ready_.empty()) {
    sending_ = true;
    current_ = ready_.front();  // shares its slices
    ready_.pop_front();
    const bool last = ready_.empty() && !reading_ && next_ == end_;
    return last ? Step::kSendLast : Step::kSend;
  } else if (!reading_ && next_ < end_ && ready_.size() < kAhead) {
    reading_ = true;
    return Step::kRead;
  }
  pumping_ = false;
  return Step::kNothing;
}

void ReadStream::finish() {
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = status_;
  }
  if (!absl::IsCancelled(status)) door_.report("read", status);
  Finish(to_grpc(status));
}

void ReadStream::read_piece() {
  uint64_t offset = 0;
  {
    absl::MutexLock lock(&mutex_);
    offset = next_;
  }
  const uint64_t length = piece_end(offset) - offset;
  page::PinnedRange range;
  if (object_->try_read(offset, length, range)) {
    static_cast<void>(accept(std::move(range)));  // this thread pumps already
  } else {
    read_later(offset, length);
  }
}

void ReadStream::read_later(uint64_t offset, uint64_t length) {
  page::PendingRead pending =
      object_->read(offset, length, [this](absl::StatusOr<page::PinnedRange> result) {
        door_.senders().run([this, answer = std::move(result)]() mutable {
          if (accept(std::move(answer))) pump_claimed();
        });
      });
  bool cancel = false;
  {
    absl::MutexLock lock(&mutex_);
    pending_ = pending;
    cancel = cancelled_;
  }
  if (cancel) pending.cancel();
}
bool ReadStream::accept(absl::StatusOr<page::PinnedRange> range) {
  grpc::ByteBuffer message;
  uint64_t size = 0;
  const absl::Status status = range.status();
  if (status.ok()) {
    size = range->size_bytes();
    message = encode(*std::move(range));
  }
  absl::MutexLock lock(&mutex_);
  if (status.ok()) {
    next_ += size;
    ready_.push_back(std::move(message));
  } else if (status_.ok()) {
    status_ = status;
  }
  reading_ = false;
  return claim();
}

grpc::ByteBuffer ReadStream::encode(page::PinnedRange range) {
  const std::optional<FileFacts> facts = std::exchange(facts_, std::nullopt);
  const uint64_t size = range.size_bytes();
  door_.count_out(size);
  // A first message is copied: a client must have shown that it takes what it is sent.
  std::unique_ptr<PinLedger::Hold> hold;
  if (!facts.has_value()) hold = door_.pins().try_hold(handle_, size, absl::Now());
  return hold == nullptr ? encode_read_copied(range, facts)
                         : encode_read_pinned(std::move(range), std::move(hold), facts);
}

void ReadStream::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    current_.Clear();
    sending_ = false;
    if (!ok && status_.ok()) status_ = absl::CancelledError("the caller went away");
  }
  pump();
}

void ReadStream::OnCancel() {
  page::PendingRead pending;
  {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    if (status_.ok()) status_ = absl::CancelledError("cancelled by the caller");
    pending = pending_;
  }
  pending.cancel();
  pump();
}

void ReadStream::OnDone() {
  handle_->ended();
  door_.leave();
  const std::unique_ptr<ReadStream> self(this);
}

}  // namespace blobcache::net
