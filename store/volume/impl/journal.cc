#include "store/volume/impl/journal.h"

#include <algorithm>

#include "base/status.h"
#include "store/page/checksum.h"
#include "store/volume/impl/bytes.h"

namespace blobcache::volume {
namespace {

constexpr uint64_t kKeptForIntents = kJournalRecords / 4;
constexpr uint64_t kKeptForOthers = kJournalRecords / 8;
constexpr uint32_t kKindShift = 56;
constexpr uint64_t kNumberMask = (uint64_t{1} << kKindShift) - 1;

uint64_t place_of(uint64_t number) { return number % kJournalRecords * kRecordSize; }

uint32_t record_crc(absl::Span<const std::byte> bytes, const page::Incarnation& incarnation) {
  const uint32_t seed = page::crc32c(absl::MakeConstSpan(
      reinterpret_cast<const std::byte*>(incarnation.bytes.data()), incarnation.bytes.size()));
  return page::crc32c(bytes.subspan(sizeof(uint32_t)), seed);
}

}  // namespace

RecordBytes encode_record(const NumberedRecord& record, const page::Incarnation& incarnation) {
  RecordBytes bytes{};
  const absl::Span<std::byte> out = absl::MakeSpan(bytes);
  const uint64_t number = record.number | static_cast<uint64_t>(record.record.kind) << kKindShift;
  size_t at = put(out, 4, record.record.index);
  at = put(out, at, number);
  at = put(out, at, record.record.first);
  put(out, at, record.record.second);
  put(out, 0, record_crc(bytes, incarnation));
  return bytes;
}

bool decode_record(absl::Span<const std::byte> bytes, const page::Incarnation& incarnation,
                   NumberedRecord& record) {
  uint32_t crc = 0;
  uint64_t number = 0;
  take(bytes, 0, crc);
  if (crc != record_crc(bytes, incarnation)) return false;
  size_t at = take(bytes, 4, record.record.index);
  at = take(bytes, at, number);
  at = take(bytes, at, record.record.first);
  take(bytes, at, record.record.second);
  record.number = number & kNumberMask;
  const uint64_t kind = number >> kKindShift;
  record.record.kind = static_cast<Record::Kind>(kind);
  return kind >= static_cast<uint64_t>(Record::Kind::kState) &&
         kind <= static_cast<uint64_t>(Record::Kind::kFlush);
}

JournalScan scan_journal(absl::Span<const std::byte> bytes, uint64_t start,
                         const page::Incarnation& incarnation) {
  JournalScan scan;
  scan.last = start - 1;
  bool gap = false;
  for (uint64_t number = start; number < start + kJournalRecords; ++number) {
    NumberedRecord record;
    if (!decode_record(bytes.subspan(place_of(number), kRecordSize), incarnation, record) ||
        record.number != number) {
      gap = true;
      continue;
    }
    scan.last = number;
    if (record.record.kind != Record::Kind::kState) {
      scan.synced = std::max(scan.synced, record.record.second);
    }
    if (!gap) scan.records.push_back(record);
  }
  return scan;
}

absl::Status Journal::format() {
  const std::vector<std::byte> zeros(kJournalRecords * kRecordSize);
  return calls_.write(fd_, zeros, 0);
}

absl::StatusOr<JournalScan> Journal::scan(uint64_t start) const {
  std::vector<std::byte> bytes(kJournalRecords * kRecordSize);
  BLOBCACHE_RETURN_IF_ERROR(calls_.read(fd_, absl::MakeSpan(bytes), 0));
  return scan_journal(bytes, start, incarnation_);
}

void Journal::begin(uint64_t start) {
  const absl::MutexLock lock(&mutex_);
  next_.store(start);
  start_.store(start);
  states_end_.store(1);
  synced_.store(start);
}

bool Journal::has_room(Record::Kind kind) const {
  uint64_t most = kJournalRecords - 1;
  if (kind == Record::Kind::kIntent) most = kJournalRecords - kKeptForOthers;
  if (kind == Record::Kind::kState) most = kJournalRecords - kKeptForIntents;
  return next_.load() - start_.load() < most;
}

bool Journal::half_full() const { return next_.load() - start_.load() > kJournalRecords / 2; }

absl::Status Journal::append(const Record& record) {
  const absl::MutexLock lock(&mutex_);
  if (!has_room(Record::Kind::kFlush)) {
    return absl::ResourceExhaustedError("the volume's journal is full");
  }
  NumberedRecord numbered{next_.load(std::memory_order_relaxed), record};
  if (record.kind != Record::Kind::kState) numbered.record.second = synced_.load();
  const RecordBytes bytes = encode_record(numbered, incarnation_);
  BLOBCACHE_RETURN_IF_ERROR(calls_.write(fd_, bytes, place_of(numbered.number)));
  next_.store(numbered.number + 1);
  if (record.kind == Record::Kind::kState) states_end_.store(numbered.number + 1);
  return absl::OkStatus();
}

absl::Status Journal::sync() {
  const uint64_t end = next();
  BLOBCACHE_RETURN_IF_ERROR(calls_.sync(fd_));
  uint64_t known = synced_.load();
  while (known < end && !synced_.compare_exchange_weak(known, end)) {
  }
  return absl::OkStatus();
}

}  // namespace blobcache::volume
