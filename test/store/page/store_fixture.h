#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "store/page/geometry.h"
#include "store/page/page_store.h"
#include "test/temporary_directory.h"

namespace blobcache::page {

inline std::vector<std::byte> random_bytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

/// A hash that is only as good as this test needs: any changed byte changes it.
class SumHash final : public ContentHash {
 public:
  void update(absl::Span<const std::byte> bytes) override {
    for (const std::byte byte : bytes) sum_ = sum_ * 1099511628211U + static_cast<uint64_t>(byte);
  }
  ObjectKey finish() override {
    ObjectKey key;
    std::memcpy(key.bytes.data(), &sum_, sizeof(sum_));
    return key;
  }

 private:
  uint64_t sum_ = 1;
};

/// Bytes of data in a file: what is not a hole. Its blocks may be more, for the list of its pieces.
inline uint64_t data_of(const std::filesystem::path& path) {
  const base::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(file.valid());
  uint64_t bytes = 0;
  off_t hole = 0;
  for (off_t data = 0; (data = ::lseek(file.get(), hole, SEEK_DATA)) >= 0;) {
    hole = ::lseek(file.get(), data, SEEK_HOLE);
    REQUIRE(hole > data);
    bytes += static_cast<uint64_t>(hole - data);
  }
  REQUIRE(errno == ENXIO);
  return bytes;
}

inline ContentHashFactory sum_hash() {
  return [] { return std::make_unique<SumHash>(); };
}

/// The key that content has by this hash.
inline ObjectKey sum_of(absl::Span<const std::byte> content) {
  SumHash hash;
  hash.update(content);
  return hash.finish();
}

/// A store in a directory of its own, and objects put into it.
class Fixture {
 public:
  explicit Fixture(uint64_t memory_bytes = PageStore::kMinMemory, uint64_t budget_bytes = 1U << 30,
                   ContentHashFactory hash = nullptr, DiskFault fault = nullptr) {
    options_.disk_fault = std::move(fault);
    options_.content_hash = std::move(hash);
    options_.path = directory_.path();
    options_.memory_bytes = memory_bytes;
    options_.disk_bytes = budget_bytes;
    reopen();
  }

  /// What the next reopen() opens it with.
  PageStoreOptions& options() { return options_; }

  void close() { store_.reset(); }
  void reopen() { REQUIRE(try_reopen().ok()); }
  absl::Status try_reopen() {
    close();
    auto opened = PageStore::open(options_);
    if (!opened.ok()) return opened.status();
    store_ = *std::move(opened);
    return absl::OkStatus();
  }

  [[nodiscard]] bool is_open() const { return store_ != nullptr; }
  PageStore& store() { return *store_; }

  ObjectSpec put(absl::Span<const std::byte> bytes, uint8_t name) {
    ObjectKey key;
    key.bytes[0] = name;
    return put(bytes, key);
  }

  ObjectSpec put(absl::Span<const std::byte> bytes, const ObjectKey& key) {
    auto writer = store_->create(Retention::kKept, 0);
    REQUIRE(writer.ok());
    // Odd pieces, so that no buffer border falls on an append's.
    for (size_t at = 0; at < bytes.size();) {
      const size_t piece = std::min<size_t>(bytes.size() - at, 77777);
      REQUIRE((*writer)->append(bytes.subspan(at, piece)).ok());
      at += piece;
    }
    ObjectSpec spec;
    spec.key = key;
    const auto sealed = (*writer)->seal(spec.key, {.text = "a test", .records = {}});
    REQUIRE(sealed.ok());
    (*writer)->keep();
    spec.incarnation = sealed->incarnation;
    spec.size_bytes = sealed->size_bytes;
    spec.inline_map = sealed->inline_map;
    disk_bytes = sealed->disk_bytes;
    return spec;
  }

  /// The same with errors as they come; makes the object durable.
  absl::Status try_put(absl::Span<const std::byte> bytes, ObjectSpec& spec) {
    auto writer = store_->create(Retention::kKept, 0);
    if (!writer.ok()) return writer.status();
    if (absl::Status status = (*writer)->append(bytes); !status.ok()) return status;
    const auto sealed = (*writer)->seal(spec.key, {.text = "a test", .records = {}});
    if (!sealed.ok()) return sealed.status();
    ObjectWriter* object = writer->get();
    if (absl::Status status = store_->sync({&object, 1}); !status.ok()) return status;
    (*writer)->keep();
    spec.incarnation = sealed->incarnation;
    spec.size_bytes = sealed->size_bytes;
    spec.inline_map = sealed->inline_map;
    disk_bytes = sealed->disk_bytes;
    return absl::OkStatus();
  }

  std::filesystem::path file_of(const ObjectSpec& spec) const {
    return directory_.path() / "objects" / spec.key.hex().substr(0, 2) /
           (spec.key.hex() + "." + spec.incarnation.hex());
  }
  std::filesystem::path map_of(const ObjectSpec& spec) const {
    return file_of(spec).string() + ".map";
  }
  std::filesystem::path cached_file_of(const ObjectKey& key) const {
    return directory_.path() / "cache" / key.hex().substr(0, 2) / key.hex();
  }
  std::filesystem::path cached_map_of(const ObjectKey& key) const {
    return cached_file_of(key).string() + ".map";
  }
  const std::filesystem::path& path() const { return directory_.path(); }
  /// Under objects/ and tmp/.
  size_t files_on_disk() const {
    size_t files = 0;
    for (const char* folder : {"objects", "tmp"}) files += files_under(path() / folder);
    return files;
  }
  static size_t files_under(const std::filesystem::path& folder) {
    size_t files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      files += entry.is_regular_file() ? 1 : 0;
    }
    return files;
  }

  /// The bytes of it that are no holes, in whole pages; and of what sources brought.
  uint64_t data_on_disk() const {
    uint64_t bytes = 0;
    for (const char* folder : {"objects", "tmp", "cache"}) bytes += data_under(path() / folder);
    return bytes;
  }
  static uint64_t data_under(const std::filesystem::path& folder) {
    uint64_t bytes = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
      if (!entry.is_regular_file()) continue;
      bytes += page_count(data_of(entry.path())) << kPageShift;
    }
    return bytes;
  }

  uint64_t disk_bytes = 0;  ///< of the last put

 private:
  test::TemporaryDirectory directory_;
  PageStoreOptions options_;
  std::unique_ptr<PageStore> store_;
};

inline bool same(const PinnedRange& range, absl::Span<const std::byte> expected) {
  if (range.size_bytes() != expected.size()) return false;
  size_t at = 0;
  for (const iovec& piece : range.pieces()) {
    if (std::memcmp(piece.iov_base, expected.data() + at, piece.iov_len) != 0) return false;
    at += piece.iov_len;
  }
  return at == expected.size();
}

/// Reads [offset, offset + length) and compares.
inline bool reads_as(Object& object, absl::Span<const std::byte> content, uint64_t offset,
                     uint64_t length) {
  const auto range = object.read_wait(offset, length);
  return range.ok() && same(*range, content.subspan(offset, length));
}

inline bool reads_whole(Object& object, absl::Span<const std::byte> content) {
  for (uint64_t at = 0; at < content.size(); at += Object::kMaxRead) {
    const uint64_t length = std::min<uint64_t>(Object::kMaxRead, content.size() - at);
    if (!reads_as(object, content, at, length)) return false;
  }
  return true;
}

inline uint64_t blocks_of(const std::filesystem::path& path) {
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

inline void flip_byte(const std::filesystem::path& path, uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const char byte = static_cast<char>(file.get() ^ 0x40);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
  REQUIRE(file.good());
}

}  // namespace blobcache::page
