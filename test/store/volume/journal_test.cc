// The formats and the decisions of a recovery, without files.

#include "store/volume/impl/journal.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "store/page/page_map.h"
#include "store/volume/impl/header.h"
#include "store/volume/impl/map_file.h"
#include "store/volume/impl/recovery.h"

namespace blobcache::volume {
namespace {

page::Incarnation incarnation(uint8_t number) {
  page::Incarnation id;
  id.bytes.fill(number);
  return id;
}

/// A ring in memory.
class Ring {
 public:
  void put(uint64_t number, const Record& record) {
    const RecordBytes bytes = encode_record({number, record}, incarnation(1));
    std::copy(bytes.begin(), bytes.end(),
              bytes_.begin() + static_cast<std::ptrdiff_t>(place(number)));
  }
  void damage(uint64_t number) { bytes_[place(number) + 11] ^= std::byte{1}; }
  [[nodiscard]] JournalScan scan(uint64_t start) const {
    return scan_journal(bytes_, start, incarnation(1));
  }
  /// As far as the first so many records go.
  [[nodiscard]] absl::Span<const std::byte> bytes(size_t records) const {
    return absl::MakeConstSpan(bytes_).first(records * kRecordSize);
  }
  [[nodiscard]] JournalScan scan(uint64_t start, size_t records) const {
    return scan_journal(bytes(records), start, incarnation(1));
  }

 private:
  static uint64_t place(uint64_t number) { return number % kJournalRecords * kRecordSize; }

  std::vector<std::byte> bytes_ = std::vector<std::byte>(kJournalRecords * kRecordSize);
};

Record state(uint32_t extent, uint64_t data) { return {Record::Kind::kState, extent, data, 0}; }
Record intent(uint32_t index, uint64_t mask, uint64_t synced) {
  return {Record::Kind::kIntent, index, mask, synced};
}
Record flush(uint64_t before, uint64_t synced) { return {Record::Kind::kFlush, 0, before, synced}; }

}  // namespace

TEST_CASE("a record of another volume or with a changed byte is none") {
  const NumberedRecord record{77, {Record::Kind::kFlush, 5, 6, 7}};
  RecordBytes bytes = encode_record(record, incarnation(1));
  NumberedRecord read;
  REQUIRE(decode_record(bytes, incarnation(1), read));
  CHECK(read.number == 77);
  CHECK(read.record == record.record);
  CHECK_FALSE(decode_record(bytes, incarnation(2), read));
  for (std::byte& byte : bytes) {
    byte ^= std::byte{0x10};
    CHECK_FALSE(decode_record(bytes, incarnation(1), read));
    byte ^= std::byte{0x10};
  }
}

TEST_CASE("a scan ends at the first gap and knows what is beyond it") {
  Ring ring;
  const uint64_t start = kJournalRecords - 2;  // across the end of the ring
  ring.put(start - 1, state(9, 9));
  for (uint64_t i = 0; i < 5; ++i) ring.put(start + i, state(static_cast<uint32_t>(i), 1));
  ring.put(start + 6, intent(0, 1, start + 2));
  const JournalScan scan = ring.scan(start);
  CHECK(scan.records.size() == 5);
  CHECK(scan.records[4].record.index == 4);
  CHECK(scan.last == start + 6);
  CHECK(scan.synced == start + 2);
  CHECK(ring.scan(start + 5).records.empty());
  // The lap before does not count.
  CHECK(ring.scan(start + kJournalRecords).records.empty());
}

TEST_CASE("a scan of the beginning of a ring finds what is there") {
  Ring ring;
  ring.put(3, state(3, 1));
  ring.put(4, state(4, 1));
  for (const size_t records : {5U, 100U}) {
    const JournalScan scan = ring.scan(3, records);
    CHECK(scan.records.size() == 2);
    CHECK(scan.last == 4);
  }
  // A record that is not whole is none.
  CHECK(scan_journal(ring.bytes(5).first(5 * kRecordSize - 1), 3, incarnation(1)).last == 3);
  CHECK(ring.scan(3, 0).last == 2);
  // From the end of the ring on, which is not there.
  const uint64_t start = kJournalRecords - 2;
  ring.put(kJournalRecords + 1, intent(0, 1, 7));
  const JournalScan scan = ring.scan(start, 2);
  CHECK(scan.records.empty());
  CHECK(scan.last == kJournalRecords + 1);
  CHECK(scan.synced == 7);
}

TEST_CASE("after a kill all states count, after a power cut those that were flushed") {
  Ring ring;
  ring.put(1, intent(0, 0b101, 1));
  ring.put(2, state(0, 1));
  ring.put(3, state(31, 2));
  ring.put(4, flush(3, 2));
  ring.put(5, state(0, 3));
  const JournalScan scan = ring.scan(1);
  const auto killed = plan_recovery(scan, 1, true, 10);
  REQUIRE(killed.ok());
  CHECK(killed->states == std::vector<Record>{state(0, 1), state(31, 2), state(0, 3)});
  const auto cut = plan_recovery(scan, 1, false, 10);
  REQUIRE(cut.ok());
  CHECK(cut->states == std::vector<Record>{state(0, 1)});
  // Wherever there was an intent, or a state, pages are looked at again.
  CHECK(cut->blocks == absl::btree_set<uint64_t>{0, 2});
  CHECK(killed->blocks == cut->blocks);
}

TEST_CASE("a journal in which something is missing that was there is damaged") {
  Ring ring;
  ring.put(1, intent(0, 1, 1));
  ring.put(2, state(0, 1));
  ring.put(3, state(0, 3));
  ring.put(4, intent(0, 2, 3));
  ring.put(5, state(0, 7));
  ring.damage(3);
  // After a power cut it may be missing: it was not synced when the intent was written.
  CHECK(plan_recovery(ring.scan(1), 1, false, 10).ok());
  CHECK(absl::IsDataLoss(plan_recovery(ring.scan(1), 1, true, 10).status()));
  ring.damage(2);
  CHECK(absl::IsDataLoss(plan_recovery(ring.scan(1), 1, false, 10).status()));
}

TEST_CASE("a journal that tells of blocks that the volume has not is damaged") {
  Ring ring;
  ring.put(1, intent(0, uint64_t{1} << 10, 1));
  CHECK(absl::IsDataLoss(plan_recovery(ring.scan(1), 1, true, 10).status()));
  ring.put(1, {Record::Kind::kState, 0, 3, 1});  // a page with data that is zero
  CHECK(absl::IsDataLoss(plan_recovery(ring.scan(1), 1, true, 10).status()));
}

TEST_CASE("a header comes back as it was, and nothing else does") {
  Header header;
  header.incarnation = incarnation(3);
  header.size_bytes = 12345678;
  header.has_base = 1;
  header.base.bytes.fill(4);
  header.base_bytes = 1234;
  header.boot_id.bytes.fill(5);
  header.checkpoint = 6;
  header.journal_start = 7;
  header.data_pages = 8;
  HeaderBytes bytes = encode_header(header, 9);
  uint64_t sequence = 0;
  const auto read = decode_header(bytes, sequence);
  REQUIRE(read.ok());
  CHECK(*read == header);
  CHECK(sequence == 9);
  for (const size_t at : {0U, 4U, 12U, 20U, 50U, 100U, 4000U}) {
    bytes.at(at) ^= std::byte{2};
    CHECK_FALSE(decode_header(bytes, sequence).ok());
    bytes.at(at) ^= std::byte{2};
  }
  CHECK(absl::IsDataLoss(decode_header(absl::MakeSpan(bytes).first(100), sequence).status()));
  header.base_bytes = header.size_bytes + 1;
  CHECK(absl::IsDataLoss(decode_header(encode_header(header, 1), sequence).status()));
}

TEST_CASE("a block of the map is that of its number and volume, or none") {
  page::MapBlock states;
  states.on_disk[3] = 0xF0;
  states.zero[3] = 0x0F;
  states.checksum[3 * 64 + 4] = 99;
  const page::MapBlockBytes bytes = encode_volume_block(states, 12, 34, incarnation(1));
  StoredBlock block;
  REQUIRE(decode_volume_block(bytes, 12, incarnation(1), block));
  CHECK(block.checkpoint == 34);
  CHECK(block.states.on_disk == states.on_disk);
  CHECK(block.states.zero == states.zero);
  CHECK(block.states.checksum == states.checksum);
  CHECK(data_pages_of(block.states) == 4);
  CHECK_FALSE(decode_volume_block(bytes, 13, incarnation(1), block));
  CHECK_FALSE(decode_volume_block(bytes, 12, incarnation(2), block));
  states.zero[3] = 0x1F;
  CHECK_FALSE(decode_volume_block(encode_volume_block(states, 12, 34, incarnation(1)), 12,
                                  incarnation(1), block));
  REQUIRE(decode_volume_block(page::MapBlockBytes(), 5, incarnation(1), block));
  CHECK(block.checkpoint == 0);
}

}  // namespace blobcache::volume
