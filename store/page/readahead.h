#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "absl/functional/function_ref.h"
#include "absl/types/span.h"

namespace blobcache::page {

/// Decides what of one object is worth bringing before it is asked for, by the offsets of its reads
/// alone. So it is the same for files and for block devices, and for several readers at once.
///
/// Reads that follow one another are a *stream*: forward, backward, or with a stride (a column of a
/// table). Two adjacent reads make one that goes forward, and so does a read of the object's first
/// byte; three make one that goes backward or with a stride. What lies between is a gap of at most
/// a window, or was read before.
///
/// A stream has a *window*: as many bytes ahead of its reader may be on their way or unread. It
/// begins modestly, four times what was read, and doubles up to kFirstWindow while the stream goes
/// on. From there it grows only when the reader had to wait (as mountpoint-s3 and JuiceFS do it),
/// to 4 MiB, or four times what the reader takes in the time that the source needs for an answer,
/// whichever is more; it shrinks when pages were evicted before they were read. A reader that stops
/// leaves at most a window behind.
///
/// Pure: no I/O, no clock. Not thread-safe. Memory: about a kilobyte.
class Readahead {
 public:
  static constexpr uint64_t kFirstWindow = uint64_t{512} << 10;  ///< bytes
  static constexpr size_t kMaxStreams = 8;

  /// `size_bytes` of the object; `max_window` in bytes, at least kFirstWindow.
  Readahead(uint64_t size_bytes, uint64_t max_window)
      : size_bytes_(size_bytes), max_window_(max_window) {}

  /// One read. Value type.
  struct Read {
    uint64_t offset = 0;
    uint64_t length = 0;  ///< bytes, not 0, within the object
    bool waited = false;  ///< not all of it was in memory
    int64_t now_ns = 0;   ///< of any clock that does not go back
  };
  /// Bytes to bring. Value type.
  struct Stretch {
    uint64_t offset = 0;
    uint64_t length = 0;

    friend bool operator==(const Stretch&, const Stretch&) = default;
  };
  using Stretches = absl::InlinedVector<Stretch, 8>;

  /// What is to be brought now, in the order in which it will be wanted. `room` tells how many
  /// bytes more may be ahead of one reader; it is asked at most once.
  [[nodiscard]] Stretches on_read(const Read& read, absl::FunctionRef<uint64_t()> room);

  /// Something that was asked for has come after `latency_ns`.
  void on_answer(int64_t latency_ns);
  /// Pages that were brought were evicted before anybody read them.
  void on_evicted_unread();
  /// What was asked for could not be had. Nothing more is, for a second.
  void on_failure(int64_t now_ns);

 private:
  /// Positions are offsets, or, *mirrored*, distances from the object's end: then what goes
  /// backward goes forward.
  struct Stream {
    bool mirrored = false;
    uint64_t stride = 0;  ///< from one read's begin to the next one's; 0: adjacent
    uint64_t next = 0;    ///< where the next read begins, if all goes on
    uint64_t ahead = 0;   ///< up to where it was asked for; with a stride, the next one to ask for
    uint64_t length = 0;  ///< of the longest read
    uint64_t window = 0;
    uint64_t used = 0;  ///< when; see clock_
    // What the reader takes, in bytes a second: 0 until that is known.
    uint64_t rate = 0;
    uint64_t taken = 0;
    int64_t since_ns = 0;
  };
  struct Recent {
    uint64_t offset = 0;
    uint64_t length = 0;  ///< 0: nothing
  };

  [[nodiscard]] uint64_t position(const Stream& stream, const Read& read) const;
  [[nodiscard]] bool belongs(const Stream& stream, const Read& read) const;
  [[nodiscard]] Stream* find(const Read& read);
  /// The stream that this read makes of recent ones, or nullptr.
  [[nodiscard]] Stream* begin(const Read& read);
  [[nodiscard]] bool goes_backward(const Read& read) const;
  [[nodiscard]] uint64_t stride_to(const Read& read, bool& mirrored) const;
  [[nodiscard]] Stream* add(const Read& read, bool mirrored, uint64_t stride);
  void measure(Stream& stream, const Read& read, uint64_t taken) const;
  /// What the stream may have ahead of its reader.
  [[nodiscard]] uint64_t allowed(const Stream& stream) const;
  void extend(Stream& stream, absl::FunctionRef<uint64_t()> room, Stretches& out) const;
  void extend_strided(Stream& stream, absl::FunctionRef<uint64_t()> room, Stretches& out) const;
  void put(const Stream& stream, uint64_t from, uint64_t length, Stretches& out) const;

  const uint64_t size_bytes_;
  const uint64_t max_window_;
  absl::InlinedVector<Stream, 1> streams_;
  std::array<Recent, 16> recent_{};
  size_t oldest_ = 0;  ///< of recent_
  uint64_t clock_ = 0;
  int64_t latency_ns_ = 0;  ///< the least lately; 0: unknown
  int64_t paused_until_ns_ = 0;
};

}  // namespace blobcache::page
