#include "store/page/impl/object_writer_impl.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "store/page/impl/names_file.h"
#include "store/page/impl/object_file_name.h"

namespace blobcache::page {

ObjectWriterImpl::ObjectWriterImpl(DiskTier& disk, Retention retention)
    : disk_(disk),
      retention_(retention),
      map_(incarnation_, [this](uint64_t number, const MapBlock& block) {
        return write_map_block(number, block);
      }) {
  disk_.begin_writing(incarnation_);
}

absl::StatusOr<std::unique_ptr<ObjectWriterImpl>> ObjectWriterImpl::create(DiskTier& disk,
                                                                           Retention retention,
                                                                           uint64_t size_hint) {
  if (size_hint > kMaxObjectSize) {
    return absl::InvalidArgumentError(fmt::format("{} bytes are too many", size_hint));
  }
  // Asked for and given back: whether it fits now. The real bytes are reserved as they come, since
  // a sparse object needs fewer.
  const DiskBudget::Usage usage = disk.budget().usage();
  if (size_hint > usage.budget - std::min(usage.budget, usage.kept)) {
    const absl::Status fits = disk.budget().reserve(size_hint, retention);
    if (!fits.ok()) {
      return base::error(
          fits.code(), fmt::format("{}; if much of that is zeros, dig holes (fallocate -d) or put "
                                   "it from a pipe",
                                   base::message(fits)));
    }
    disk.budget().settled(size_hint);
    disk.budget().release(size_hint, retention);
  }
  if (!disk.health().may_write()) return disk.health().refusal();
  BLOBCACHE_RETURN_IF_ERROR(disk.budget().check_inodes());
  std::unique_ptr<ObjectWriterImpl> writer(
      new ObjectWriterImpl(disk, retention));  // NOLINT: private constructor
  BLOBCACHE_RETURN_IF_ERROR(writer->open_files());
  return writer;
}

absl::Status ObjectWriterImpl::open_files() {
  BLOBCACHE_ASSIGN_OR_RETURN(
      data_, disk_.open_file(disk_.temporary_path(incarnation_), O_RDWR | O_CREAT | O_EXCL));
  return absl::OkStatus();
}

ObjectWriterImpl::~ObjectWriterImpl() {
  const absl::Status writes = wait_for_writes();
  disk_.budget().settled(reserved_bytes_ - settled_bytes_);
  if (!kept_) {
    disk_.unlink_temporary(incarnation_);
    if (sealed_) {
      const absl::Status removed = disk_.unlink(key_, incarnation_);
      if (!removed.ok()) spdlog::warn("cannot undo a put: {}", base::message(removed));
    }
    disk_.budget().release(reserved_bytes_, retention_);
  }
  disk_.end_writing(incarnation_);
}

absl::Status ObjectWriterImpl::append(absl::Span<const std::byte> bytes) {
  if (bytes.size() > kMaxObjectSize - size_bytes_) {
    return absl::InvalidArgumentError("an object cannot be larger than 1 PiB");
  }
  while (!bytes.empty()) {
    if (current_ == nullptr) {
      BLOBCACHE_ASSIGN_OR_RETURN(current_, free_buffer());
    }
    const size_t taken = std::min(bytes.size(), kBufferSize - current_->filled);
    std::memcpy(current_->memory.get() + current_->filled, bytes.data(), taken);
    current_->filled += taken;
    size_bytes_ += taken;
    bytes.remove_prefix(taken);
    if (current_->filled == kBufferSize) BLOBCACHE_RETURN_IF_ERROR(flush());
  }
  return absl::OkStatus();
}

absl::StatusOr<ObjectWriterImpl::Buffer*> ObjectWriterImpl::free_buffer() {
  absl::MutexLock lock(&mutex_);
  const auto unused = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return buffers_.size() < kBuffers ||
           std::any_of(buffers_.begin(), buffers_.end(), [](const auto& b) { return !b->in_use; });
  };
  mutex_.Await(absl::Condition(&unused));
  if (!write_error_.ok()) return write_error_;
  auto at = std::find_if(buffers_.begin(), buffers_.end(),
                         [](const auto& buffer) { return !buffer->in_use; });
  if (at == buffers_.end()) at = buffers_.insert(buffers_.end(), std::make_unique<Buffer>());
  (*at)->in_use = true;
  (*at)->filled = 0;
  return at->get();
}

absl::Status ObjectWriterImpl::reserve(uint64_t bytes) {
  BLOBCACHE_RETURN_IF_ERROR(disk_.budget().reserve(bytes, retention_));
  reserved_bytes_ += bytes;
  return absl::OkStatus();
}

absl::Status ObjectWriterImpl::write_map_block(uint64_t number, const MapBlock& block) {
  if (!map_file_.valid()) {
    const std::string path = disk_.temporary_path(incarnation_).string() + ".map";
    BLOBCACHE_ASSIGN_OR_RETURN(map_file_, disk_.open_file(path, O_RDWR | O_CREAT | O_EXCL));
    BLOBCACHE_RETURN_IF_ERROR(reserve(kMapBlockSize));  // the header
  }
  BLOBCACHE_RETURN_IF_ERROR(reserve(kMapBlockSize));
  AlignedMemory memory = allocate_aligned(kMapBlockSize);
  const MapBlockBytes bytes = encode_map_block(block, number, incarnation_);
  std::memcpy(memory.get(), bytes.data(), bytes.size());
  {
    absl::MutexLock lock(&mutex_);
    ++writes_under_way_;
  }
  disk_.counters().add(Counters::kDiskWrittenBytes, kMapBlockSize);
  const absl::Span<const std::byte> from(memory.get(), kMapBlockSize);
  disk_.ring().write(map_file_.get(), from, map_block_offset(number),
                     [this, kept_alive = std::move(memory)](int result) {
                       written(nullptr, kMapBlockSize, result);
                     });
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PageMask>> ObjectWriterImpl::map_pages(const Buffer& buffer) {
  const size_t pages = page_count(buffer.filled);
  std::vector<PageMask> data((pages + kPagesPerExtent - 1) / kPagesPerExtent);
  for (size_t page = 0; page < pages; ++page) {
    bool is_data = false;
    BLOBCACHE_RETURN_IF_ERROR(
        map_.add({buffer.memory.get() + page * kPageSize, kPageSize}, is_data));
    if (!is_data) continue;
    data[page / kPagesPerExtent] |= page_mask(static_cast<uint32_t>(page % kPagesPerExtent), 1);
  }
  return data;
}

absl::Status ObjectWriterImpl::flush() {
  Buffer* buffer = std::exchange(current_, nullptr);
  const size_t pages = page_count(buffer->filled);
  // Direct I/O writes whole pages; seal() cuts the file to its size.
  std::memset(buffer->memory.get() + buffer->filled, 0, pages * kPageSize - buffer->filled);
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<PageMask> data, map_pages(*buffer));
  uint64_t bytes = 0;
  for (const PageMask word : data) bytes += uint64_t(std::popcount(word)) << kPageShift;
  BLOBCACHE_RETURN_IF_ERROR(reserve(bytes));
  {
    // One more than the runs, so that the buffer is not free before its last run is on its way.
    absl::MutexLock lock(&mutex_);
    ++writes_under_way_;
    ++buffer->writes;
  }
  const auto has_data = [&](size_t page) {
    return page < pages && (data[page / kPagesPerExtent] >> (page % kPagesPerExtent) & 1) != 0;
  };
  for (size_t page = 0; page < pages; ++page) {
    if (!has_data(page)) continue;
    const size_t begin = page;
    while (has_data(page)) ++page;
    write_run(buffer, begin * kPageSize, page * kPageSize);
  }
  buffer_offset_ += buffer->filled;
  write_done(buffer, 0);
  return absl::OkStatus();
}

void ObjectWriterImpl::write_run(Buffer* buffer, size_t begin, size_t end) {
  {
    absl::MutexLock lock(&mutex_);
    ++writes_under_way_;
    ++buffer->writes;
  }
  disk_.counters().add(Counters::kDiskWrittenBytes, end - begin);
  disk_.ring().write(
      data_.get(), {buffer->memory.get() + begin, end - begin}, buffer_offset_ + begin,
      [this, buffer, bytes = end - begin](int result) { written(buffer, bytes, result); });
}

void ObjectWriterImpl::written(Buffer* buffer, uint64_t bytes, int result) {
  disk_.health().judge(DiskStep::Kind::kWrite, result);
  disk_.budget().settled(bytes);
  settled_bytes_.fetch_add(bytes, std::memory_order_relaxed);
  write_done(buffer, result);
}

void ObjectWriterImpl::write_done(Buffer* buffer, int result) {
  absl::MutexLock lock(&mutex_);
  if (result != 0) write_error_.Update(base::errno_error(-result, "writing to the store"));
  if (buffer != nullptr && --buffer->writes == 0) buffer->in_use = false;
  --writes_under_way_;
}

absl::Status ObjectWriterImpl::wait_for_writes() {
  absl::MutexLock lock(&mutex_);
  const auto none = [this]()
                        ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return writes_under_way_ == 0; };
  mutex_.Await(absl::Condition(&none));
  return write_error_;
}

absl::Status ObjectWriterImpl::write_map_header(const ObjectKey& key) {
  const AlignedMemory memory = allocate_aligned(kMapBlockSize);
  const MapBlockBytes header = encode_map_header({kPageMapVersion, key, incarnation_, size_bytes_});
  std::memcpy(memory.get(), header.data(), header.size());
  const int written = disk_.calls().write(map_file_.get(), {memory.get(), kMapBlockSize}, 0);
  return written == 0 ? absl::OkStatus() : base::errno_error(-written, "writing a page map");
}

absl::Status ObjectWriterImpl::describe(const ObjectKey& key,
                                        const ObjectDescription& description) {
  BLOBCACHE_ASSIGN_OR_RETURN(const bool stored, disk_.set_attribute(data_.get(), description.text));
  if (stored && description.complete) return absl::OkStatus();
  const std::string path = disk_.temporary_path(incarnation_).string() + std::string(kNamesSuffix);
  BLOBCACHE_ASSIGN_OR_RETURN(NamesFileWriter names,
                             NamesFileWriter::create(path, key, disk_.calls()));
  for (const std::string& record : description.records) {
    BLOBCACHE_RETURN_IF_ERROR(names.add(record));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(names_file_, names.finish());
  return absl::OkStatus();
}

absl::StatusOr<SealedObject> ObjectWriterImpl::seal(const ObjectKey& key,
                                                    const ObjectDescription& description) {
  if (current_ != nullptr) BLOBCACHE_RETURN_IF_ERROR(flush());
  const bool has_map = size_bytes_ > kInlineMapMaxObject;
  if (has_map) BLOBCACHE_RETURN_IF_ERROR(map_.emit_last());
  BLOBCACHE_RETURN_IF_ERROR(wait_for_writes());
  if (const int sized = disk_.calls().truncate(data_.get(), size_bytes_); sized != 0) {
    return base::errno_error(-sized, "sizing an object");
  }
  BLOBCACHE_RETURN_IF_ERROR(describe(key, description));
  if (has_map) BLOBCACHE_RETURN_IF_ERROR(write_map_header(key));
  key_ = key;
  sealed_ = true;
  BLOBCACHE_RETURN_IF_ERROR(disk_.publish(key, incarnation_, has_map, names_file_.valid()));
  SealedObject object{incarnation_, size_bytes_, reserved_bytes_, {}};
  if (!has_map) object.inline_map = encode_inline_map(map_.last_block(), size_bytes_, incarnation_);
  return object;
}

absl::Status ObjectWriterImpl::sync() {
  return disk_.sync_object(key_, incarnation_, {data_.get(), map_file_.get(), names_file_.get()});
}

void ObjectWriterImpl::keep() {
  kept_ = true;
  disk_.end_writing(incarnation_);
}

}  // namespace blobcache::page
