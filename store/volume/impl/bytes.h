#pragma once

#include <bit>
#include <cstddef>
#include <cstring>

#include "absl/types/span.h"

namespace blobcache::volume {

// The files of a volume are little-endian, as is every machine that this is built for.
static_assert(std::endian::native == std::endian::little);

/// Puts a number, or an array of them, at `at`; the next place.
template <typename T>
size_t put(absl::Span<std::byte> out, size_t at, const T& value) {
  std::memcpy(out.subspan(at, sizeof(T)).data(), &value, sizeof(T));
  return at + sizeof(T);
}

/// Takes what put() put; the next place.
template <typename T>
size_t take(absl::Span<const std::byte> in, size_t at, T& value) {
  std::memcpy(&value, in.subspan(at, sizeof(T)).data(), sizeof(T));
  return at + sizeof(T);
}

}  // namespace blobcache::volume
