#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

/// Numbers as the wire has them. Pure.
namespace blobcache::blockdev::nbd {

/// The number at `at`, which has as many bytes as T.
template <typename T>
[[nodiscard]] T load(const std::byte* at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = value << 8 | std::to_integer<uint64_t>(at[i]);
  return static_cast<T>(value);
}

/// Writes the number at `at`, and moves `at` behind it.
template <typename T>
void store(std::byte*& at, T value) {
  for (size_t i = sizeof(T); i-- > 0;) {
    *at++ = static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i) & 0xff);
  }
}

template <typename T>
void append(std::string& out, T value) {
  for (size_t i = sizeof(T); i-- > 0;) {
    out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i) & 0xff));
  }
}

}  // namespace blobcache::blockdev::nbd
