#include "store/volume/impl/file_length.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "absl/types/span.h"
#include "base/status.h"

namespace blobcache::volume {

void FileLength::set(const Value& value) {
  const absl::MutexLock lock(&mutex_);
  bytes_.store(value.bytes);
  base_bytes_.store(value.base_bytes);
  is_stale_.store(value.is_stale);
}

Record FileLength::record_of(uint64_t bytes) const {
  return {Record::Kind::kLength, 0, bytes, std::min(base_bytes_.load(), bytes)};
}

absl::Status FileLength::wrote(const Record* state, uint64_t end) {
  if (state == nullptr && end <= bytes()) return absl::OkStatus();
  const absl::MutexLock lock(&mutex_);
  // A file that has become shorter since the write began is stale until the cleaner has had the
  // extent, which is ours: then the write was there before, and goes with what was cut off.
  const bool grows = end > bytes() && !is_stale_.load();
  std::array<Record, Journal::kMostAtOnce> records;
  size_t count = 0;
  if (state != nullptr) records.at(count++) = *state;
  if (grows) records.at(count++) = record_of(end);
  if (count == 0) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(journal_.append(absl::MakeConstSpan(records).first(count)));
  if (grows) bytes_.store(end);
  return absl::OkStatus();
}

FileLength::Change FileLength::set_length(uint64_t bytes, bool only_grows, absl::Status& why) {
  const absl::MutexLock lock(&mutex_);
  const uint64_t before = bytes_.load();
  if (bytes == before || (only_grows && bytes < before)) return Change::kDone;
  if (bytes > before && is_stale_.load()) return Change::kCleanFirst;
  const Record record = record_of(bytes);
  why = journal_.append(record);
  if (!why.ok()) return Change::kFailed;
  if (bytes > before) {
    bytes_.store(bytes);
    return Change::kDone;
  }
  // Who reads without a lock sees less of the base, or a shorter file, never the base again.
  base_bytes_.store(record.second);
  ++times_stale_;
  is_stale_.store(true);
  bytes_.store(bytes);
  return Change::kCleanNow;
}

FileLength::Cleaning FileLength::begin_cleaning() const {
  const absl::MutexLock lock(&mutex_);
  return {is_stale_.load(), bytes_.load(), times_stale_};
}

void FileLength::end_cleaning(const Cleaning& cleaning) {
  const absl::MutexLock lock(&mutex_);
  if (times_stale_ == cleaning.number) is_stale_.store(false);
}

}  // namespace blobcache::volume
