#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "store/page/object_key.h"
#include "store/volume/impl/file_calls.h"

namespace blobcache::volume {

inline constexpr size_t kRecordSize = 32;
inline constexpr uint64_t kJournalRecords = 32768;  ///< a power of two: 1 MiB
inline constexpr uint32_t kBlocksPerIntent = 64;

/// One record of a volume's journal; the format is in docs/disk-format.md. Value type.
struct Record {
  enum class Kind : uint8_t {
    kState = 1,   ///< extent `index` now has the pages `first` as data and `second` as zero
    kIntent = 2,  ///< of the map blocks 64 x `index` + bit, those in `first` will be written to
    kFlush = 3,   ///< the data of all records before `first` is on stable storage
    kLength = 4,  ///< the file is `first` bytes long, and sees `second` of its base
  };
  Kind kind = Kind::kState;
  uint32_t index = 0;
  uint64_t first = 0;
  uint64_t second = 0;  ///< of kIntent and kFlush: records before this one were synced

  friend bool operator==(const Record&, const Record&) = default;
};

struct NumberedRecord {
  uint64_t number = 0;
  Record record;
};

using RecordBytes = std::array<std::byte, kRecordSize>;

/// A record's checksum is continued from that of `incarnation`, and covers its number. So one of an
/// earlier lap of the ring, or of another volume, is not taken for one that belongs here.
[[nodiscard]] RecordBytes encode_record(const NumberedRecord& record,
                                        const page::Incarnation& incarnation);
/// False for anything else.
[[nodiscard]] bool decode_record(absl::Span<const std::byte> bytes,
                                 const page::Incarnation& incarnation, NumberedRecord& record);

/// What the journal's file tells after a run that did not end as it should.
struct JournalScan {
  std::vector<NumberedRecord> records;  ///< from the start on, without a gap
  uint64_t last = 0;                    ///< the highest number of any record, also beyond a gap
  uint64_t synced = 0;                  ///< records before this one must be there, as one says
};

/// Reads the records from number `start` on in what the whole ring holds, or its beginning: behind
/// that are none. Pure.
[[nodiscard]] JournalScan scan_journal(absl::Span<const std::byte> bytes, uint64_t start,
                                       const page::Incarnation& incarnation);

/// Where a journal is. Value type.
struct JournalPlace {
  int fd = -1;
  uint64_t offset = 0;     ///< in the file
  bool is_sparse = false;  ///< takes its space as it needs it: that of a file volume
};

/// The journal of a volume: a ring of records. Its space was taken when it was made, so that
/// appending never runs out of it; a sparse one takes it by the chunk, a few records before a chunk
/// is needed, so that it is a write that finds none and not what gives space back. Records are
/// numbered from 1 on, without gaps, and record n is at place n % kJournalRecords. Those before
/// start() are in the map and may be overwritten.
///
/// Appending is a write of 32 bytes to the page cache under a mutex, which costs what the kernel's
/// own lock on the file costs; a write to a page that is the volume's own already needs none.
///
/// Thread-safe.
class Journal {
 public:
  Journal(const FileCalls& calls, const JournalPlace& place, const page::Incarnation& incarnation)
      : calls_(calls), place_(place), incarnation_(incarnation) {}

  /// Fills a new file with what is no record. Not synced.
  [[nodiscard]] absl::Status format();
  [[nodiscard]] absl::StatusOr<JournalScan> scan(uint64_t start) const;
  /// The next record has the number `start`, and the ring is empty.
  void begin(uint64_t start);

  /// Whether a record of this kind has room. States leave some for intents, both for the rest.
  [[nodiscard]] bool has_room(Record::Kind kind) const;
  [[nodiscard]] bool half_full() const;
  /// All records are in the map.
  [[nodiscard]] bool is_empty() const { return next_.load() == start_.load(); }

  /// Appends records, at most kMostAtOnce, with one write. The caller has seen that there is room;
  /// a few more at the same time do not matter. Records that could not be written have no number.
  [[nodiscard]] absl::Status append(absl::Span<const Record> records);
  [[nodiscard]] absl::Status append(const Record& record) {
    return append(absl::MakeConstSpan(&record, 1));
  }
  static constexpr size_t kMostAtOnce = 2;
  /// All records before the number that next() had are on stable storage.
  [[nodiscard]] absl::Status sync();

  /// The number of the next record.
  [[nodiscard]] uint64_t next() const { return next_.load(); }
  /// All states and lengths appended so far have lower numbers.
  [[nodiscard]] uint64_t states_end() const { return states_end_.load(); }
  /// Records before `start` are not needed any more.
  void advance(uint64_t start) { start_.store(start); }

 private:
  [[nodiscard]] absl::Status take_space(Record::Kind kind, uint64_t number)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] absl::Status write(uint64_t number, absl::Span<const std::byte> bytes);

  const FileCalls& calls_;
  const JournalPlace place_;
  const page::Incarnation incarnation_;

  absl::Mutex mutex_;
  uint64_t taken_ ABSL_GUARDED_BY(mutex_) = 0;  ///< chunks of a sparse ring, a bit each
  std::atomic<uint64_t> next_{1};               ///< changed under mutex_
  std::atomic<uint64_t> start_{1};
  std::atomic<uint64_t> states_end_{1};
  std::atomic<uint64_t> synced_{1};
};

}  // namespace blobcache::volume
