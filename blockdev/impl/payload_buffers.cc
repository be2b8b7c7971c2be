#include "blockdev/impl/payload_buffers.h"

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

namespace blobcache::blockdev {
namespace {

size_t class_of(size_t size) {
  const size_t rounded = std::bit_ceil(std::max(size, PayloadBuffers::kSmallest));
  return static_cast<size_t>(std::countr_zero(rounded) -
                             std::countr_zero(PayloadBuffers::kSmallest));
}

}  // namespace

std::optional<PayloadBuffers::Buffer> PayloadBuffers::take(size_t size) {
  const size_t number = class_of(size);
  if (!free_[number].empty()) {
    Buffer buffer = std::move(free_[number].back());
    free_[number].pop_back();
    free_bytes_ -= buffer.size;
    return buffer;
  }
  const size_t bytes = kSmallest << number;
  if (!hold(held_ + bytes)) {
    // Those of other sizes may be what takes the room.
    release_free();
    if (!hold(held_ + bytes)) return std::nullopt;
  }
  void* memory = std::aligned_alloc(kSmallest, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  Buffer buffer;
  buffer.bytes.reset(static_cast<std::byte*>(memory));
  buffer.size = bytes;
  return buffer;
}

/// From now on so many bytes. False, with nothing changed, when the bounds do not admit them.
bool PayloadBuffers::hold(uint64_t bytes) {
  if (bytes > kMaxHeld) return false;
  const uint64_t charge = bytes > kReserved ? bytes - kReserved : 0;
  if (charge > charged_) {
    if (!shared_.take(charge - charged_)) return false;
  } else {
    shared_.give_back(charged_ - charge);
  }
  charged_ = charge;
  held_ = bytes;
  return true;
}

void PayloadBuffers::give_back(Buffer buffer) {
  free_bytes_ += buffer.size;
  free_[class_of(buffer.size)].push_back(std::move(buffer));
}

void PayloadBuffers::release_free() {
  for (std::vector<Buffer>& buffers : free_) buffers.clear();
  (void)hold(held_ - std::exchange(free_bytes_, 0));  // less is always admitted
}

}  // namespace blobcache::blockdev
