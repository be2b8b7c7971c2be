#include "blockdev/impl/large_read.h"

#include <algorithm>
#include <utility>

namespace blobcache::blockdev {

LargeRead::Piece LargeRead::ask(uint32_t& number) {
  constexpr uint64_t kMax = Device::kMaxRead;
  const uint64_t stop = std::min(end_, (next_ / kMax + 1) * kMax);
  const Piece piece{next_, static_cast<uint32_t>(stop - next_)};
  next_ = stop;
  number = asked_++;
  return piece;
}

void LargeRead::arrived(uint32_t number, Piece piece, absl::StatusOr<DeviceBytes> result) {
  here_[number % kWindow] = Arrival{piece, std::move(result)};
}

std::optional<LargeRead::Arrival> LargeRead::leave() {
  std::optional<Arrival>& next = here_[left_ % kWindow];
  if (!next) return std::nullopt;
  ++left_;
  leaves_ = next->piece.offset + next->piece.length;
  return std::exchange(next, std::nullopt);
}

}  // namespace blobcache::blockdev
