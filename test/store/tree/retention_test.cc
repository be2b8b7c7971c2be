// Which blobs are kept, which are cached, and which go when room is needed.

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

uint64_t kept_bytes(TreeFixture& tree) {
  // Counting looks for what has expired.
  REQUIRE(tree.names().counts().ok());
  return tree.store().stats().disk_kept_bytes;
}

bool is_here(TreeFixture& tree, const CommittedBlob& blob) {
  return tree.names().resolve(blob_path(blob.key)).ok();
}

TEST_CASE("retention: a blob without a name is kept for its time, then cached") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put(content_of(kMiB, 1));
  CHECK(kept_bytes(tree) == kMiB);
  tree.clock().advance(kTtl - absl::Nanoseconds(1));
  CHECK(kept_bytes(tree) == kMiB);
  tree.clock().advance(absl::Nanoseconds(1));
  CHECK(kept_bytes(tree) == 0);
  CHECK(tree.store().stats().disk_used_bytes == kMiB);
  CHECK(is_here(tree, blob));
}

TEST_CASE(
    "retention: a named blob is kept for good; its time runs from the loss of its last name") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put(content_of(kMiB, 1), "files/a");
  REQUIRE(tree.names().bind("files/b", blob.key, {}).ok());
  tree.clock().advance(10 * kTtl);
  CHECK(kept_bytes(tree) == kMiB);
  REQUIRE(tree.names().remove("files/a").ok());
  tree.clock().advance(10 * kTtl);
  CHECK(kept_bytes(tree) == kMiB);
  // A name that is bound to something else counts like one that is removed.
  tree.put("other", "files/b");
  tree.clock().advance(kTtl - absl::Seconds(1));
  CHECK(kept_bytes(tree) > kMiB);
  tree.clock().advance(absl::Seconds(1));
  CHECK(kept_bytes(tree) < kMiB);
}

TEST_CASE("retention: a name or another put makes a cached blob kept again") {
  TreeFixture tree;
  const std::string content = content_of(kMiB, 1);
  const CommittedBlob blob = tree.put(content);
  tree.clock().advance(kTtl);
  REQUIRE(kept_bytes(tree) == 0);
  CHECK(tree.put(content).existed);
  CHECK(kept_bytes(tree) == kMiB);
  tree.clock().advance(kTtl);
  REQUIRE(kept_bytes(tree) == 0);
  REQUIRE(tree.names().bind("files/a", blob.key, {}).ok());
  CHECK(kept_bytes(tree) == kMiB);
  CHECK(tree.store().stats().disk_used_bytes == kMiB);
}

TEST_CASE("retention: a put without a name never shortens the life of a named blob") {
  TreeFixture tree;
  const std::string content = content_of(kMiB, 1);
  tree.put(content, "files/a");
  tree.put(content);
  tree.clock().advance(10 * kTtl);
  CHECK(kept_bytes(tree) == kMiB);
}

TEST_CASE("retention: the accounts survive a restart") {
  TreeFixture tree;
  tree.put(content_of(kMiB, 1), "files/a");
  tree.put(content_of(2 * kMiB, 2));
  tree.clock().advance(kTtl);
  REQUIRE(kept_bytes(tree) == kMiB);
  const uint64_t used = tree.store().stats().disk_used_bytes;
  tree.reopen();
  CHECK(tree.store().stats().disk_kept_bytes == kMiB);
  CHECK(tree.store().stats().disk_used_bytes == used);
}

TEST_CASE(
    "retention: a put that needs room takes the longest expired first, and only what it needs") {
  TreeFixture tree(10 * kMiB);
  const CommittedBlob oldest = tree.put(content_of(2 * kMiB, 1));
  tree.clock().advance(absl::Minutes(1));
  const CommittedBlob older = tree.put(content_of(2 * kMiB, 2));
  tree.clock().advance(kTtl);
  const CommittedBlob unnamed = tree.put(content_of(2 * kMiB, 3));
  const CommittedBlob named = tree.put(content_of(2 * kMiB, 4), "files/named");
  REQUIRE(is_here(tree, oldest));

  tree.put(content_of(3 * kMiB, 5), "files/new");
  CHECK_FALSE(is_here(tree, oldest));
  CHECK(is_here(tree, older));
  CHECK(is_here(tree, unnamed));
  CHECK(is_here(tree, named));

  // 9 MiB of 10 are used, 7 of them kept: 3 MiB need `older`, and 4 MiB can never fit.
  CHECK(absl::IsResourceExhausted(tree.try_put(content_of(4 * kMiB, 6), "files/big").status()));
  CHECK(is_here(tree, unnamed));
  CHECK(is_here(tree, named));
  CHECK(tree.read("files/named") == content_of(2 * kMiB, 4));
}

TEST_CASE("retention: nothing that is kept ever goes") {
  TreeFixture tree(4 * kMiB);
  tree.put(content_of(2 * kMiB, 1), "files/a");
  tree.put(content_of(kMiB, 2));
  CHECK(absl::IsResourceExhausted(tree.try_put(content_of(2 * kMiB, 3)).status()));
  CHECK(tree.list("blobs").size() == 2);
  CHECK(tree.read("files/a") == content_of(2 * kMiB, 1));
  CHECK(tree.read(blob_path(digest_of(content_of(kMiB, 2)))) == content_of(kMiB, 2));
}

TEST_CASE("retention: an expired blob that somebody has open stays, whichever is older") {
  TreeFixture tree(6 * kMiB);
  const std::string content = content_of(2 * kMiB, 1);
  const CommittedBlob older = tree.put(content);
  tree.clock().advance(absl::Minutes(1));
  const CommittedBlob newer = tree.put(content_of(2 * kMiB, 2));
  tree.clock().advance(kTtl);
  page::ObjectRef open =
      tree.names().open(tree.names().resolve(blob_path(older.key)).value().id).value();
  tree.put(content_of(3 * kMiB, 3), "files/new");
  CHECK(is_here(tree, older));
  CHECK_FALSE(is_here(tree, newer));
  // To forget it would free nothing while its reader is there: the budget holds instead.
  const auto put_more = [&] {
    return tree.try_put(content_of(2 * kMiB, 4), "files/more").status();
  };
  CHECK(absl::IsResourceExhausted(put_more()));
  CHECK(is_here(tree, older));
  CHECK(tree.store().stats().disk_used_bytes <= 6 * kMiB);
  CHECK(TreeFixture::read_object(*open).value() == content);
  open.reset();
  CHECK(put_more() == absl::OkStatus());
  CHECK_FALSE(is_here(tree, older));
}

TEST_CASE("retention: any number of open blobs does not hide those that can go") {
  TreeFixture tree(8 * kMiB);
  std::vector<page::ObjectRef> open;
  for (unsigned i = 0; i < 300; ++i) {
    const CommittedBlob blob = tree.put(content_of(4096, i));
    open.push_back(tree.names().open(tree.names().resolve(blob_path(blob.key))->id).value());
  }
  tree.clock().advance(absl::Minutes(1));
  const CommittedBlob newest = tree.put(content_of(4 * kMiB, 1000));
  tree.clock().advance(kTtl);
  tree.put(content_of(5 * kMiB, 1001), "files/new");
  CHECK_FALSE(is_here(tree, newest));
  CHECK(tree.list("blobs").size() == open.size() + 1);
}

TEST_CASE("retention: listeners hear of blobs that were given up") {
  struct Listener final : NamespaceListener {
    void on_name_changed(NodeId, std::string_view name) override { names.emplace_back(name); }
    std::vector<std::string> names;
  } listener;
  TreeFixture tree(4 * kMiB);
  const CommittedBlob blob = tree.put(content_of(2 * kMiB, 1));
  tree.clock().advance(kTtl);
  tree.names().add_listener(&listener);
  tree.put(content_of(3 * kMiB, 2));
  tree.names().remove_listener(&listener);
  CHECK(std::find(listener.names.begin(), listener.names.end(), blob.key.hex()) !=
        listener.names.end());
}

}  // namespace
}  // namespace blobcache::tree
