#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "store/page/geometry.h"
#include "store/page/page_store.h"
#include "store/volume/space_budget.h"
#include "store/volume/volume.h"
#include "store/volume/workers.h"
#include "test/store/page/content_source.h"
#include "test/temporary_directory.h"

namespace blobcache::volume {

using Bytes = std::vector<std::byte>;

inline constexpr uint64_t kPage = page::kPageSize;
inline constexpr uint64_t kBlockBytes = uint64_t{15} << page::kExtentShift;

inline Bytes random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  for (size_t at = 0; at < size; at += sizeof(uint64_t)) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + at, &word, std::min(sizeof(word), size - at));
  }
  return bytes;
}

inline BootId boot(uint8_t number) {
  BootId id;
  id.bytes.fill(number);
  return id;
}

/// A base: an object of a page store of its own, whose source counts what is asked of it.
class TestBase {
 public:
  explicit TestBase(Bytes content) : TestBase(std::move(content), {}) {}
  /// In a folder that exists.
  TestBase(Bytes content, const std::filesystem::path& folder) {
    page::PageStoreOptions options;
    options.path = folder;
    if (folder.empty()) options.path = directory_.emplace().path();
    options.memory_bytes = page::PageStore::kMinMemory;
    auto opened = page::PageStore::open(options);
    REQUIRE(opened.ok());
    store_ = *std::move(opened);
    page::CachedSpec spec;
    spec.key.bytes[0] = 7;
    spec.size_bytes = content.size();
    source_ = std::make_shared<page::ContentSource>(std::move(content));
    spec.source = source_;
    object_ = store_->attach_cached(spec);
  }
  [[nodiscard]] const page::ObjectRef& object() const { return object_; }
  [[nodiscard]] const Bytes& content() const { return source_->content(); }
  [[nodiscard]] uint64_t bytes_read() const { return source_->bytes.load(); }

 private:
  std::optional<test::TemporaryDirectory> directory_;
  std::unique_ptr<page::PageStore> store_;
  std::shared_ptr<page::ContentSource> source_;
  page::ObjectRef object_;
};

/// Of a file volume that a fixture makes. What is absent is not there.
struct FileSpec {
  uint64_t length = 0;
  TestBase* base = nullptr;
  page::DiskFault fault = nullptr;
  SpaceBudget* budget = nullptr;
  size_t cached_blocks = 4096;
  bool in_folder = true;
};

/// A volume in a directory of its own, perhaps over a base.
class VolumeFixture {
 public:
  explicit VolumeFixture(FileSpec spec) {
    set_options(spec.base, std::move(spec.fault), spec.budget);
    options_.cached_blocks = spec.cached_blocks;
    options_.in_folder = spec.in_folder;
    auto created = Volume::create_file(options_, spec.length);
    REQUIRE_MESSAGE(created.ok(), base::message(created.status()));
    volume_ = *std::move(created);
  }
  explicit VolumeFixture(uint64_t size_bytes, TestBase* base = nullptr,
                         page::DiskFault fault = nullptr)
      : VolumeFixture(size_bytes, base, std::move(fault), nullptr) {}
  VolumeFixture(uint64_t size_bytes, TestBase* over, page::DiskFault fault, SpaceBudget* budget) {
    set_options(over, std::move(fault), budget);
    auto created = Volume::create(options_, size_bytes);
    REQUIRE_MESSAGE(created.ok(), base::message(created.status()));
    volume_ = *std::move(created);
  }
  ~VolumeFixture() { drop(); }
  VolumeFixture(const VolumeFixture&) = delete;
  VolumeFixture& operator=(const VolumeFixture&) = delete;

  [[nodiscard]] Volume& volume() const { return *volume_; }
  [[nodiscard]] VolumeOptions& options() { return options_; }
  [[nodiscard]] Workers& workers() { return workers_; }
  [[nodiscard]] const std::filesystem::path& path() const { return options_.path; }
  /// One of its files.
  [[nodiscard]] std::filesystem::path file(const char* name) const {
    std::filesystem::path path = options_.path;
    path += options_.in_folder ? "/" : ".";
    return path += name;
  }

  /// As a kill does, but for what is in the middle of something.
  void drop() {
    const std::weak_ptr<Volume> gone = volume_;
    volume_.reset();
    // A worker holds it until it is done with the operation that it has answered.
    while (!gone.expired()) std::this_thread::yield();
    // Nor is it gone before its files are closed: the next one waits for the lock on them.
    const base::UniqueFd header(::open(file("header").c_str(), O_RDONLY | O_CLOEXEC));
    if (header.valid()) REQUIRE(::flock(header.get(), LOCK_EX) == 0);
  }
  absl::Status try_open() {
    drop();
    auto opened = Volume::open(options_);
    if (opened.ok()) volume_ = *opened;
    return opened.status();
  }
  void reopen() {
    const absl::Status status = try_open();
    REQUIRE_MESSAGE(status.ok(), base::message(status));
  }
  void close_and_reopen() {
    REQUIRE(volume_->close().ok());
    reopen();
  }

  [[nodiscard]] Bytes read(uint64_t offset, uint64_t length) const {
    Bytes bytes(length, std::byte{0xA5});
    const absl::Status status = volume_->read_wait(offset, absl::MakeSpan(bytes));
    REQUIRE_MESSAGE(status.ok(), base::message(status));
    return bytes;
  }
  [[nodiscard]] Bytes read_all() const { return read(0, volume_->size_bytes()); }
  void write(uint64_t offset, const Bytes& bytes, bool fua = false) const {
    const absl::Status status = volume_->write_wait(offset, bytes, fua);
    REQUIRE_MESSAGE(status.ok(), base::message(status));
  }
  [[nodiscard]] std::vector<Run> map(uint64_t offset, uint64_t length,
                                     size_t max_runs = 1000) const {
    auto runs = volume_->map_wait(offset, length, max_runs);
    REQUIRE(runs.ok());
    return *std::move(runs);
  }

 private:
  void set_options(TestBase* over, page::DiskFault fault, SpaceBudget* budget) {
    options_.path = directory_.path() / "volume";
    options_.workers = &workers_;
    options_.boot_id = boot(1);
    options_.disk_fault = std::move(fault);
    options_.budget = budget;
    if (over != nullptr) options_.base = over->object();
  }

  test::TemporaryDirectory directory_;
  Workers workers_{4};
  VolumeOptions options_;
  std::shared_ptr<Volume> volume_;
};

/// What a volume must hold: the plain bytes.
class Model {
 public:
  Model(uint64_t size_bytes, const Bytes& base) : bytes_(size_bytes) {
    std::copy_n(base.begin(), std::min(base.size(), bytes_.size()), bytes_.begin());
  }
  void write(uint64_t offset, const Bytes& bytes) {
    std::copy(bytes.begin(), bytes.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  void zero(uint64_t offset, uint64_t length) {
    std::fill_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), length, std::byte{0});
  }
  void grow(uint64_t size_bytes) { bytes_.resize(size_bytes); }
  [[nodiscard]] const Bytes& bytes() const { return bytes_; }
  [[nodiscard]] Bytes part(uint64_t offset, uint64_t length) const {
    const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(offset);
    return {begin, begin + static_cast<std::ptrdiff_t>(length)};
  }

 private:
  Bytes bytes_;
};

}  // namespace blobcache::volume
