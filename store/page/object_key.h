#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace blobcache::page {

/// What an object is called: 32 bytes. For a blob they are the SHA-256 of its content. Value type.
struct ObjectKey {
  std::array<uint8_t, 32> bytes{};

  friend bool operator==(const ObjectKey&, const ObjectKey&) = default;
  friend auto operator<=>(const ObjectKey&, const ObjectKey&) = default;

  template <typename H>
  friend H AbslHashValue(H h, const ObjectKey& key) {
    return H::combine(std::move(h), key.bytes);
  }

  /// 64 lower-case hex digits.
  [[nodiscard]] std::string hex() const;

  /// Of what has no key of its own, and is not found again. From the kernel's random source.
  /// Thread-safe.
  [[nodiscard]] static ObjectKey random();
};

/// Which life of a key or name this is: a random 128-bit id made anew whenever the object is
/// created again. It is mixed into every stored checksum, so that a page of an earlier life, or of
/// another object, never passes for a page of this one. Value type.
struct Incarnation {
  std::array<uint8_t, 16> bytes{};

  friend bool operator==(const Incarnation&, const Incarnation&) = default;

  /// 32 lower-case hex digits.
  [[nodiscard]] std::string hex() const;

  /// From the kernel's random source. Thread-safe.
  [[nodiscard]] static Incarnation random();
};

}  // namespace blobcache::page
