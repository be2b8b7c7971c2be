// What a scrub finds in volumes, and what it does not take for damage.

#include <doctest/doctest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "store/page/page_map.h"
#include "store/tree/scrub.h"
#include "store/tree/volumes.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kPageBytes = page::kPageSize;
constexpr uint64_t kBlockOfMap = page::kExtentsPerMapBlock * page::kExtentSize;
constexpr Creator kDiskMaker{.uid = 7, .gid = 8, .may_replace = MayReplace::kAll};

/// Remembers what it is told.
class VolumeWatcher final : public ScrubWatcher {
 public:
  bool may_read(uint64_t bytes) override {
    if (before_read) before_read(bytes);
    largest = std::max(largest, bytes);
    return steps-- > 0;
  }
  void on_begin(uint64_t objects, uint64_t disk_bytes) override {
    expected = objects;
    expected_bytes = disk_bytes;
  }
  void on_checked(const page::ScrubResult& result) override {
    ++checked;
    checked_bytes += result.checked_bytes;
    checked_pages += result.checked_pages;
  }
  void on_damage(const DamagedObject& object) override { damaged.push_back(object); }

  std::function<void(uint64_t bytes)> before_read;
  int64_t steps = INT64_MAX;
  uint64_t largest = 0;
  uint64_t expected = 0;
  uint64_t expected_bytes = 0;
  uint64_t checked = 0;
  uint64_t checked_bytes = 0;
  uint64_t checked_pages = 0;
  std::vector<DamagedObject> damaged;
};

VolumeWatcher scrub_with_volumes(TreeFixture& tree, std::string_view path) {
  VolumeWatcher watcher;
  const absl::Status status = tree.names().scrub(path, watcher);
  REQUIRE_MESSAGE(status.ok(), status.ToString());
  return watcher;
}

/// A new volume; returns its folder.
fs::path make_volume(TreeFixture& tree, std::string_view name, uint64_t size,
                     std::string_view base = "") {
  const auto made = tree.names().volumes().create(name, size, base, kDiskMaker);
  REQUIRE_MESSAGE(made.ok(), made.status().ToString());
  return tree.path() / "volumes" / made->incarnation.hex();
}

VolumeRef use_volume(TreeFixture& tree, std::string_view name) {
  const Node node = tree.names().resolve("volumes/" + std::string(name)).value();
  absl::StatusOr<VolumeRef> volume = tree.names().volumes().open(node.id);
  REQUIRE_MESSAGE(volume.ok(), volume.status().ToString());
  return *std::move(volume);
}

void write_volume(TreeFixture& tree, std::string_view name, uint64_t offset, size_t size) {
  REQUIRE(use_volume(tree, name)->write_wait(offset, bytes_of(content_of(size, 1))).ok());
}

void flip_volume_byte(const fs::path& file, uint64_t offset) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(offset));
  const char byte = static_cast<char>(stream.get() ^ 0x40);
  stream.seekp(static_cast<std::streamoff>(offset));
  stream.put(byte);
  REQUIRE(stream.good());
}

}  // namespace

TEST_CASE("scrub of volumes: own pages are read, and exact stretches of damage are told of") {
  TreeFixture tree;
  const fs::path disk = make_volume(tree, "disk", 300 * kMiB);
  make_volume(tree, "whole", kMiB);
  make_volume(tree, "empty", kMiB);
  tree.put(content_of(5'000, 2), "files/blob");
  write_volume(tree, "disk", 0, 3 * kMiB);
  write_volume(tree, "disk", 250 * kMiB, kPageBytes);
  write_volume(tree, "disk", 300 * kMiB - 512, 512);
  write_volume(tree, "whole", 0, kMiB);
  const VolumeWatcher clean = scrub_with_volumes(tree, "volumes");
  CHECK(clean.expected == 3);
  CHECK(clean.expected_bytes == 4 * kMiB + 2 * kPageBytes);
  CHECK(clean.checked == 3);
  CHECK(clean.checked_bytes == clean.expected_bytes);
  CHECK(clean.checked_pages == clean.expected_bytes / kPageBytes);
  CHECK(clean.largest == kMiB);
  CHECK(clean.damaged.empty());
  CHECK_FALSE(tree.names().volumes().list().value().front().in_use);
  for (const uint64_t offset : {uint64_t{5'000}, uint64_t{8'200}, kMiB, 250 * kMiB + 17}) {
    flip_volume_byte(disk / "data", offset);
  }
  for (const char* path : {"", "/", "volumes", "volumes/disk"}) {
    const VolumeWatcher found = scrub_with_volumes(tree, path);
    REQUIRE(found.damaged.size() == 1);
    const DamagedObject& damaged = found.damaged.front();
    CHECK(damaged.names == std::vector<std::string>{"volumes/disk"});
    CHECK_FALSE(damaged.key.has_value());
    CHECK(damaged.size_bytes == 300 * kMiB);
    CHECK(damaged.result.reason == "pages do not match their checksums");
    CHECK(damaged.result.damaged_pages == 4);
    CHECK(
        damaged.result.damaged.ranges() ==
        std::vector<page::ByteRange>{{4'096, 8'192}, {kMiB, kPageBytes}, {250 * kMiB, kPageBytes}});
  }
  CHECK(scrub_with_volumes(tree, "").checked == 4);
  CHECK(scrub_with_volumes(tree, "").expected == 4);
  CHECK(scrub_with_volumes(tree, "volumes/whole").damaged.empty());
  CHECK(scrub_with_volumes(tree, "volumes/whole").checked == 1);
  CHECK(scrub_with_volumes(tree, "blobs").checked == 1);
  CHECK(scrub_with_volumes(tree, "files").checked == 1);
  VolumeWatcher none;
  CHECK(absl::IsNotFound(tree.names().scrub("volumes/none", none)));
  // Whoever writes it as a whole makes it whole.
  write_volume(tree, "disk", 4'096, 8'192);
  CHECK(scrub_with_volumes(tree, "volumes").damaged.front().result.damaged_pages == 2);
}

TEST_CASE("scrub of volumes: a damaged block of the map loses what it tells of, and no more") {
  TreeFixture tree;
  const fs::path disk = make_volume(tree, "disk", 4 * kBlockOfMap);
  for (uint64_t block = 0; block < 4; ++block) {
    write_volume(tree, "disk", block * kBlockOfMap, 2 * kPageBytes);
  }
  flip_volume_byte(disk / "map", 2 * page::kMapBlockSize + 100);
  flip_volume_byte(disk / "data", 3 * kBlockOfMap);
  const VolumeWatcher found = scrub_with_volumes(tree, "volumes/disk");
  REQUIRE(found.damaged.size() == 1);
  const page::ScrubResult& result = found.damaged.front().result;
  CHECK(result.damaged.ranges() ==
        std::vector<page::ByteRange>{{kBlockOfMap, kBlockOfMap}, {3 * kBlockOfMap, kPageBytes}});
  CHECK(result.damaged_pages == kBlockOfMap / kPageBytes + 1);
  CHECK(result.reason.find("map is damaged") != std::string::npos);
  CHECK(found.checked_bytes == 6 * kPageBytes);
}

TEST_CASE("scrub of volumes: one that cannot be opened is told of, not passed over") {
  TreeFixture tree;
  const fs::path headless = make_volume(tree, "headless", kMiB);
  const fs::path gone = make_volume(tree, "gone", kMiB);
  make_volume(tree, "whole", kMiB);
  // Both copies that it has.
  fs::resize_file(headless / "header", 0);
  fs::remove_all(gone);
  const VolumeWatcher found = scrub_with_volumes(tree, "");
  CHECK(found.checked == 3);
  REQUIRE(found.damaged.size() == 2);
  for (const DamagedObject& damaged : found.damaged) {
    CHECK(damaged.result.reason.find("cannot be opened") != std::string::npos);
    CHECK(damaged.result.damaged.empty());
  }
  CHECK(found.damaged[0].names == std::vector<std::string>{"volumes/headless"});
  CHECK(found.damaged[1].names == std::vector<std::string>{"volumes/gone"});
}

TEST_CASE(
    "scrub of volumes: what is removed meanwhile is no damage, and the one being read stays") {
  TreeFixture tree;
  make_volume(tree, "first", kMiB);
  make_volume(tree, "second", kMiB);
  write_volume(tree, "first", 0, kMiB);
  write_volume(tree, "second", 0, kMiB);
  VolumeWatcher watcher;
  watcher.before_read = [&](uint64_t bytes) {
    if (bytes == 0 || watcher.checked > 0) return;
    CHECK(absl::IsFailedPrecondition(tree.names().volumes().remove("first")));
    CHECK(tree.names().volumes().remove("second").ok());
  };
  REQUIRE(tree.names().scrub("volumes", watcher).ok());
  CHECK(watcher.expected == 2);
  CHECK(watcher.checked == 1);
  CHECK(watcher.damaged.empty());
  CHECK(tree.names().volumes().remove("first").ok());
}

TEST_CASE("scrub of volumes: ends wherever it is told to") {
  TreeFixture tree;
  const fs::path disk = make_volume(tree, "disk", 8 * kMiB);
  write_volume(tree, "disk", 0, 8 * kPageBytes);
  write_volume(tree, "disk", 4 * kMiB, 8 * kPageBytes);
  flip_volume_byte(disk / "data", 0);
  for (const char* path : {"", "volumes", "volumes/disk"}) {
    for (int64_t steps = 0;; ++steps) {
      VolumeWatcher watcher;
      watcher.steps = steps;
      const absl::Status status = tree.names().scrub(path, watcher);
      if (status.ok()) break;
      CHECK(absl::IsCancelled(status));
      CHECK_FALSE(tree.names().volumes().list().value().front().in_use);
      REQUIRE(steps < 100);
    }
  }
}

TEST_CASE("scrub of volumes: neither what is written meanwhile nor a damaged base is damage") {
  TreeFixture tree;
  tree.put(content_of(4 * kMiB, 1), "files/base");
  make_volume(tree, "over", 0, "files/base");
  tree.close();
  tree.damage("gone");
  tree.damage("map gone");
  tree.open();
  const VolumeRef volume = use_volume(tree, "over");
  const std::string content = content_of(16 * kPageBytes, 2);
  REQUIRE(volume->write_wait(0, bytes_of(content_of(kMiB, 3))).ok());
  std::atomic<bool> over = false;
  std::atomic<uint64_t> changes = 0;
  std::thread writer([&] {
    for (uint64_t i = 0; !over; ++i) {
      const uint64_t offset = i * 7 % 240 * kPageBytes;
      const uint64_t length = (1 + i % 16) * kPageBytes;
      absl::Status status = volume->write_wait(offset, bytes_of(content).first(length));
      if (i % 3 == 0) status.Update(volume->trim_wait(offset, length));
      if (!status.ok()) break;
      ++changes;
    }
  });
  for (int i = 0; i < 50 || changes < 2'000; ++i) {
    const VolumeWatcher found = scrub_with_volumes(tree, "volumes/over");
    CHECK(found.checked == 1);
    CHECK(found.damaged.empty());
    if (!found.damaged.empty() || i == 5'000) break;
  }
  over = true;
  writer.join();
  CHECK(changes >= 2'000);
}

}  // namespace blobcache::tree
