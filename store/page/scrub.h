#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace blobcache::page {

// What PageStore::scrub finds, and who is in charge of it meanwhile.

/// Bytes [offset, offset + length) of an object. Value type.
struct ByteRange {
  uint64_t offset = 0;
  uint64_t length = 0;

  friend bool operator==(const ByteRange&, const ByteRange&) = default;
};

/// Ranges in ascending order, those that touch made one: however much is damaged, what is said of
/// it stays bounded. Value type.
class RangeList {
 public:
  /// Beyond so many the rest is only known to be there.
  static constexpr size_t kMaxRanges = 4096;

  /// `range` begins at or after the end of the last one.
  void add(const ByteRange& range);

  [[nodiscard]] const std::vector<ByteRange>& ranges() const { return ranges_; }
  /// There were more than kMaxRanges.
  [[nodiscard]] bool truncated() const { return truncated_; }
  [[nodiscard]] bool empty() const { return ranges_.empty(); }

 private:
  std::vector<ByteRange> ranges_;
  bool truncated_ = false;
};

/// How an object on the disk was found. Value type.
struct ScrubResult {
  uint64_t checked_bytes = 0;  ///< read from the disk and compared, page map included
  uint64_t checked_pages = 0;  ///< of 4 KiB, of content
  uint64_t damaged_pages = 0;  ///< of content: different, unreadable, or not there
  RangeList damaged;           ///< the bytes that cannot be read any more
  std::string reason;          ///< what is wrong; empty: nothing
  bool map_repaired = false;   ///< its page map was damaged, and is whole again
  std::string inline_map;      ///< the new one, when `map_repaired` and it has no map file

  [[nodiscard]] bool clean() const { return reason.empty(); }
  /// Says that something is wrong; each reason once.
  void add_reason(std::string_view why);
};

/// Sets the pace of a scrub, and ends it. Called on the thread that scrubs.
class ScrubControl {
 public:
  virtual ~ScrubControl() = default;
  /// Before `bytes` (perhaps 0) are read from the disk: waits as long as need be. False: the scrub
  /// is to end.
  [[nodiscard]] virtual bool may_read(uint64_t bytes) = 0;
};

}  // namespace blobcache::page
