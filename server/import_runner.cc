#include "server/import_runner.h"

#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/time/time.h"
#include "base/size.h"
#include "base/status.h"
#include "server/object_stream.h"
#include "store/tree/digest.h"
#include "store/tree/path.h"

namespace blobcache::server {
namespace {

constexpr absl::Duration kTellEvery = absl::Milliseconds(200);

size_t reads_within(uint64_t memory_bytes) {
  constexpr uint64_t kShare = 16;
  constexpr uint64_t kMost = 16;
  return std::clamp<uint64_t>(memory_bytes / kShare / page::Object::kMaxRead, 1, kMost);
}

}  // namespace

ImportRunner::ImportRunner(tree::Namespace& names, uint64_t memory_bytes)
    : names_(names), reads_(reads_within(memory_bytes)) {}

ImportRunner::~ImportRunner() {
  stop();
  std::list<TransferRef> left;
  {
    const absl::MutexLock lock(&mutex_);
    left.swap(transfers_);
  }
  for (const TransferRef& each : left) each->thread.join();
}

void ImportRunner::stop() {
  const absl::MutexLock lock(&mutex_);
  stopped_ = true;
}

absl::Status ImportRunner::admit() {
  const absl::MutexLock lock(&mutex_);
  if (stopped_) return absl::UnavailableError("the daemon is stopping");
  if (callers_ >= kMostCallers) {
    return absl::UnavailableError(fmt::format("{} imports are under way already", callers_));
  }
  ++callers_;
  return absl::OkStatus();
}

absl::StatusOr<page::ObjectRef> ImportRunner::open(const std::string& path) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<std::string_view> parts, tree::split_path(path));
  if (parts.size() < 3 || parts.front() != "origins") {
    return absl::FailedPreconditionError(
        fmt::format("{}: is no file of an origin", tree::printable(path)));
  }
  // What the path means may be another version by the time it is opened: then it is looked up anew.
  constexpr int kTries = 3;
  for (int tries = 1;; ++tries) {
    BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node node, names_.resolve(path));
    if (node.type == tree::NodeType::kDirectory || node.type == tree::NodeType::kSymlink) {
      return absl::FailedPreconditionError(
          fmt::format("{}: is a {}", tree::printable(path),
                      node.type == tree::NodeType::kDirectory ? "directory" : "symbolic link"));
    }
    absl::StatusOr<page::ObjectRef> object = names_.open(node.id);
    if (!absl::IsNotFound(object.status()) || tries == kTries) return object;
  }
}

absl::StatusOr<tree::CommittedBlob> ImportRunner::run(const ImportWish& wish,
                                                      ImportProgress progress) {
  BLOBCACHE_RETURN_IF_ERROR(admit());
  const absl::Cleanup gone = [this] {
    const absl::MutexLock lock(&mutex_);
    --callers_;
  };
  BLOBCACHE_ASSIGN_OR_RETURN(page::ObjectRef object, open(wish.path));
  const TransferRef transfer = join(wish, std::move(object));
  absl::StatusOr<tree::CommittedBlob> result = wait(*transfer, progress);
  leave(transfer);
  return result;
}

ImportRunner::TransferRef ImportRunner::join(const ImportWish& wish, page::ObjectRef object) {
  const absl::MutexLock lock(&mutex_);
  for (const TransferRef& each : transfers_) {
    // One that nobody waits for is about to end; its result would be that.
    if (each->wish != wish || each->object->key() != object->key() || each->callers == 0) continue;
    ++each->callers;
    return each;
  }
  const auto made = std::make_shared<Transfer>();
  made->wish = wish;
  made->object = std::move(object);
  made->callers = 1;
  made->thread = std::thread([this, made] {
    pthread_setname_np(pthread_self(), "import");
    absl::StatusOr<tree::CommittedBlob> result = transfer(*made);
    const absl::MutexLock here(&mutex_);
    made->result = std::move(result);
  });
  transfers_.push_back(made);
  return made;
}

absl::StatusOr<tree::CommittedBlob> ImportRunner::wait(Transfer& transfer,
                                                       ImportProgress progress) {
  const auto is_over = [&transfer]() { return transfer.result.has_value(); };
  for (;;) {
    uint64_t done = 0;
    {
      const absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&is_over), kTellEvery)) return *transfer.result;
      done = transfer.done_bytes;
    }
    if (!progress(done, transfer.object->size_bytes())) {
      return absl::CancelledError("ended by who asked for it");
    }
  }
}

/// The last one to leave ends it, and waits for its end: then nothing of it is left.
void ImportRunner::leave(const TransferRef& transfer) {
  {
    const absl::MutexLock lock(&mutex_);
    if (--transfer->callers > 0) return;
    const auto is_over = [&transfer]() { return transfer->result.has_value(); };
    mutex_.Await(absl::Condition(&is_over));
    transfers_.remove(transfer);
  }
  transfer->thread.join();
}

absl::StatusOr<tree::CommittedBlob> ImportRunner::transfer(Transfer& transfer) {
  page::Object& object = *transfer.object;
  const tree::Creator administrator{::geteuid(), ::getegid(), tree::MayReplace::kAll};
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<tree::BlobWriter> writer,
                             names_.put(transfer.wish.bind, administrator, object.size_bytes()));
  bool stopped = false;
  const auto goes_on = [this, &transfer, &stopped] {
    const absl::MutexLock lock(&mutex_);
    stopped = stopped_;
    return !stopped && transfer.callers > 0;
  };
  const auto take = [&](absl::Span<const std::byte> bytes) {
    const absl::Status appended = writer->append(bytes);
    const absl::MutexLock lock(&mutex_);
    transfer.done_bytes += bytes.size();
    return appended;
  };
  const StreamOptions whole{0, object.size_bytes(), reads_};
  const absl::Status streamed = stream_object(object, whole, take, goes_on);
  if (stopped) return absl::UnavailableError("the daemon is stopping");
  BLOBCACHE_RETURN_IF_ERROR(streamed);
  if (!goes_on()) return absl::CancelledError("ended by who asked for it");
  const page::ObjectKey* const expected =
      transfer.wish.expected ? &*transfer.wish.expected : nullptr;
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::CommittedBlob blob, writer->commit(expected));
  spdlog::info("imported {}: {}, {}", tree::printable(transfer.wish.path),
               tree::format_digest(blob.key), base::format_size(blob.size_bytes));
  return blob;
}

}  // namespace blobcache::server
