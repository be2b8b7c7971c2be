#include "store/page/page_store.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <thread>
#include <vector>

#include "store/page/geometry.h"
#include "test/temporary_directory.h"

namespace blobcache::page {
namespace {

std::vector<std::byte> random_bytes(size_t size, uint32_t seed) {
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

/// A store in a directory of its own, and objects put into it.
class Fixture {
 public:
  explicit Fixture(uint64_t memory_bytes = PageStore::kMinMemory, uint64_t budget_bytes = 1U << 30,
                   ContentHashFactory hash = nullptr) {
    options_.content_hash = std::move(hash);
    options_.path = directory_.path();
    options_.memory_bytes = memory_bytes;
    options_.disk_bytes = budget_bytes;
    reopen();
  }

  void reopen() {
    store_.reset();
    auto opened = PageStore::open(options_);
    REQUIRE(opened.ok());
    store_ = *std::move(opened);
  }

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
    const auto sealed = (*writer)->seal(spec.key, "a test");
    REQUIRE(sealed.ok());
    (*writer)->keep();
    spec.incarnation = sealed->incarnation;
    spec.size_bytes = sealed->size_bytes;
    spec.inline_map = sealed->inline_map;
    disk_bytes = sealed->disk_bytes;
    return spec;
  }

  std::filesystem::path file_of(const ObjectSpec& spec) const {
    return directory_.path() / "objects" / spec.key.hex().substr(0, 2) /
           (spec.key.hex() + "." + spec.incarnation.hex());
  }
  std::filesystem::path map_of(const ObjectSpec& spec) const {
    return file_of(spec).string() + ".map";
  }
  const std::filesystem::path& path() const { return directory_.path(); }

  uint64_t disk_bytes = 0;  ///< of the last put

 private:
  test::TemporaryDirectory directory_;
  PageStoreOptions options_;
  std::unique_ptr<PageStore> store_;
};

bool same(const PinnedRange& range, absl::Span<const std::byte> expected) {
  if (range.size_bytes() != expected.size()) return false;
  size_t at = 0;
  for (const iovec& piece : range.pieces()) {
    if (std::memcmp(piece.iov_base, expected.data() + at, piece.iov_len) != 0) return false;
    at += piece.iov_len;
  }
  return at == expected.size();
}

/// Reads [offset, offset + length) and compares.
bool reads_as(Object& object, absl::Span<const std::byte> content, uint64_t offset,
              uint64_t length) {
  const auto range = object.read_wait(offset, length);
  return range.ok() && same(*range, content.subspan(offset, length));
}

bool reads_whole(Object& object, absl::Span<const std::byte> content) {
  for (uint64_t at = 0; at < content.size(); at += Object::kMaxRead) {
    const uint64_t length = std::min<uint64_t>(Object::kMaxRead, content.size() - at);
    if (!reads_as(object, content, at, length)) return false;
  }
  return true;
}

uint64_t blocks_of(const std::filesystem::path& path) {
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

void flip_byte(const std::filesystem::path& path, uint64_t offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(offset));
  const char byte = static_cast<char>(file.get() ^ 0x40);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
  REQUIRE(file.good());
}

}  // namespace

TEST_CASE("objects of every awkward size read back, also after a restart") {
  Fixture fixture;
  const std::vector<size_t> sizes = {1,
                                     4095,
                                     4096,
                                     4097,
                                     kExtentSize - 1,
                                     kExtentSize,
                                     kExtentSize + 1,
                                     (1U << 20) - 1,
                                     1U << 20,
                                     (1U << 20) + 1,
                                     5 * 1000 * 1000};
  std::vector<ObjectSpec> specs;
  for (size_t i = 0; i < sizes.size(); ++i) {
    specs.push_back(
        fixture.put(random_bytes(sizes[i], static_cast<uint32_t>(i)), static_cast<uint8_t>(i)));
  }
  for (const bool restarted : {false, true}) {
    if (restarted) fixture.reopen();
    for (size_t i = 0; i < sizes.size(); ++i) {
      CAPTURE(sizes[i]);
      const auto content = random_bytes(sizes[i], static_cast<uint32_t>(i));
      const ObjectRef object = fixture.store().attach(specs[i]);
      CHECK(reads_whole(*object, content));
      CHECK(std::filesystem::file_size(fixture.file_of(specs[i])) == sizes[i]);
    }
  }
}

TEST_CASE("a read that L0 holds is answered by try_read, across extents and unaligned") {
  Fixture fixture(64U << 20);
  const auto content = random_bytes(3 * kExtentSize + 123, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  PinnedRange range;
  CHECK_FALSE(object->try_read(0, 1, range));
  REQUIRE(reads_whole(*object, content));
  for (const auto& [offset, length] :
       std::vector<std::pair<uint64_t, uint64_t>>{{0, 1},
                                                  {4095, 2},
                                                  {kExtentSize - 1, 2},
                                                  {1, 3 * kExtentSize},
                                                  {content.size() - 1, 1}}) {
    REQUIRE(object->try_read(offset, length, range));
    CHECK(same(range, absl::MakeConstSpan(content).subspan(offset, length)));
  }
  CHECK(fixture.store().stats().memory_pinned_frames == 1);
  range.release();
  CHECK(fixture.store().stats().memory_pinned_frames == 0);
}

TEST_CASE("ranges outside the object are OUT_OF_RANGE, never a crash") {
  Fixture fixture;
  const ObjectRef object = fixture.store().attach(fixture.put(random_bytes(10000, 1), 1));
  for (const auto& [offset, length] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 0}, {10000, 1}, {9999, 2}, {UINT64_MAX, 2}, {1, UINT64_MAX}, {0, 10001}}) {
    CAPTURE(offset);
    CAPTURE(length);
    CHECK(absl::IsOutOfRange(object->read_wait(offset, length).status()));
  }
}

TEST_CASE("a miss of one page moves one page") {
  Fixture fixture;
  const auto content = random_bytes(8U << 20, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  const uint64_t before = fixture.store().stats().disk_read_bytes;
  CHECK(reads_as(*object, content, 5 * kPageSize + 7, 100));
  CHECK(fixture.store().stats().disk_read_bytes - before == kPageSize);
  CHECK(fixture.store().stats().memory_resident_bytes == kPageSize);
}

TEST_CASE("zero pages take no disk and are read without it") {
  Fixture fixture;
  std::vector<std::byte> content(20U << 20);
  const auto middle = random_bytes(kPageSize, 1);
  std::copy(middle.begin(), middle.end(), content.begin() + (10 << 20));
  const ObjectSpec spec = fixture.put(content, 1);
  CHECK(blocks_of(fixture.file_of(spec)) <= 2 * kPageSize);
  CHECK(fixture.disk_bytes < 64 * 1024);
  const ObjectRef object = fixture.store().attach(spec);
  const uint64_t before = fixture.store().stats().disk_read_bytes;
  CHECK(reads_whole(*object, content));
  CHECK(fixture.store().stats().disk_read_bytes - before == kPageSize);
  const auto residency = object->residency();
  REQUIRE(residency.ok());
  CHECK(residency->zero_pages == page_count(content.size()) - 1);
  CHECK(residency->disk_pages == page_count(content.size()));
}

TEST_CASE("two readers of the same cold bytes make one fetch") {
  Fixture fixture(64U << 20);
  const auto content = random_bytes(16U << 20, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  const uint64_t before = fixture.store().stats().disk_read_bytes;
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] { wrong += reads_whole(*object, content) ? 0 : 1; });
  }
  for (auto& reader : readers) reader.join();
  CHECK(wrong == 0);
  CHECK(fixture.store().stats().disk_read_bytes - before == content.size());
}

TEST_CASE("many readers under a budget far smaller than the data get right bytes") {
  Fixture fixture(PageStore::kMinMemory);
  const auto content = random_bytes(48U << 20, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (uint32_t seed = 0; seed < 6; ++seed) {
    readers.emplace_back([&, seed] {
      std::mt19937 random(seed);
      for (int i = 0; i < 400; ++i) {
        const uint64_t length = 1 + random() % Object::kMaxRead;
        const uint64_t offset = random() % (content.size() - length);
        wrong += reads_as(*object, content, offset, length) ? 0 : 1;
      }
    });
  }
  for (auto& reader : readers) reader.join();
  CHECK(wrong == 0);
  const Stats stats = fixture.store().stats();
  CHECK(stats.memory_resident_bytes <= PageStore::kMinMemory);
  CHECK(stats.memory_evicted_extents > 0);
  CHECK(stats.memory_pinned_frames == 0);
  CHECK(stats.flights == 0);
}

TEST_CASE("reads wait while every frame is pinned, and go on when one is let go") {
  Fixture fixture(PageStore::kMinMemory);
  const auto content = random_bytes(32U << 20, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  // 1/32 of the budget is for checksums; the rest is frames.
  constexpr uint64_t kFrames = PageStore::kMinMemory / kExtentSize - 1;
  std::vector<PinnedRange> held;
  for (uint64_t i = 0; i < kFrames; ++i) {
    auto range = object->read_wait(i * kExtentSize, kExtentSize);
    REQUIRE(range.ok());
    held.push_back(*std::move(range));
  }
  std::atomic<int> answers{0};
  std::atomic<int> wrong{0};
  for (uint64_t i = 0; i < 3; ++i) {
    const uint64_t offset = (kFrames + i) * kExtentSize;
    object->read(offset, kExtentSize, [&, offset](absl::StatusOr<PinnedRange> result) {
      const auto expected = absl::MakeConstSpan(content).subspan(offset, kExtentSize);
      wrong += result.ok() && same(*result, expected) ? 0 : 1;
      ++answers;
    });
  }
  CHECK(answers == 0);
  held.clear();
  while (answers < 3) std::this_thread::yield();
  CHECK(wrong == 0);
  CHECK(reads_whole(*object, content));
}

TEST_CASE("a damaged page is an error for that page alone, never wrong bytes") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  flip_byte(fixture.file_of(spec), 10 * kPageSize + 100);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsDataLoss(object->read_wait(9 * kPageSize, 3 * kPageSize).status()));
  CHECK(absl::IsDataLoss(object->read_wait(10 * kPageSize, 1).status()));
  CHECK(reads_as(*object, content, 9 * kPageSize, kPageSize));
  CHECK(reads_as(*object, content, 11 * kPageSize, kExtentSize));
  CHECK(fixture.store().stats().checksum_errors == 1);
  CHECK(fixture.store().stats().flights == 0);
}

TEST_CASE("a page of another place does not pass for this one") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  {
    // Page 3's bytes, checksum and all, at page 4's place: what a lost seek would write.
    std::fstream file(fixture.file_of(spec), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4 * kPageSize);
    file.write(reinterpret_cast<const char*>(content.data()) + 3 * kPageSize, kPageSize);
  }
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsDataLoss(object->read_wait(4 * kPageSize, 1).status()));
  CHECK(reads_as(*object, content, 3 * kPageSize, kPageSize));
}

TEST_CASE("a damaged page map is DATA_LOSS for a file that cannot be checked otherwise") {
  Fixture fixture;
  const auto content = random_bytes(12U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  flip_byte(fixture.map_of(spec), 4096 + 50);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
  CHECK(reads_as(*object, content, 4U << 20, kPageSize));  // another map block
  CHECK(fixture.store().stats().map_errors >= 1);
}

TEST_CASE("a damaged or missing page map is made again from a file that matches its key") {
  for (const uint64_t size : {uint64_t{12U << 20}, uint64_t{300'000}}) {
    CAPTURE(size);
    Fixture fixture(PageStore::kMinMemory, 1U << 30, [] { return std::make_unique<SumHash>(); });
    const auto content = random_bytes(size, 1);
    SumHash hash;
    hash.update(content);
    ObjectSpec spec = fixture.put(content, hash.finish());
    const bool has_map = spec.inline_map.empty();
    for (const bool missing : {false, true}) {
      if (has_map && missing) {
        std::filesystem::remove(fixture.map_of(spec));
      } else if (has_map) {
        flip_byte(fixture.map_of(spec), 4096 + 50);
      } else {
        spec.inline_map[missing ? 21 : 20] ^= 1;
      }
      fixture.reopen();
      const ObjectRef object = fixture.store().attach(spec);
      CHECK(reads_whole(*object, content));
      CHECK(fixture.store().stats().maps_rebuilt == 1);
      CHECK(std::filesystem::is_empty(fixture.path() / "tmp"));
    }
    if (!has_map) continue;
    // The new map is on the disk: the next start needs no repair.
    fixture.reopen();
    CHECK(reads_whole(*fixture.store().attach(spec), content));
    CHECK(fixture.store().stats().maps_rebuilt == 0);
  }
}

TEST_CASE("a page map is not made again from a file that does not match its key") {
  Fixture fixture(PageStore::kMinMemory, 1U << 30, [] { return std::make_unique<SumHash>(); });
  const auto content = random_bytes(12U << 20, 1);
  SumHash hash;
  hash.update(content);
  const ObjectSpec spec = fixture.put(content, hash.finish());
  flip_byte(fixture.map_of(spec), 4096 + 50);
  flip_byte(fixture.file_of(spec), 8U << 20);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
  CHECK(absl::IsDataLoss(object->read_wait(0, 1).status()));
  CHECK(fixture.store().stats().maps_rebuilt == 0);
}

TEST_CASE("a writer that is not kept leaves nothing and gives its room back") {
  Fixture fixture;
  const uint64_t before = fixture.store().stats().disk_used_bytes;
  for (const bool sealed : {false, true}) {
    auto writer = fixture.store().create(Retention::kKept, 0);
    REQUIRE(writer.ok());
    REQUIRE((*writer)->append(random_bytes(5U << 20, 1)).ok());
    CHECK(fixture.store().stats().disk_used_bytes > before);
    if (sealed) REQUIRE((*writer)->seal(ObjectKey(), "").ok());
    writer->reset();
    CHECK(fixture.store().stats().disk_used_bytes == before);
    CHECK(std::filesystem::is_empty(fixture.path() / "tmp"));
    CHECK(std::filesystem::is_empty(fixture.path() / "objects" / "00"));
  }
}

TEST_CASE("what a crash leaves is gone after the next start") {
  Fixture fixture;
  {
    std::ofstream(fixture.path() / "tmp" / "0123.map") << "half";
  }
  const ObjectSpec known = fixture.put(random_bytes(2U << 20, 1), 1);
  const ObjectSpec orphan = fixture.put(random_bytes(2U << 20, 2), 2);
  {
    std::ofstream(fixture.path() / "objects" / "02" / "README") << "not ours";
  }
  auto writer = fixture.store().create(Retention::kKept, 0);
  REQUIRE(writer.ok());
  REQUIRE((*writer)->append(random_bytes(100, 3)).ok());
  ObjectKey under_way;
  under_way.bytes[0] = 3;
  REQUIRE((*writer)->seal(under_way, "").ok());
  const auto removed = fixture.store().remove_orphans(
      [&](const ObjectKey& key, const Incarnation&) { return key == known.key; });
  REQUIRE(removed.ok());
  CHECK(*removed == 2);  // data and map
  CHECK(std::filesystem::exists(fixture.file_of(known)));
  CHECK_FALSE(std::filesystem::exists(fixture.file_of(orphan)));
  CHECK(std::filesystem::exists(fixture.path() / "objects" / "02" / "README"));
  CHECK_FALSE(std::filesystem::is_empty(fixture.path() / "objects" / "03"));
  writer->reset();
  fixture.reopen();
  CHECK(std::filesystem::is_empty(fixture.path() / "tmp"));
}

TEST_CASE("a removed object stays readable for who holds it, and its room is free") {
  Fixture fixture;
  const auto content = random_bytes(3U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  const ObjectRef object = fixture.store().attach(spec);
  const uint64_t used = fixture.store().stats().disk_used_bytes;
  REQUIRE(fixture.store()
              .remove(spec.key, spec.incarnation, Retention::kKept, fixture.disk_bytes)
              .ok());
  CHECK(fixture.store().stats().disk_used_bytes == used - fixture.disk_bytes);
  CHECK_FALSE(std::filesystem::exists(fixture.file_of(spec)));
  CHECK(reads_whole(*object, content));
}

TEST_CASE("a put past the budget fails and the store goes on") {
  Fixture fixture(PageStore::kMinMemory, 4U << 20);
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  CHECK(absl::IsResourceExhausted(fixture.store().create(Retention::kKept, 64U << 20).status()));
  auto writer = fixture.store().create(Retention::kKept, 0);
  REQUIRE(writer.ok());
  CHECK(absl::IsResourceExhausted((*writer)->append(random_bytes(8U << 20, 2))));
  writer->reset();
  CHECK(fixture.store().stats().disk_used_bytes <= (4U << 20));
  CHECK(reads_whole(*fixture.store().attach(spec), content));
  fixture.put(random_bytes(1U << 20, 3), 3);
}

TEST_CASE("evict_memory drops what is not pinned") {
  Fixture fixture(64U << 20);
  const auto content = random_bytes(4 * kExtentSize, 1);
  const ObjectRef object = fixture.store().attach(fixture.put(content, 1));
  REQUIRE(reads_whole(*object, content));
  PinnedRange pinned;
  REQUIRE(object->try_read(0, 1, pinned));
  CHECK(fixture.store().evict_memory(*object) == 3 * kPagesPerExtent);
  PinnedRange range;
  CHECK(object->try_read(0, kExtentSize, range));
  CHECK_FALSE(object->try_read(kExtentSize, 1, range));
  CHECK(reads_whole(*object, content));
}

TEST_CASE("a memory budget below the least is refused") {
  test::TemporaryDirectory directory;
  PageStoreOptions options;
  options.path = directory.path();
  options.memory_bytes = 1U << 20;
  CHECK(absl::IsInvalidArgument(PageStore::open(options).status()));
  options.memory_bytes = PageStore::kMinMemory;
  options.eviction = "random";
  CHECK(absl::IsInvalidArgument(PageStore::open(options).status()));
  options.eviction = "s3-fifo";
  options.path = directory.path() / "absent";
  CHECK(absl::IsNotFound(PageStore::open(options).status()));
}

}  // namespace blobcache::page
