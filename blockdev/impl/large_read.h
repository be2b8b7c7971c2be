#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/statusor.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/nbd_codec.h"

namespace blobcache::blockdev {

/// A range that is longer than one read of a device may be, in pieces: they are asked for in
/// order, a few at once, arrive in any order, and leave in order. Pure bookkeeping. Not
/// thread-safe.
class LargeRead {
 public:
  enum class Kind : uint8_t {
    kChunks,  ///< a chunk a piece; other replies may go between them
    kStream,  ///< one reply or chunk: its header, then nothing else until the last byte
    kWarm,    ///< NBD_CMD_CACHE: the bytes stay here
  };

  /// How many pieces are asked for and not sent, at most.
  static constexpr size_t kWindow = 4;

  struct Piece {
    uint64_t offset = 0;
    uint32_t length = 0;
  };
  struct Arrival {
    Piece piece;
    absl::StatusOr<DeviceBytes> result;
  };

  LargeRead(Kind kind, const nbd::Request& request)
      : kind_(kind),
        request_(request),
        next_(request.offset),
        end_(request.offset + request.length),
        leaves_(request.offset) {}

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] const nbd::Request& request() const { return request_; }
  [[nodiscard]] uint64_t begin() const { return request_.offset; }
  [[nodiscard]] uint64_t length() const { return request_.length; }

  /// True when a piece is left to ask for and the window has room.
  [[nodiscard]] bool can_ask() const { return next_ < end_ && asked_ - left_ < kWindow; }
  [[nodiscard]] bool nothing_under_way() const { return asked_ == left_; }
  /// The next piece, now counted as asked for; its number is `number`. Pieces end at multiples of
  /// Device::kMaxRead, which are extents' borders too, so no page is asked for twice.
  [[nodiscard]] Piece ask(uint32_t& number);
  /// The piece with this number has come.
  void arrived(uint32_t number, Piece piece, absl::StatusOr<DeviceBytes> result);
  /// The next piece in order, when it is here.
  [[nodiscard]] std::optional<Arrival> leave();
  /// The piece that leave() gave last was the range's last.
  [[nodiscard]] bool done() const { return next_ == end_ && asked_ == left_; }
  /// Where the next piece to leave begins.
  [[nodiscard]] uint64_t leaves() const { return leaves_; }

 private:
  Kind kind_;
  nbd::Request request_;
  uint64_t next_;  // where the next piece to ask for begins
  uint64_t end_;
  uint64_t leaves_;  // where the next piece to leave begins
  uint32_t asked_ = 0;
  uint32_t left_ = 0;
  std::array<std::optional<Arrival>, kWindow> here_;  // by number modulo kWindow
};

}  // namespace blobcache::blockdev
