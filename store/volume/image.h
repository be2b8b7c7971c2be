#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/pinned_range.h"

namespace blobcache::volume {

/// A stretch of an image of one kind. Value type.
struct Run {
  enum class Kind : uint8_t {
    kData,  ///< the image's own bytes
    kZero,  ///< reads as zeros and takes no space: trimmed, or never written and a hole of the base
    kBase,  ///< what the base has there
  };
  uint64_t length_bytes = 0;
  Kind kind = Kind::kZero;

  friend bool operator==(const Run&, const Run&) = default;
};

struct ZeroFlags {
  bool fua = false;
  bool no_hole = false;  ///< keeps, or takes, the space, so that later writes find it
  /// Of a file volume: what of the range is beyond the end is left alone. Without it the file grows
  /// to the range's end. An image's ranges are inside it.
  bool keep_size = false;
};

/// OK, or why not. Called exactly once: on the calling thread before the call returns when nothing
/// had to be waited for, else on another. It must not block.
using Done = absl::AnyInvocable<void(absl::Status)>;
using MapDone = absl::AnyInvocable<void(absl::StatusOr<std::vector<Run>>)>;

/// A writable image, wherever its bytes are: a volume of ours, or an origin's. What the doors read
/// and write. Offsets and lengths are bytes, of any alignment. Its size is fixed but for a file
/// volume's; see volume.h, which also tells what is different for writes beyond the end.
///
/// A change is seen by every read that begins after its `done`. Operations on the same bytes at the
/// same time: each page is as one of them left it. Errors of all operations: OUT_OF_RANGE (not
/// inside the image), FAILED_PRECONDITION (closed, or not to be written), RESOURCE_EXHAUSTED (no
/// room), else those of whatever holds the bytes.
///
/// Thread-safe. Held by shared_ptr; operations that are under way hold it, too.
class Image {
 public:
  virtual ~Image() = default;

  /// Only grows; a file volume's may shrink as well, at any moment. Thread-safe, no lock.
  [[nodiscard]] virtual uint64_t size_bytes() const = 0;
  /// Tells it from all other images, also after a restart if it lasts that long.
  [[nodiscard]] virtual uint64_t identity() const = 0;
  /// For people: a few words, without the name.
  [[nodiscard]] virtual std::string about() const = 0;

  /// Fills `into` with the bytes at `offset` if that needs no waiting. False, also for errors,
  /// otherwise; then `into` holds anything.
  [[nodiscard]] virtual bool try_read(uint64_t offset, absl::Span<std::byte> into) = 0;
  /// Pins the bytes at `offset`, at most page::Object::kMaxRead, into `range` if that needs neither
  /// waiting nor a copy: zeros, and what L0 has of a base. False otherwise.
  [[nodiscard]] virtual bool try_pin(uint64_t /*offset*/, uint64_t /*length*/,
                                     page::PinnedRange& /*range*/) {
    return false;
  }
  /// Fills `into`, which stays valid until `done`. try_read() is its first step.
  virtual void read(uint64_t offset, absl::Span<std::byte> into, Done done) = 0;

  /// Writes `bytes`, which stay valid and unchanged until `done`. `fua`: the write is flushed
  /// before `done`.
  virtual void write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done) = 0;

  /// Whether to make a range zero takes less than to write it. Never changes.
  [[nodiscard]] virtual bool zeroes_fast() const { return true; }
  /// Makes the range zero.
  virtual void write_zeroes(uint64_t offset, uint64_t length, ZeroFlags flags, Done done) = 0;
  /// What the range holds is not needed any more.
  virtual void trim(uint64_t offset, uint64_t length, bool fua, Done done) = 0;

  /// Every change that was answered before is on stable storage when `done` is called.
  virtual void flush(Done done) = 0;

  /// What the range consists of, at most `max_runs` (at least 1) adjacent runs from `offset` on.
  /// They may end before the range does.
  virtual void map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) = 0;
};

}  // namespace blobcache::volume
