#include "store/page/impl/map_repairer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/size.h"
#include "base/status.h"
#include "store/page/impl/aligned_memory.h"
#include "store/page/impl/map_builder.h"
#include "store/page/impl/object_impl.h"

namespace blobcache::page {
namespace {

constexpr size_t kStep = size_t{1} << 20;

/// Says that files of tmp/ are somebody's, for as long as this lives.
class TemporaryInUse {
 public:
  TemporaryInUse(DiskTier& disk, const Incarnation& incarnation)
      : disk_(disk), incarnation_(incarnation) {
    disk_.begin_writing(incarnation_);
  }
  ~TemporaryInUse() { disk_.end_writing(incarnation_); }
  TemporaryInUse(const TemporaryInUse&) = delete;
  TemporaryInUse& operator=(const TemporaryInUse&) = delete;

 private:
  DiskTier& disk_;
  const Incarnation incarnation_;
};

absl::Status write_block(const DiskCalls& calls, int fd, const MapBlockBytes& bytes,
                         uint64_t offset) {
  const AlignedMemory memory = allocate_aligned(kMapBlockSize);
  std::memcpy(memory.get(), bytes.data(), bytes.size());
  const int written = calls.write(fd, {memory.get(), kMapBlockSize}, offset);
  return written == 0 ? absl::OkStatus() : base::errno_error(-written, "writing a page map");
}

}  // namespace

MapRepairer::MapRepairer(DiskTier& disk, ContentHashFactory hash)
    : disk_(disk), hash_(std::move(hash)), thread_([this] { run(); }) {}

MapRepairer::~MapRepairer() {
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  thread_.join();
}

void MapRepairer::repair(std::shared_ptr<ObjectImpl> object, Repaired done) {
  absl::MutexLock lock(&mutex_);
  std::vector<Repaired>& waiting = waiting_[object->id()];
  waiting.push_back(std::move(done));
  if (waiting.size() == 1) line_.push_back(std::move(object));
}

void MapRepairer::run() {
  const auto work = [this]()
                        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ending_ || !line_.empty(); };
  while (true) {
    std::shared_ptr<ObjectImpl> object;
    {
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&work));
      if (line_.empty()) return;
      object = line_.front();
      line_.pop_front();
    }
    const absl::Status outcome = repair_now(*object);
    std::vector<Repaired> waiting;
    {
      absl::MutexLock lock(&mutex_);
      waiting = std::move(waiting_[object->id()]);
      waiting_.erase(object->id());
    }
    // Who is told may look whether anybody still has it.
    object = nullptr;
    for (Repaired& done : waiting) done(outcome);
  }
}

absl::Status MapRepairer::repair_now(ObjectImpl& object) {
  BLOBCACHE_ASSIGN_OR_RETURN(const OpenFilesRef files, object.file().open());
  if (object.beyond_repair()) {
    return absl::DataLossError(
        fmt::format("the page map of object {} is damaged, and its file does not match its digest",
                    object.key().hex()));
  }
  absl::Status outcome = rebuild(object, files);
  if (!outcome.ok()) {
    spdlog::error("cannot rebuild a page map: {}", base::message(outcome));
  }
  return outcome;
}

absl::Status MapRepairer::scan(ObjectImpl& object, const OpenFiles& files, MapBuilder& builder) {
  if (hash_ == nullptr) return absl::DataLossError("its page map is damaged");
  const std::filesystem::path path = disk_.object_path(object.key(), object.incarnation());
  const std::unique_ptr<ContentHash> hash = hash_();
  const AlignedMemory memory = allocate_aligned(kStep);
  for (uint64_t at = 0; at < object.size_bytes(); at += kStep) {
    const auto real = static_cast<size_t>(std::min<uint64_t>(kStep, object.size_bytes() - at));
    const int64_t got = disk_.calls().read(files.data.get(), {memory.get(), kStep}, at, real);
    if (got < 0) return base::errno_error(static_cast<int>(-got), path.string());
    if (static_cast<size_t>(got) < real) {
      object.set_beyond_repair();
      return absl::DataLossError(path.string() + " is cut short");
    }
    const size_t pages = page_count(real);
    std::memset(memory.get() + real, 0, pages * kPageSize - real);
    hash->update({memory.get(), real});
    for (size_t page = 0; page < pages; ++page) {
      bool is_data = false;
      BLOBCACHE_RETURN_IF_ERROR(builder.add({memory.get() + page * kPageSize, kPageSize}, is_data));
    }
  }
  if (hash->finish() != object.key()) {
    object.set_beyond_repair();
    return absl::DataLossError(fmt::format(
        "the page map of {} is damaged, and the file does not match its digest", path.string()));
  }
  return absl::OkStatus();
}

absl::Status MapRepairer::write_map(ObjectImpl& object, const OpenFiles& files, int fd) {
  MapBuilder builder(object.incarnation(), [&](uint64_t number, const MapBlock& block) {
    return write_block(disk_.calls(), fd, encode_map_block(block, number, object.incarnation()),
                       map_block_offset(number));
  });
  BLOBCACHE_RETURN_IF_ERROR(scan(object, files, builder));
  BLOBCACHE_RETURN_IF_ERROR(builder.emit_last());
  const MapHeader header{kPageMapVersion, object.key(), object.incarnation(), object.size_bytes()};
  BLOBCACHE_RETURN_IF_ERROR(write_block(disk_.calls(), fd, encode_map_header(header), 0));
  return disk_.publish_map(object.key(), object.incarnation(), fd);
}

absl::Status MapRepairer::rebuild_file(ObjectImpl& object, const OpenFilesRef& files) {
  // Until it has its name the new map is no leftover.
  const TemporaryInUse in_use(disk_, object.incarnation());
  const std::filesystem::path made = disk_.temporary_path(object.incarnation()).string() + ".map";
  BLOBCACHE_ASSIGN_OR_RETURN(base::UniqueFd fd, disk_.open_file(made, O_RDWR | O_CREAT | O_TRUNC));
  absl::Status written = write_map(object, *files, fd.get());
  if (written.ok()) {
    object.file().replace_map(files, std::move(fd));
  } else {
    // Nobody counts it.
    disk_.unlink_temporary(object.incarnation());
  }
  return written;
}

absl::Status MapRepairer::rebuild(ObjectImpl& object, const OpenFilesRef& files) {
  if (!object.has_map_file()) {
    MapBuilder builder(object.incarnation(), [](uint64_t, const MapBlock&) {
      return absl::InternalError("an inline page map has one block");
    });
    BLOBCACHE_RETURN_IF_ERROR(scan(object, *files, builder));
    object.set_inline_map(
        encode_inline_map(builder.last_block(), object.size_bytes(), object.incarnation()));
  } else {
    BLOBCACHE_RETURN_IF_ERROR(rebuild_file(object, files));
  }
  disk_.counters().add(Counters::kMapsRebuilt);
  spdlog::warn(
      "the page map of object {} was damaged; made again from its {}, which match its digest",
      object.key().hex(), base::format_size(object.size_bytes()));
  return absl::OkStatus();
}

}  // namespace blobcache::page
