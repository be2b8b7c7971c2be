// Puts: whole or not at all.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <thread>
#include <vector>

#include "store/page/page_map.h"
#include "store/tree/blob_writer.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

TEST_CASE("put: every size, also none") {
  TreeFixture tree;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, size_t{4097}, size_t{1} << 20,
                            (size_t{1} << 20) + 1, size_t{5000000}}) {
    INFO(size);
    const std::string content = content_of(size, 1);
    const CommittedBlob blob = tree.put(content);
    CHECK(blob.key == digest_of(content));
    CHECK(tree.read(blob_path(blob.key)) == content);
  }
  tree.reopen();
  for (const size_t size : {size_t{0}, size_t{4097}, size_t{5000000}}) {
    const std::string content = content_of(size, 1);
    CHECK(tree.read(blob_path(digest_of(content))) == content);
  }
}

TEST_CASE("put: cut short leaves nothing behind") {
  TreeFixture tree;
  {
    auto writer = tree.names().put("files/a/b", Creator{}, 0).value();
    REQUIRE(writer->append(bytes_of(content_of(3 << 20, 1))).ok());
  }
  CHECK(tree.files_on_disk() == 0);
  CHECK(tree.store().stats().disk_used_bytes == 0);
  CHECK(tree.list("files").empty());
  CHECK(tree.list("blobs").empty());
}

TEST_CASE("put: large ones at once, in pieces of every size, more than there are threads") {
  TreeFixture tree;
  constexpr size_t kSize = (size_t{9} << 20) + 12345;
  std::vector<std::thread> threads;
  for (uint32_t put = 0; put < 5; ++put) {
    threads.emplace_back([&tree, put] {
      const std::string content = content_of(kSize, put);
      auto writer = tree.names().put("", Creator{}, 0).value();
      absl::Status status;
      for (size_t at = 0, i = put; at < content.size() && status.ok(); ++i) {
        constexpr std::array<size_t, 4> kPieces = {size_t{1} << 20, 1, 77777, 300001};
        const size_t piece = std::min(kPieces.at(i % kPieces.size()), content.size() - at);
        // What was appended is the caller's again: he may write over it.
        std::string bytes = content.substr(at, piece);
        status = writer->append(bytes_of(bytes));
        std::fill(bytes.begin(), bytes.end(), '!');
        at += piece;
      }
      if (status.ok()) status = writer->commit().status();
      CHECK(status == absl::OkStatus());
    });
  }
  for (auto& thread : threads) thread.join();
  for (uint32_t put = 0; put < 5; ++put) {
    const std::string content = content_of(kSize, put);
    CHECK(tree.read(blob_path(digest_of(content))) == content);
  }
}

TEST_CASE("put: a large one that is cut short leaves nothing behind") {
  TreeFixture tree;
  {
    auto writer = tree.names().put("files/a", Creator{}, 0).value();
    const std::string piece = content_of(1 << 20, 1);
    for (int i = 0; i < 7; ++i) REQUIRE(writer->append(bytes_of(piece)).ok());
  }
  CHECK(tree.files_on_disk() == 0);
  CHECK(tree.store().stats().disk_used_bytes == 0);
  CHECK(tree.list("files").empty());
}

TEST_CASE("put: another digest than expected is DATA_LOSS and leaves nothing behind") {
  TreeFixture tree;
  const page::ObjectKey expected = digest_of("expected");
  auto writer = tree.names().put("files/a", Creator{}, 0).value();
  REQUIRE(writer->append(bytes_of("something else")).ok());
  const absl::Status status = writer->commit(&expected).status();
  CHECK(absl::IsDataLoss(status));
  CHECK(says(status, format_digest(expected)));
  CHECK(says(status, format_digest(digest_of("something else"))));
  CHECK(tree.files_on_disk() == 0);
  CHECK(tree.list("files").empty());
  CHECK(tree.store().stats().disk_used_bytes == 0);

  auto again = tree.names().put("files/a", Creator{}, 0).value();
  REQUIRE(again->append(bytes_of("expected")).ok());
  CHECK(again->commit(&expected).ok());
  CHECK(tree.read("files/a") == "expected");
}

TEST_CASE("put: the same content twice is one blob, and each put binds its name") {
  TreeFixture tree;
  const std::string content = content_of(2 << 20, 1);
  CHECK_FALSE(tree.put(content, "files/a").existed);
  const uint64_t used = tree.store().stats().disk_used_bytes;
  const size_t files = tree.files_on_disk();
  CHECK(tree.put(content, "files/b").existed);
  CHECK(tree.put(content).existed);
  CHECK(tree.store().stats().disk_used_bytes == used);
  CHECK(tree.files_on_disk() == files);
  CHECK(tree.list("blobs").size() == 1);
  CHECK(tree.read("files/a") == content);
  CHECK(tree.read("files/b") == content);
}

TEST_CASE("put: content whose copy is damaged or gone is whole again") {
  for (const size_t size : {size_t{7000}, size_t{3} << 20}) {
    for (const std::string damage : {"rot", "gone", "cut", "map gone"}) {
      INFO(size << " bytes, " << damage);
      TreeFixture tree;
      const std::string content = content_of(size, 1);
      tree.put(content, "files/a");
      tree.reopen();
      tree.damage(damage);
      tree.put(content, "files/b");
      CHECK(tree.read("files/a") == content);
      CHECK(tree.read("files/b") == content);
      CHECK(tree.files_on_disk() == (size > page::kInlineMapMaxObject ? 2 : 1));
      const uint64_t used = tree.store().stats().disk_used_bytes;
      tree.reopen();
      CHECK(tree.read("files/a") == content);
      CHECK(tree.store().stats().disk_used_bytes == used);
    }
  }
}

TEST_CASE("put: readers of content that is put again go on") {
  TreeFixture tree;
  const std::string content = content_of(2 << 20, 1);
  tree.put(content, "files/a");
  const page::ObjectRef held = tree.names().open(tree.names().resolve("files/a")->id).value();
  tree.put(content, "files/a");
  CHECK(TreeFixture::read_object(*held).value() == content);
}

TEST_CASE("put: two under way with the same content both succeed, with one blob and one file") {
  TreeFixture tree;
  auto first = tree.names().put("files/a", Creator{}, 0).value();
  auto second = tree.names().put("files/b", Creator{}, 0).value();
  for (BlobWriter* writer : {first.get(), second.get()}) {
    REQUIRE(writer->append(bytes_of("con")).ok());
    REQUIRE(writer->append(bytes_of("tent")).ok());
  }
  CHECK_FALSE(first->commit().value().existed);
  CHECK(second->commit().value().existed);
  CHECK(tree.files_on_disk() == 1);
  CHECK(tree.read("files/a") == "content");
  CHECK(tree.read("files/b") == "content");
}

TEST_CASE(
    "put: a name that has become a directory meanwhile fails at the commit and leaves nothing") {
  TreeFixture tree;
  auto writer = tree.names().put("files/a", Creator{}, 0).value();
  REQUIRE(writer->append(bytes_of("one")).ok());
  tree.put("two", "files/a/b");
  const absl::Status status = writer->commit().status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(absl::IsNotFound(tree.names().resolve(blob_path(digest_of("one"))).status()));
  CHECK(tree.files_on_disk() == 1);
}

TEST_CASE("put: over once committed or failed") {
  TreeFixture tree;
  auto writer = tree.names().put("", Creator{}, 0).value();
  REQUIRE(writer->append(bytes_of("content")).ok());
  REQUIRE(writer->commit().ok());
  CHECK(absl::IsFailedPrecondition(writer->append(bytes_of("more"))));
  CHECK(absl::IsFailedPrecondition(writer->commit().status()));
  writer = nullptr;
  CHECK(tree.read(blob_path(digest_of("content"))) == "content");
}

TEST_CASE("put: beyond the budget is RESOURCE_EXHAUSTED and disturbs nothing") {
  // The smaller budget is full before the put is large, the larger one after.
  uint64_t budget = 0;
  SUBCASE("small") { budget = uint64_t{4} << 20; }
  SUBCASE("large") { budget = uint64_t{12} << 20; }
  TreeFixture tree(budget);
  const std::string kept = content_of(2 << 20, 1);
  tree.put(kept, "files/kept");
  const uint64_t used = tree.store().stats().disk_used_bytes;
  // Known beforehand, and found out on the way.
  CHECK(absl::IsResourceExhausted(tree.names().put("files/b", {}, budget - (1 << 20)).status()));
  {
    auto writer = tree.names().put("files/b", Creator{}, 0).value();
    absl::Status status;
    const std::string piece = content_of(1 << 20, 2);
    for (int i = 0; i < 16 && status.ok(); ++i) status = writer->append(bytes_of(piece));
    if (status.ok()) status = writer->commit().status();
    CHECK(absl::IsResourceExhausted(status));
    // Only destruction is left; a commit now must not make a blob of half the content.
    CHECK_FALSE(writer->commit().ok());
  }
  CHECK(tree.store().stats().disk_used_bytes == used);
  CHECK(tree.list("files") == std::vector<std::string>{"kept"});
  CHECK(tree.list("blobs").size() == 1);
  CHECK(tree.read("files/kept") == kept);
}

}  // namespace
}  // namespace blobcache::tree
