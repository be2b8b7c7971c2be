#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "store/page/impl/extent_table.h"
#include "store/page/impl/lending.h"
#include "store/page/impl/object_file.h"
#include "store/page/impl/prefetch_ledger.h"
#include "store/page/impl/prefetcher.h"
#include "store/page/object.h"
#include "store/page/page_map.h"
#include "store/page/pending_read.h"

namespace blobcache::page {

struct StoreCore;

/// An object in use: its extents, its open files, and the way to the tiers.
///
/// Held by the store's table and by every ObjectRef, read and fetch. Thread-safe.
class ObjectImpl final : public Object, public std::enable_shared_from_this<ObjectImpl> {
 public:
  /// `id` is unique in this process; `core` outlives the object.
  ObjectImpl(uint64_t id, ObjectSpec spec, StoreCore& core);
  ~ObjectImpl() override;
  ObjectImpl(const ObjectImpl&) = delete;
  ObjectImpl& operator=(const ObjectImpl&) = delete;

  [[nodiscard]] const ObjectKey& key() const override { return spec_.key; }
  [[nodiscard]] uint64_t size_bytes() const override { return spec_.size_bytes; }
  [[nodiscard]] bool try_read(uint64_t offset, uint64_t length, PinnedRange& range) override;
  PendingRead read(uint64_t offset, uint64_t length, ReadDone done) override;
  PendingRead map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) override;
  [[nodiscard]] absl::StatusOr<Residency> residency() override;
  [[nodiscard]] absl::StatusOr<LentFile> lend_file() override;

  [[nodiscard]] uint64_t id() const { return id_; }
  [[nodiscard]] const Incarnation& incarnation() const { return spec_.incarnation; }
  [[nodiscard]] std::shared_ptr<Source> source() const {
    absl::ReaderMutexLock lock(&mutex_);
    return source_;
  }
  void set_source(std::shared_ptr<Source> source) {
    absl::MutexLock lock(&mutex_);
    source_ = std::move(source);
  }
  /// Where what is read ahead of its readers comes from: of an account of its own each.
  [[nodiscard]] PrefetchLedger::From comes_from() const {
    const bool is_local = !spec_.in_cache && spec_.source == nullptr;
    return is_local ? PrefetchLedger::From::kDisk : PrefetchLedger::From::kSource;
  }
  /// Its files change: see ObjectSpec.
  [[nodiscard]] bool in_cache() const { return spec_.in_cache; }
  /// Counts the changes of an in_cache() object's map; MapLoader counts.
  [[nodiscard]] std::atomic<uint64_t>& map_version() { return map_version_; }
  [[nodiscard]] std::string inline_map() {
    absl::MutexLock lock(&mutex_);
    return inline_map_;
  }
  void set_inline_map(std::string map) {
    absl::MutexLock lock(&mutex_);
    inline_map_ = std::move(map);
  }
  /// What it was made from, with the map that it has now and no source.
  [[nodiscard]] ObjectSpec spec_now() {
    ObjectSpec spec = spec_;
    if (!has_map_file()) spec.inline_map = inline_map();
    spec.source = nullptr;
    return spec;
  }
  /// Its map is damaged and its file does not match its key: not to be tried again.
  [[nodiscard]] bool beyond_repair() const { return beyond_repair_.load(); }
  void set_beyond_repair() { beyond_repair_.store(true); }
  [[nodiscard]] bool has_map_file() const { return spec_.inline_map.empty(); }
  [[nodiscard]] uint64_t extent_count() const { return page::extent_count(spec_.size_bytes); }
  [[nodiscard]] ExtentTable& extents() { return extents_; }
  [[nodiscard]] ObjectFile& file() { return file_; }
  [[nodiscard]] Lending& lending() { return lending_; }
  /// The lease of a file that is lent already, by another process.
  [[nodiscard]] std::shared_ptr<const void> keep_lent();
  /// How many frames hold pages of this object; MemoryTier counts.
  [[nodiscard]] std::atomic<uint32_t>& frames() { return frames_; }
  /// Made at the first call, whose `max_window` holds.
  [[nodiscard]] ObjectReadahead& readahead(uint64_t max_window);
  /// How many of its extents were evicted with pages that nobody had read; MemoryTier counts.
  [[nodiscard]] std::atomic<uint64_t>& evicted_unread() { return evicted_unread_; }
  /// The part of a range of pages that the object really has: all but the last page's tail.
  [[nodiscard]] uint64_t bytes_of_pages(uint64_t offset, uint64_t length) const {
    return std::min(length, spec_.size_bytes - offset);
  }

 private:
  [[nodiscard]] bool in_range(uint64_t offset, uint64_t length) const {
    return length > 0 && length <= kMaxRead && offset < spec_.size_bytes &&
           length <= spec_.size_bytes - offset;
  }
  /// Pins the extent's frame if it holds all of `wanted`; the frame's index, or nothing.
  [[nodiscard]] std::optional<uint32_t> pin_hit(const Extent& extent, PageMask wanted,
                                                uint32_t shard);
  /// Tells all extents what the page map says; blocks on the disk.
  [[nodiscard]] absl::Status load_map();

  class Lease;

  /// Counts the object until all else of it is destroyed, with what that uses of the store.
  class Presence {
   public:
    explicit Presence(std::atomic<uint64_t>& objects) : objects_(objects) { objects_.fetch_add(1); }
    ~Presence() { objects_.fetch_sub(1); }
    Presence(const Presence&) = delete;
    Presence& operator=(const Presence&) = delete;

   private:
    std::atomic<uint64_t>& objects_;
  };

  const Presence presence_;
  const uint64_t id_;
  const ObjectSpec spec_;
  StoreCore& core_;
  ExtentTable extents_;
  ObjectFile file_;
  Lending lending_;
  std::atomic<bool> beyond_repair_{false};
  std::atomic<uint32_t> frames_{0};
  std::atomic<uint64_t> map_version_{0};
  std::atomic<uint64_t> evicted_unread_{0};
  mutable absl::Mutex mutex_;
  std::shared_ptr<Source> source_ ABSL_GUARDED_BY(mutex_);
  std::string inline_map_ ABSL_GUARDED_BY(mutex_);  ///< spec_'s, or what a repair made of it
  std::unique_ptr<ObjectReadahead> readahead_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::page
