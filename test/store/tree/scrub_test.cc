// Which blobs a scrub looks at, and what it calls what it finds.

#include "store/tree/scrub.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

/// Remembers what it is told.
class Watcher final : public ScrubWatcher {
 public:
  bool may_read(uint64_t /*bytes*/) override {
    if (before_read) before_read();
    return steps-- > 0;
  }
  void on_begin(uint64_t blobs, uint64_t bytes) override {
    expected_blobs = blobs;
    expected_bytes = bytes;
  }
  void on_checked(const page::ScrubResult& result) override {
    ++checked;
    checked_bytes += result.checked_bytes;
  }
  void on_damage(const DamagedObject& blob) override { damaged.push_back(blob); }

  std::function<void()> before_read;
  int64_t steps = INT64_MAX;
  uint64_t expected_blobs = 0;
  uint64_t expected_bytes = 0;
  uint64_t checked = 0;
  uint64_t checked_bytes = 0;
  std::vector<DamagedObject> damaged;
};

Watcher scrub(TreeFixture& tree, std::string_view path) {
  Watcher watcher;
  const absl::Status status = tree.names().scrub(path, watcher);
  REQUIRE_MESSAGE(status.ok(), status.ToString());
  return watcher;
}

/// The data file of a blob.
std::filesystem::path data_file_of(TreeFixture& tree, const page::ObjectKey& key) {
  for (const auto& entry : std::filesystem::recursive_directory_iterator(tree.path() / "objects")) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(key.hex()) && name.find('.') == name.rfind('.')) return entry.path();
  }
  return {};
}

}  // namespace

TEST_CASE("scrub: everything is every blob, with a name or without, once each") {
  TreeFixture tree;
  const CommittedBlob a = tree.put(content_of(3'000'000, 1), "files/dir/a");
  REQUIRE(tree.names().bind("files/dir/again", a.key, {}).ok());
  tree.put(content_of(5'000, 2), "files/dir/deep/b");
  tree.put(content_of(7'000, 3));
  tree.put("", "files/empty");
  for (const char* path : {"", "/", "blobs"}) {
    const Watcher all = scrub(tree, path);
    CHECK(all.checked == 4);
    CHECK(all.expected_blobs == 4);
    CHECK(all.expected_bytes == tree.store().stats().disk_used_bytes);
    CHECK(all.checked_bytes == all.expected_bytes);
    CHECK(all.damaged.empty());
  }
  CHECK(scrub(tree, "files").checked == 3);
  CHECK(scrub(tree, "files/dir").checked == 2);
  CHECK(scrub(tree, "files/dir").expected_blobs == 2);
  CHECK(scrub(tree, "files/dir/deep").checked == 1);
  CHECK(scrub(tree, "files/dir/a").checked == 1);
  CHECK(scrub(tree, blob_path(a.key)).checked == 1);
  CHECK(scrub(tree, "volumes").checked == 0);
  Watcher none;
  CHECK(absl::IsNotFound(tree.names().scrub("files/none", none)));
  CHECK(absl::IsInvalidArgument(tree.names().scrub("files/../a", none)));
}

TEST_CASE("scrub: damage has the names that hold the blob, and a bound of them") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put(content_of(3'000'000, 1), "files/0");
  for (int i = 1; i < 20; ++i) {
    REQUIRE(tree.names().bind("files/" + std::to_string(i), blob.key, {}).ok());
  }
  tree.put(content_of(5'000, 2));
  tree.damage("rot");
  const Watcher found = scrub(tree, "");
  CHECK(found.checked == 2);
  REQUIRE(found.damaged.size() == 2);
  CHECK(found.damaged[0].key == blob.key);
  CHECK(found.damaged[0].size_bytes == 3'000'000);
  CHECK(found.damaged[0].names.size() == DamagedObject::kMaxNames);
  CHECK(found.damaged[0].names.front() == "files/0");
  CHECK(found.damaged[0].more_names);
  CHECK(found.damaged[0].result.damaged_pages == 1);
  CHECK(found.damaged[1].names.empty());
  CHECK_FALSE(found.damaged[1].more_names);
}

TEST_CASE("scrub: what is removed meanwhile is no damage") {
  TreeFixture tree;
  const CommittedBlob first = tree.put(content_of(3'000'000, 1));
  const CommittedBlob second = tree.put(content_of(3'000'000, 2));
  tree.put(content_of(3'000'000, 3));
  Watcher watcher;
  int reads = 0;
  watcher.before_read = [&] {
    // The first while it is looked at, the second before; and files go before anybody looks.
    if (++reads != 2) return;
    CHECK(tree.names().remove(blob_path(second.key)).ok());
    CHECK(tree.names().remove(blob_path(first.key)).ok());
  };
  REQUIRE(tree.names().scrub("", watcher).ok());
  CHECK(watcher.damaged.empty());
  CHECK(watcher.expected_blobs == 3);
  CHECK(watcher.checked <= 2);
}

TEST_CASE(
    "scrub: a blob that is put again while its damaged copy is looked at is looked at again") {
  TreeFixture tree;
  const std::string content = content_of(3'000'000, 1);
  tree.put(content, "files/a");
  tree.damage("rot");
  Watcher watcher;
  int reads = 0;
  watcher.before_read = [&] {
    if (++reads == 3) tree.put(content);
  };
  REQUIRE(tree.names().scrub("files/a", watcher).ok());
  CHECK(watcher.damaged.empty());
  CHECK(watcher.checked == 1);
  CHECK(tree.read("files/a") == content);
}

TEST_CASE("scrub: a blob that comes while it runs need not be looked at, and it ends") {
  TreeFixture tree;
  for (uint32_t i = 0; i < 3; ++i) tree.put(content_of(5'000, i));
  Watcher watcher;
  uint32_t more = 100;
  watcher.before_read = [&] {
    // The catalog is checked before it begins.
    if (watcher.expected_blobs > 0 && more < 400) tree.put(content_of(100, more++));
  };
  REQUIRE(tree.names().scrub("", watcher).ok());
  CHECK(watcher.checked == 3);
}

TEST_CASE("scrub: ends wherever it is told to") {
  TreeFixture tree;
  tree.put(content_of(3'000'000, 1), "files/a");
  tree.put(content_of(5'000, 2), "files/b");
  for (const char* path : {"", "files", "files/a"}) {
    for (int64_t steps = 0;; ++steps) {
      Watcher watcher;
      watcher.steps = steps;
      const absl::Status status = tree.names().scrub(path, watcher);
      if (status.ok()) break;
      CHECK(absl::IsCancelled(status));
      REQUIRE(steps < 100);
    }
  }
}

TEST_CASE("scrub: files that are gone or cut are told of by their blob") {
  TreeFixture tree;
  const CommittedBlob gone = tree.put(content_of(200'000, 1), "files/gone");
  const CommittedBlob cut = tree.put(content_of(200'000, 2), "files/cut");
  std::filesystem::remove(data_file_of(tree, gone.key));
  std::filesystem::resize_file(data_file_of(tree, cut.key), 4'096);
  const Watcher found = scrub(tree, "");
  REQUIRE(found.damaged.size() == 2);
  CHECK(found.damaged[0].result.reason.find("gone") != std::string::npos);
  CHECK(found.damaged[0].names == std::vector<std::string>{"files/gone"});
  CHECK(found.damaged[1].result.reason.find("cut short") != std::string::npos);
  CHECK(found.damaged[1].result.damaged.ranges() ==
        std::vector<page::ByteRange>{{4'096, 200'000 - 4'096}});
}

TEST_CASE("a damaged catalog is found and told of, with what to do") {
  TreeFixture tree;
  for (int i = 0; i < 300; ++i) tree.put(std::to_string(i), "files/" + std::to_string(i));
  tree.close();
  const std::filesystem::path catalog = tree.path() / "catalog.sqlite";
  // A page behind its middle: a table or an index that lies there. What opens it stands before.
  std::fstream file(catalog, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(
      static_cast<std::streamoff>(std::filesystem::file_size(catalog) / 4 * 3 / 4096 * 4096));
  file << std::string(4096, '\x5a');
  file.close();
  tree.open();
  Watcher watcher;
  const absl::Status status = tree.names().scrub("", watcher);
  CHECK(absl::IsDataLoss(status));
  CHECK(says(status, "--rebuild"));
}

}  // namespace blobcache::tree
