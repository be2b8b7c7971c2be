#include "store/volume/impl/journal.h"

#include <algorithm>

#include "base/status.h"
#include "store/page/checksum.h"
#include "store/volume/impl/bytes.h"

namespace blobcache::volume {
namespace {

constexpr uint64_t kJournalBytes = kJournalRecords * kRecordSize;
/// What a sparse ring takes at once, and how long before it needs it.
constexpr uint64_t kChunkBytes = uint64_t{64} << 10;
constexpr uint64_t kSpareRecords = 32;
constexpr uint64_t kRecordsWithoutChunk = 4096 / kRecordSize;
static_assert(kJournalBytes / kChunkBytes <= 64);
constexpr uint64_t kKeptForIntents = kJournalRecords / 4;
constexpr uint64_t kKeptForOthers = kJournalRecords / 8;
constexpr uint32_t kKindShift = 56;
constexpr uint64_t kNumberMask = (uint64_t{1} << kKindShift) - 1;

uint64_t place_of(uint64_t number) { return number % kJournalRecords * kRecordSize; }

/// Whether the journal itself has a say in what such a record tells.
bool tells_synced(Record::Kind kind) {
  return kind == Record::Kind::kIntent || kind == Record::Kind::kFlush;
}

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
         kind <= static_cast<uint64_t>(Record::Kind::kLength);
}

JournalScan scan_journal(absl::Span<const std::byte> bytes, uint64_t start,
                         const page::Incarnation& incarnation) {
  JournalScan scan;
  scan.last = start - 1;
  bool gap = false;
  for (uint64_t number = start; number < start + kJournalRecords; ++number) {
    if (place_of(number) + kRecordSize > bytes.size()) {
      gap = true;
      number += kJournalRecords - 1 - number % kJournalRecords;
      continue;
    }
    NumberedRecord record;
    if (!decode_record(bytes.subspan(place_of(number), kRecordSize), incarnation, record) ||
        record.number != number) {
      gap = true;
      continue;
    }
    scan.last = number;
    if (tells_synced(record.record.kind)) {
      scan.synced = std::max(scan.synced, record.record.second);
    }
    if (!gap) scan.records.push_back(record);
  }
  return scan;
}

absl::Status Journal::format() {
  const std::vector<std::byte> zeros(kJournalRecords * kRecordSize);
  return calls_.write(place_.fd, zeros, place_.offset);
}

absl::StatusOr<JournalScan> Journal::scan(uint64_t start) const {
  uint64_t length = kJournalBytes;
  if (place_.is_sparse) {
    // Most files have a few records, and there are thousands of files to be opened at a start.
    BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t size, calls_.size_of(place_.fd));
    length = std::min(length, size - std::min(size, place_.offset));
  }
  std::vector<std::byte> bytes(length);
  const absl::Span<std::byte> all = absl::MakeSpan(bytes);
  BLOBCACHE_RETURN_IF_ERROR(place_.is_sparse ? calls_.read_or_zeros(place_.fd, all, place_.offset)
                                             : calls_.read(place_.fd, all, place_.offset));
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
  if (kind == Record::Kind::kState || kind == Record::Kind::kLength) {
    most = kJournalRecords - kKeptForIntents;
  }
  return next_.load() - start_.load() < most;
}

bool Journal::half_full() const { return next_.load() - start_.load() > kJournalRecords / 2; }

absl::Status Journal::append(absl::Span<const Record> records) {
  const absl::MutexLock lock(&mutex_);
  const uint64_t first = next_.load(std::memory_order_relaxed);
  if (first + records.size() - start_.load() >= kJournalRecords) {
    return absl::ResourceExhaustedError("the volume's journal is full");
  }
  std::array<std::byte, kMostAtOnce * kRecordSize> bytes{};
  uint64_t states_end = states_end_.load();
  for (size_t i = 0; i < records.size(); ++i) {
    NumberedRecord numbered{first + i, records[i]};
    const Record::Kind kind = numbered.record.kind;
    if (tells_synced(kind)) {
      numbered.record.second = synced_.load();
    } else {
      states_end = numbered.number + 1;
    }
    BLOBCACHE_RETURN_IF_ERROR(take_space(kind, numbered.number));
    const RecordBytes encoded = encode_record(numbered, incarnation_);
    std::copy(encoded.begin(), encoded.end(),
              bytes.begin() + static_cast<std::ptrdiff_t>(i * kRecordSize));
  }
  const auto all = absl::MakeConstSpan(bytes).first(records.size() * kRecordSize);
  absl::Status status = write(first, all);
  if (!status.ok()) {
    // The first of two may be there, and must not count.
    if (records.size() > 1) write(first, RecordBytes{}).IgnoreError();
    return status;
  }
  next_.store(first + records.size());
  states_end_.store(states_end);
  return absl::OkStatus();
}

absl::Status Journal::write(uint64_t number, absl::Span<const std::byte> bytes) {
  const uint64_t to_end = kJournalBytes - place_of(number);
  const absl::Span<const std::byte> before = bytes.first(std::min<uint64_t>(to_end, bytes.size()));
  BLOBCACHE_RETURN_IF_ERROR(calls_.write(place_.fd, before, place_.offset + place_of(number)));
  return calls_.write(place_.fd, bytes.subspan(before.size()), place_.offset);
}

absl::Status Journal::take_space(Record::Kind kind, uint64_t number) {
  // The first few records take a block with their first write; most files never have more.
  if (!place_.is_sparse || number + kSpareRecords < kRecordsWithoutChunk) return absl::OkStatus();
  const bool ahead = kind == Record::Kind::kState || kind == Record::Kind::kIntent;
  const uint64_t chunk = place_of(ahead ? number + kSpareRecords : number) / kChunkBytes;
  if ((taken_ >> chunk & 1) != 0) return absl::OkStatus();
  absl::Status status =
      calls_.allocate(place_.fd, place_.offset + chunk * kChunkBytes, kChunkBytes);
  if (status.ok()) taken_ |= uint64_t{1} << chunk;
  // What a state has left over is there for the others.
  return ahead ? status : absl::OkStatus();
}

absl::Status Journal::sync() {
  const uint64_t end = next();
  BLOBCACHE_RETURN_IF_ERROR(calls_.sync(place_.fd));
  uint64_t known = synced_.load();
  while (known < end && !synced_.compare_exchange_weak(known, end)) {
  }
  return absl::OkStatus();
}

}  // namespace blobcache::volume
