#include "server/object_stream.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "store/page/no_readahead.h"

namespace blobcache::server {
namespace {

constexpr absl::Duration kLookUp = absl::Milliseconds(100);

/// One read. Its answer comes on a thread of the store.
struct Part {
  page::PendingRead read;
  std::optional<absl::StatusOr<page::PinnedRange>> answer;
  std::vector<std::byte> copy;  ///< once it was copied out
  bool copied = false;
};

class Stream {
 public:
  Stream(page::Object& object, const StreamOptions& options)
      : object_(object),
        next_(options.offset),
        end_(options.offset + options.length),
        reads_(std::max<size_t>(1, options.reads)) {}
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { end_all(); }

  absl::Status run(TakeBytes take, GoesOn goes_on) {
    for (;;) {
      while (parts_.size() < reads_ && next_ < end_) begin_one();
      if (parts_.empty()) return absl::OkStatus();
      if (!goes_on()) return absl::CancelledError("ended by who asked for it");
      wait();
      BLOBCACHE_RETURN_IF_ERROR(take_front(take));
      copy_others();
    }
  }

 private:
  /// What the answers come to; they may be later than anybody waits.
  struct Shared {
    absl::Mutex mutex;
    size_t news ABSL_GUARDED_BY(mutex) = 0;
  };

  void begin_one() {
    const uint64_t length = std::min(page::Object::kMaxRead, end_ - next_);
    auto part = std::make_shared<Part>();
    parts_.push_back(part);
    // What is beyond the range nobody has asked for.
    const page::NoReadahead whole;
    part->read = object_.read(next_, length,
                              [part, shared = shared_](absl::StatusOr<page::PinnedRange> answer) {
                                const absl::MutexLock lock(&shared->mutex);
                                part->answer = std::move(answer);
                                ++shared->news;
                              });
    next_ += length;
  }

  void wait() {
    Shared& shared = *shared_;
    const auto has_news = [&shared]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return shared.news > 0; };
    const absl::MutexLock lock(&shared.mutex);
    (void)shared.mutex.AwaitWithTimeout(absl::Condition(&has_news), kLookUp);
    shared.news = 0;
  }

  [[nodiscard]] bool is_answered(const Part& part) const {
    const absl::MutexLock lock(&shared_->mutex);
    return part.answer.has_value();
  }

  absl::Status take_front(TakeBytes take) {
    while (!parts_.empty() && is_answered(*parts_.front())) {
      const std::shared_ptr<Part> part = std::move(parts_.front());
      parts_.pop_front();
      if (!part->answer->ok()) return part->answer->status();
      if (part->copied) {
        BLOBCACHE_RETURN_IF_ERROR(take(part->copy));
        continue;
      }
      for (const iovec& piece : (*part->answer)->pieces()) {
        BLOBCACHE_RETURN_IF_ERROR(
            take({static_cast<const std::byte*>(piece.iov_base), piece.iov_len}));
      }
    }
    return absl::OkStatus();
  }

  void copy_others() {
    for (const std::shared_ptr<Part>& part : parts_) {
      if (part->copied || !is_answered(*part) || !part->answer->ok()) continue;
      page::PinnedRange& range = **part->answer;
      part->copy.reserve(range.size_bytes());
      for (const iovec& piece : range.pieces()) {
        const auto* const bytes = static_cast<const std::byte*>(piece.iov_base);
        part->copy.insert(part->copy.end(), bytes, bytes + piece.iov_len);
      }
      part->copied = true;
      range.release();
    }
  }

  void end_all() {
    for (const std::shared_ptr<Part>& part : parts_) part->read.cancel();
    const auto are_answered = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
      return std::all_of(parts_.begin(), parts_.end(),
                         [](const auto& part) { return part->answer.has_value(); });
    };
    const absl::MutexLock lock(&shared_->mutex);
    shared_->mutex.Await(absl::Condition(&are_answered));
  }

  page::Object& object_;
  uint64_t next_;
  const uint64_t end_;
  const size_t reads_;
  std::deque<std::shared_ptr<Part>> parts_;
  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

}  // namespace

absl::Status stream_object(page::Object& object, const StreamOptions& options, TakeBytes take,
                           GoesOn goes_on) {
  Stream stream(object, options);
  return stream.run(take, goes_on);
}

}  // namespace blobcache::server
