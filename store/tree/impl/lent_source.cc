#include "store/tree/impl/lent_source.h"

#include <utility>

#include "absl/status/status.h"

namespace blobcache::tree {
namespace {

/// A fetch with the source that it is of.
class LentFetch final : public page::Source::Fetch {
 public:
  LentFetch(std::shared_ptr<page::Source> source, std::unique_ptr<page::Source::Fetch> fetch)
      : source_(std::move(source)), fetch_(std::move(fetch)) {}
  void cancel() override {
    if (fetch_ != nullptr) fetch_->cancel();
  }

 private:
  const std::shared_ptr<page::Source> source_;
  const std::unique_ptr<page::Source::Fetch> fetch_;  // goes first
};

}  // namespace

std::unique_ptr<page::Source::Fetch> LentSource::fetch(uint64_t offset, absl::Span<std::byte> into,
                                                       FetchDone done) {
  std::shared_ptr<page::Source> source;
  {
    const absl::MutexLock lock(&mutex_);
    source = source_;
  }
  if (source == nullptr) {
    done(absl::CancelledError("nobody has it open any more"));
    return std::make_unique<LentFetch>(nullptr, nullptr);
  }
  page::Source& lender = *source;
  std::unique_ptr<Fetch> fetch = lender.fetch(
      offset, into,
      [source, done = std::move(done)](absl::Status status) mutable { done(std::move(status)); });
  return std::make_unique<LentFetch>(std::move(source), std::move(fetch));
}

void LentSource::give_back() {
  std::shared_ptr<page::Source> source;  // destroyed when the lock is gone
  const absl::MutexLock lock(&mutex_);
  source.swap(source_);
}

}  // namespace blobcache::tree
