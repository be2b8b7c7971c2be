#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace blobcache::blockdev {

/// Things under way, each in a slot whose number names it. Slots are recycled, so that it allocates
/// nothing once it has grown to its working size; the user bounds it. Not thread-safe.
template <typename T>
class SlotTable {
 public:
  [[nodiscard]] uint32_t add(T value) {
    if (free_.empty()) {
      free_.push_back(static_cast<uint32_t>(slots_.size()));
      slots_.emplace_back();
    }
    const uint32_t slot = free_.back();
    free_.pop_back();
    slots_[slot].emplace(std::move(value));
    ++used_;
    return slot;
  }
  [[nodiscard]] T remove(uint32_t slot) {
    T value = *std::move(slots_[slot]);
    slots_[slot].reset();
    free_.push_back(slot);
    --used_;
    return value;
  }
  /// Valid until the next add().
  [[nodiscard]] T& at(uint32_t slot) { return *slots_[slot]; }

  [[nodiscard]] size_t size() const { return used_; }

  template <typename Visit>
  void for_each(const Visit& visit) {
    for (std::optional<T>& slot : slots_) {
      if (slot) visit(*slot);
    }
  }

 private:
  std::vector<std::optional<T>> slots_;
  std::vector<uint32_t> free_;
  size_t used_ = 0;
};

}  // namespace blobcache::blockdev
