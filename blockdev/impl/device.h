#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "blockdev/impl/byte_buffer.h"
#include "store/page/object.h"
#include "store/page/pending_read.h"
#include "store/page/pinned_range.h"

namespace blobcache::blockdev {

/// What a device has read: views into pinned memory, or bytes of its own when `owned` is not empty.
/// Moves, never copies.
struct DeviceBytes {
  page::PinnedRange range;
  ByteBuffer owned;
};

/// How a range is to be made zeros.
struct ZeroHow {
  bool fua = false;
  bool no_hole = false;  ///< the room for it stays taken, so that later writes cannot lack it
  bool fast = false;     ///< rather UNIMPLEMENTED, with nothing changed, than as slow as a write
};

/// A run of bytes that NBD clients read and, where it is not read_only(), write.
///
/// Thread-safe. Each `done` is called exactly once: on the calling thread before the call returns
/// when there is nothing to wait for, later on another thread otherwise. It must not block. The
/// device outlives every call that is under way.
///
/// Ranges lie within the device and are not empty; the caller has seen to that. Errors of all
/// calls: DATA_LOSS and others for bytes that cannot be had, CANCELLED; of those that change
/// something also RESOURCE_EXHAUSTED (no room), FAILED_PRECONDITION or PERMISSION_DENIED (it may
/// not be written), and UNIMPLEMENTED (see ZeroHow). After an error of those, the range holds old
/// or new bytes, or some of both.
///
/// A change is seen by every read that begins after its `done`, through whichever connection.
class Device {
 public:
  /// The longest single read or write, in bytes; longer ones are asked for in pieces.
  static constexpr uint64_t kMaxRead = page::Object::kMaxRead;
  static constexpr uint64_t kMaxWrite = uint64_t{256} << 10;

  using ReadDone = absl::AnyInvocable<void(absl::StatusOr<DeviceBytes>)>;
  using MapDone = page::Object::MapDone;
  using Done = absl::AnyInvocable<void(absl::Status)>;

  Device() = default;
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  virtual ~Device() = default;

  [[nodiscard]] virtual uint64_t size_bytes() const = 0;
  [[nodiscard]] virtual bool read_only() const = 0;
  /// Whether ZeroHow::fast is worth asking for.
  [[nodiscard]] virtual bool can_zero_fast() const { return false; }
  /// Tells what it is the device of: the same content, or the same volume, has the same number.
  [[nodiscard]] virtual uint64_t identity() const = 0;
  /// For people: a few words, without the name.
  [[nodiscard]] virtual std::string description() const = 0;

  /// The hit path, as page::Object::try_read: all of the range, pinned, or false.
  [[nodiscard]] virtual bool try_read(uint64_t offset, uint64_t length,
                                      page::PinnedRange& range) = 0;
  /// At most kMaxRead. What is returned may cancel it.
  virtual page::PendingRead read(uint64_t offset, uint64_t length, ReadDone done) = 0;
  /// Where the bytes are, as page::Object::map: it may tell of less than the range. kZero is what
  /// takes no room; of all other places the room is taken.
  virtual page::PendingRead map(uint64_t offset, uint64_t length, size_t max_runs,
                                MapDone done) = 0;

  /// Writes at most kMaxWrite bytes, which stay where they are until `done`. With `fua` they are
  /// on stable storage by then.
  virtual void write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done);
  virtual void write_zeroes(uint64_t offset, uint64_t length, ZeroHow how, Done done);
  /// What the range holds is not needed any more; it may be given up, or stay.
  virtual void trim(uint64_t offset, uint64_t length, bool fua, Done done);
  /// Every change whose `done` was called before, through whichever connection, is on stable
  /// storage when this one's is.
  virtual void flush(Done done);
};

using DeviceRef = std::shared_ptr<Device>;

}  // namespace blobcache::blockdev
