#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "store/page/page_store.h"
#include "test/store/page/content_source.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {

/// An eighth of it may wait for the disk, which is more than any test reads at once.
inline constexpr uint64_t kMemory = uint64_t{64} << 20;

inline ObjectKey key_of(uint8_t name) {
  ObjectKey key;
  key.bytes[0] = name;
  return key;
}

/// An origin's object: what it holds, and what was asked of it.
struct Remote {
  Remote(size_t size, uint8_t name)
      : source(std::make_shared<ContentSource>(random_bytes(size, name))), key(key_of(name)) {}
  explicit Remote(std::vector<std::byte> bytes, uint8_t name)
      : source(std::make_shared<ContentSource>(std::move(bytes))), key(key_of(name)) {}

  [[nodiscard]] const std::vector<std::byte>& content() const { return source->content(); }
  ObjectRef attach(PageStore& store) const {
    return store.attach_cached({key, content().size(), source});
  }
  /// Reads a range and compares; what it cost the source, in bytes, or -1 for wrong ones.
  int64_t read(PageStore& store, uint64_t offset, uint64_t length) const {
    const uint64_t before = source->bytes;
    if (!reads_as(*attach(store), content(), offset, length)) return -1;
    return static_cast<int64_t>(source->bytes - before);
  }
  int64_t read_all(PageStore& store) const {
    const uint64_t before = source->bytes;
    if (!reads_whole(*attach(store), content())) return -1;
    return static_cast<int64_t>(source->bytes - before);
  }

  std::shared_ptr<ContentSource> source;
  ObjectKey key;
};

}  // namespace blobcache::page
