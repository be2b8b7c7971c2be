#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "base/parcel.h"
#include "base/status.h"
#include "store/page/page_store.h"
#include "store/tree/digest.h"
#include "store/tree/namespace.h"
#include "store/tree/origin.h"

namespace blobcache::tree {

inline constexpr size_t kMiB = size_t{1} << 20;
inline constexpr absl::Duration kTtl = absl::Hours(24);

inline absl::Span<const std::byte> bytes_of(std::string_view text) {
  const void* data = text.data();
  return {static_cast<const std::byte*>(data), text.size()};
}

inline page::ObjectKey digest_of(std::string_view content) {
  Sha256 hash;
  hash.update(bytes_of(content));
  return hash.finish();
}

/// Content that no other seed gives and that is not zero, so that it takes its pages on the disk.
inline std::string content_of(size_t size, uint32_t seed) {
  std::string content(size, '\0');
  uint32_t state = seed * 2654435761U + 1;
  for (char& c : content) {
    state = state * 1664525U + 1013904223U;
    c = static_cast<char>((state >> 24) | 1U);
  }
  return content;
}

/// A directory of the test's own, removed with all that is in it.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(
      const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string name = (parent / "blobcache.XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// A clock that stands still until it is set. Thread-safe.
class ManualClock {
 public:
  [[nodiscard]] absl::Time now() const { return absl::FromUnixNanos(now_ns_.load()); }
  void advance(absl::Duration by) { now_ns_.fetch_add(absl::ToInt64Nanoseconds(by)); }

 private:
  std::atomic<int64_t> now_ns_{int64_t{1'700'000'000} * 1'000'000'000};
};

/// A real page store and a namespace over it in a temporary directory; reopen() is a restart.
class TreeFixture {
 public:
  /// On a certain file system.
  struct Place {
    uint64_t reserve_bytes = 0;
    std::filesystem::path parent;
  };

  explicit TreeFixture(uint64_t disk_bytes = uint64_t{1} << 30, page::DiskFault fault = nullptr)
      : disk_bytes_(disk_bytes), reserve_bytes_(0), fault_(std::move(fault)) {
    open();
  }
  TreeFixture(uint64_t disk_bytes, const Place& place)
      : directory_(place.parent), disk_bytes_(disk_bytes), reserve_bytes_(place.reserve_bytes) {
    open();
  }

  /// For the next open().
  uint64_t volume_bytes = uint64_t{1} << 30;
  absl::Duration settle_after = absl::Hours(1);  ///< never, as far as a test goes
  std::vector<std::shared_ptr<Origin>> origins;
  const base::Parcel* handed_over = nullptr;

  void open() {
    page::PageStoreOptions options;
    options.path = directory_.path();
    options.memory_bytes = uint64_t{16} << 20;
    options.disk_bytes = disk_bytes_;
    options.disk_reserve_bytes = reserve_bytes_;
    options.disk_fault = fault_;
    absl::StatusOr<std::unique_ptr<page::PageStore>> store = page::PageStore::open(options);
    REQUIRE_MESSAGE(store.ok(), store.status().ToString());
    store_ = *std::move(store);
    open_names();
  }
  /// Over the store that is open.
  void open_names() {
    absl::StatusOr<std::unique_ptr<Namespace>> names =
        Namespace::open(namespace_options(), *store_);
    REQUIRE_MESSAGE(names.ok(), names.status().ToString());
    names_ = *std::move(names);
  }
  void close_names() { names_ = nullptr; }
  void close() {
    close_names();
    store_ = nullptr;
  }
  void reopen() {
    close();
    open();
  }

  [[nodiscard]] NamespaceOptions namespace_options() {
    NamespaceOptions options;
    options.path = directory_.path();
    options.unnamed_ttl = absl::Hours(24);
    options.volume_bytes = volume_bytes;
    options.settle_after = settle_after;
    options.origins = origins;
    options.handed_over = handed_over;
    options.clock = [this] { return clock_.now(); };
    return options;
  }

  Namespace& names() { return *names_; }
  page::PageStore& store() { return *store_; }
  ManualClock& clock() { return clock_; }
  [[nodiscard]] const std::filesystem::path& path() const { return directory_.path(); }

  absl::StatusOr<CommittedBlob> try_put(std::string_view content, std::string_view path = "") {
    BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<BlobWriter> writer,
                               names_->put(path, Creator{}, content.size()));
    BLOBCACHE_RETURN_IF_ERROR(writer->append(bytes_of(content)));
    return writer->commit();
  }
  CommittedBlob put(std::string_view content, std::string_view path = "") {
    absl::StatusOr<CommittedBlob> blob = try_put(content, path);
    REQUIRE_MESSAGE(blob.ok(), blob.status().ToString());
    return *blob;
  }

  absl::StatusOr<std::string> try_read(NodeId node) {
    BLOBCACHE_ASSIGN_OR_RETURN(const page::ObjectRef object, names_->open(node));
    return read_object(*object);
  }
  absl::StatusOr<std::string> try_read(std::string_view path) {
    BLOBCACHE_ASSIGN_OR_RETURN(const Node node, names_->resolve(path));
    return try_read(node.id);
  }
  std::string read(std::string_view path) {
    absl::StatusOr<std::string> content = try_read(path);
    REQUIRE_MESSAGE(content.ok(), content.status().ToString());
    return *content;
  }
  static absl::StatusOr<std::string> read_object(page::Object& object) {
    std::string content;
    while (content.size() < object.size_bytes()) {
      const uint64_t length =
          std::min<uint64_t>(page::Object::kMaxRead, object.size_bytes() - content.size());
      BLOBCACHE_ASSIGN_OR_RETURN(const page::PinnedRange range,
                                 object.read_wait(content.size(), length));
      for (const iovec& piece : range.pieces()) {
        content.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
      }
    }
    return content;
  }

  /// The whole directory, in pieces of `limit`.
  std::vector<std::string> list(std::string_view path, size_t limit = 3) {
    const Node directory = names_->resolve(path).value();
    std::vector<std::string> seen;
    for (uint64_t cookie = 0;;) {
      const std::vector<NamedNode> entries = names_->list(directory.id, cookie, limit).value();
      if (entries.empty()) return seen;
      for (const NamedNode& entry : entries) seen.push_back(entry.name);
      cookie = entries.back().cookie;
    }
  }

  /// Does to every object's file what disks and people do: "rot" (one byte changes), "gone", "cut"
  /// (to half its size); or "map gone" to its page map, where it has a file of its own.
  void damage(std::string_view how) {
    const auto objects = std::filesystem::recursive_directory_iterator(path() / "objects");
    std::vector<std::filesystem::path> files;
    for (const auto& entry : objects) {
      const bool is_map = entry.path().extension() == ".map";
      if (entry.path().extension() == ".names") continue;
      if (entry.is_regular_file() && is_map == (how == "map gone")) files.push_back(entry.path());
    }
    for (const std::filesystem::path& file : files) {
      const uint64_t size = std::filesystem::file_size(file);
      if (how == "cut") {
        std::filesystem::resize_file(file, size / 2);
      } else if (how == "rot") {
        std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
        stream.seekp(static_cast<std::streamoff>(size / 2));
        stream.put('\0');  // no byte of content_of()
      } else {
        std::filesystem::remove(file);
      }
    }
  }

  /// Files under objects/ and tmp/, those of page maps too.
  [[nodiscard]] size_t files_on_disk() const {
    size_t files = 0;
    for (const char* folder : {"objects", "tmp"}) {
      for (const auto& entry :
           std::filesystem::recursive_directory_iterator(directory_.path() / folder)) {
        if (entry.is_regular_file()) ++files;
      }
    }
    return files;
  }

 private:
  const TemporaryDirectory directory_;
  const uint64_t disk_bytes_;
  const uint64_t reserve_bytes_;
  const page::DiskFault fault_;
  ManualClock clock_;
  std::unique_ptr<page::PageStore> store_;
  std::unique_ptr<Namespace> names_;
};

inline std::string blob_path(const page::ObjectKey& key) { return "blobs/" + key.hex(); }

inline bool says(const absl::Status& status, std::string_view text) {
  return base::message(status).find(text) != std::string_view::npos;
}

}  // namespace blobcache::tree
