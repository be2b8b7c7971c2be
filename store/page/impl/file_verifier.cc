#include "store/page/impl/file_verifier.h"

#include <spdlog/spdlog.h>

#include <cstring>
#include <utility>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "store/page/checksum.h"
#include "store/page/impl/object_impl.h"
#include "store/page/impl/store_core.h"

namespace blobcache::page {
namespace {

/// It waits for fetches of readers in steps of a millisecond, and never longer than this before a
/// read, so that it gets on under a load that never ends.
constexpr int kStepsBack = 20;

}  // namespace

void FileVerifier::request(std::shared_ptr<ObjectImpl> object) {
  const absl::MutexLock lock(&mutex_);
  if (ending_ || waiting_.size() >= kMost || !queued_.insert(object->id()).second) return;
  waiting_.push_back(std::move(object));
  if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
}

void FileVerifier::stop() {
  std::deque<std::shared_ptr<ObjectImpl>> dropped;
  std::thread thread;
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
    dropped.swap(waiting_);
    thread.swap(thread_);
  }
  if (thread.joinable()) thread.join();
}

void FileVerifier::run() {
  buffer_ = allocate_aligned(kExtentSize);
  const auto work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return ending_ || !waiting_.empty();
  };
  while (true) {
    std::shared_ptr<ObjectImpl> object;
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&work));
      if (ending_) return;
      object = std::move(waiting_.front());
      waiting_.pop_front();
    }
    // While it is lent nothing is cleared, so what is compared here is what the file still holds
    // when that is noted.
    object->lending().borrow();
    verify(object);
    object->lending().give_back();
    const absl::MutexLock lock(&mutex_);
    queued_.erase(object->id());
  }
}

void FileVerifier::verify(const std::shared_ptr<ObjectImpl>& object) {
  MapCache::Block block;
  for (uint64_t index = 0; index < object->extent_count(); ++index) {
    if (index % kExtentsPerMapBlock == 0) {
      absl::StatusOr<MapCache::Block> loaded = load_block(object, map_block_of(index));
      if (!loaded.ok()) return;
      block = *std::move(loaded);
    }
    if (ending() || !verify_extent(*object, index, *block)) return;
  }
}

absl::StatusOr<MapCache::Block> FileVerifier::load_block(const std::shared_ptr<ObjectImpl>& object,
                                                         uint64_t number) {
  absl::Notification loaded;
  absl::StatusOr<MapCache::Block> block;
  core_.maps.load(object, number, [&](absl::StatusOr<MapCache::Block> result) {
    block = std::move(result);
    loaded.Notify();
  });
  loaded.WaitForNotification();
  return block;
}

bool FileVerifier::verify_extent(ObjectImpl& object, uint64_t index, const MapBlock& block) {
  const Extent& extent = object.extents().get(index);
  const PageMask missing =
      pages_of_extent(index, object.size_bytes()) & ~extent.verified.load() & ~extent.zero.load();
  // The block may be older than what the extent knows, and has no checksums for the rest.
  const PageMask there = extent.on_disk.load() & block.on_disk.at(index % kExtentsPerMapBlock);
  if ((missing & ~there) != 0) return false;
  bool good = true;
  for_each_run(missing,
               [&](PageMask run) { good = good && verify_run(object, index, run, block); });
  return good;
}

bool FileVerifier::verify_run(ObjectImpl& object, uint64_t index, PageMask run,
                              const MapBlock& block) {
  if (core_.disk.health().reads_out()) return false;
  for (int step = 0; step < kStepsBack && core_.flights.size() > 0; ++step) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  const absl::StatusOr<OpenFilesRef> files = object.file().open();
  if (!files.ok()) return false;
  const uint64_t whole = uint64_t{page_total(run)} << kPageShift;
  const uint64_t offset = (index << kExtentShift) + (uint64_t{first_page(run)} << kPageShift);
  const uint64_t real = object.bytes_of_pages(offset, whole);
  absl::Notification read;
  int outcome = 0;
  core_.counters.add(Counters::kDiskReadBytes, whole);
  core_.disk.ring().read((*files)->data.get(), {buffer_.get(), whole}, offset, real,
                         [&](int result) {
                           outcome = result;
                           read.Notify();
                         });
  read.WaitForNotification();
  // Whoever reads it finds out whether that lasts, and what of it is bad.
  if (outcome != 0) return false;
  std::memset(buffer_.get() + real, 0, whole - real);
  const uint32_t first = first_page(run);
  for (uint32_t page = first; page < first + page_total(run); ++page) {
    const std::byte* bytes = buffer_.get() + (uint64_t{page - first} << kPageShift);
    const uint32_t checksum = page_checksum(crc32c({bytes, kPageSize}), object.incarnation(),
                                            index * kPagesPerExtent + page);
    if (checksum != block.checksum.at(index % kExtentsPerMapBlock * kPagesPerExtent + page)) {
      spdlog::warn("object {}: its file does not match its checksums; it is not passed through",
                   object.key().hex());
      return false;
    }
  }
  absl::MutexLock lock(&core_.flights.shard({object.id(), index}).mutex);
  object.lending().note_verified(object.extents().get(index), run, (*files)->written_ns);
  return true;
}

}  // namespace blobcache::page
