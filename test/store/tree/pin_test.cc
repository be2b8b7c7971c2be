// Pinned blobs stay, whatever happens to their names, to time and to room; evicting takes no more
// than it may.

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "store/page/geometry.h"
#include "store/tree/digest.h"
#include "store/tree/volumes.h"
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

Node look(TreeFixture& tree, std::string_view path) {
  const absl::StatusOr<Node> node = tree.names().resolve(path);
  REQUIRE_MESSAGE(node.ok(), node.status().ToString());
  return *node;
}

class Everything final : public GarbageWatcher {
 public:
  bool wants_more() override { return true; }
  void on_garbage(const Garbage& /*garbage*/) override { ++count; }
  size_t count = 0;
};

size_t collect(TreeFixture& tree, const GarbageOptions& options) {
  Everything found;
  REQUIRE(tree.names().collect_garbage(options, found).ok());
  return found.count;
}

TEST_CASE("pin: a pinned blob without a name never expires; its time starts when it is unpinned") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put(content_of(kMiB, 1));
  const std::string path = blob_path(blob.key);
  CHECK(look(tree, path).expires == tree.clock().now() + kTtl);
  const Node pinned = tree.names().pin(path).value();
  CHECK(pinned.pinned);
  CHECK(pinned.retention == page::Retention::kKept);
  CHECK_FALSE(pinned.expires.has_value());
  tree.clock().advance(10 * kTtl);
  CHECK(kept_bytes(tree) == kMiB);
  CHECK(look(tree, path).pinned);
  CHECK(tree.names().counts()->unnamed_blobs == 1);

  const Node unpinned = tree.names().unpin(path).value();
  CHECK_FALSE(unpinned.pinned);
  CHECK(unpinned.expires == tree.clock().now() + kTtl);
  tree.clock().advance(kTtl - absl::Nanoseconds(1));
  CHECK(kept_bytes(tree) == kMiB);
  CHECK(look(tree, path).retention == page::Retention::kKept);
  tree.clock().advance(absl::Nanoseconds(1));
  // Who looks before anybody has counted sees the same.
  CHECK(look(tree, path).retention == page::Retention::kCached);
  CHECK_FALSE(look(tree, path).expires.has_value());
  CHECK(kept_bytes(tree) == 0);
  CHECK(look(tree, path).retention == page::Retention::kCached);
}

TEST_CASE("pin: a cached blob is kept again, and the accounts follow, also after a restart") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put(content_of(kMiB, 1));
  tree.clock().advance(kTtl);
  REQUIRE(kept_bytes(tree) == 0);
  REQUIRE(tree.names().pin(blob_path(blob.key)).ok());
  CHECK(tree.store().stats().disk_kept_bytes == kMiB);
  CHECK(tree.store().stats().disk_used_bytes == kMiB);
  // Once more changes nothing, nor do its accounts move twice.
  REQUIRE(tree.names().pin(blob_path(blob.key)).ok());
  CHECK(tree.store().stats().disk_kept_bytes == kMiB);
  tree.clock().advance(10 * kTtl);
  tree.reopen();
  CHECK(kept_bytes(tree) == kMiB);
  CHECK(look(tree, blob_path(blob.key)).pinned);
  CHECK(tree.read(blob_path(blob.key)) == content_of(kMiB, 1));
}

TEST_CASE("pin: pressure passes a pinned blob by, and a put that needs its room is refused") {
  TreeFixture tree(6 * kMiB);
  const CommittedBlob pinned = tree.put(content_of(2 * kMiB, 1));
  const CommittedBlob other = tree.put(content_of(2 * kMiB, 2));
  REQUIRE(tree.names().pin(blob_path(pinned.key)).ok());
  tree.clock().advance(2 * kTtl);
  tree.put(content_of(3 * kMiB, 3), "files/new");
  CHECK(is_here(tree, pinned));
  CHECK_FALSE(is_here(tree, other));
  const absl::Status refused = tree.try_put(content_of(2 * kMiB, 4), "files/more").status();
  CHECK(absl::IsResourceExhausted(refused));
  CHECK(tree.read(blob_path(pinned.key)) == content_of(2 * kMiB, 1));

  REQUIRE(tree.names().unpin(blob_path(pinned.key)).ok());
  CHECK(absl::IsResourceExhausted(tree.try_put(content_of(2 * kMiB, 4), "files/more").status()));
  tree.clock().advance(kTtl);
  tree.put(content_of(2 * kMiB, 4), "files/more");
  CHECK_FALSE(is_here(tree, pinned));
  CHECK(tree.store().stats().disk_used_bytes == kept_bytes(tree));
}

TEST_CASE("pin: no collection takes a pinned blob, and rm says what to do") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put(content_of(kMiB, 1));
  const std::string path = blob_path(blob.key);
  REQUIRE(tree.names().pin(path).ok());
  tree.clock().advance(10 * kTtl);
  for (const bool dry_run : {true, false}) {
    CHECK(collect(tree, {.dry_run = dry_run}) == 0);
    CHECK(collect(tree, {.dry_run = dry_run, .expire_now = true}) == 0);
  }
  const absl::Status refused = tree.names().remove(path);
  CHECK(absl::IsFailedPrecondition(refused));
  CHECK(says(refused, "pinned"));
  CHECK(says(refused, "blobcachectl unpin sha256:" + blob.key.hex()));
  CHECK(tree.read(path) == content_of(kMiB, 1));

  REQUIRE(tree.names().unpin(path).ok());
  CHECK(collect(tree, {}) == 0);
  CHECK(collect(tree, {.expire_now = true}) == 1);
  CHECK(tree.store().stats().disk_used_bytes == 0);
}

TEST_CASE("pin: the pin is the blob's, not the name's") {
  TreeFixture tree;
  const std::string content = content_of(kMiB, 1);
  const CommittedBlob blob = tree.put(content, "files/a");
  REQUIRE(tree.names().bind("files/b", blob.key, {}).ok());
  CHECK(tree.names().pin("files/a")->pinned);
  CHECK(look(tree, "files/b").pinned);
  CHECK(look(tree, blob_path(blob.key)).pinned);

  SUBCASE("a name that is bound anew leaves it behind") {
    tree.put("other", "files/a");
    tree.put("other", "files/b");
    CHECK_FALSE(look(tree, "files/a").pinned);
    tree.clock().advance(10 * kTtl);
    CHECK(kept_bytes(tree) > kMiB);
    CHECK(look(tree, blob_path(blob.key)).pinned);
    // A name takes part in it again.
    REQUIRE(tree.names().bind("files/c", blob.key, {}).ok());
    CHECK(look(tree, "files/c").pinned);
  }
  SUBCASE("the last name goes") {
    REQUIRE(tree.names().remove("files/a").ok());
    REQUIRE(tree.names().remove("files/b").ok());
    tree.clock().advance(10 * kTtl);
    CHECK(kept_bytes(tree) == kMiB);
    CHECK(says(tree.names().remove(blob_path(blob.key)), "pinned"));
  }
  SUBCASE("the same content is put again, with a name or without") {
    CHECK(tree.put(content).existed);
    CHECK(look(tree, "files/a").pinned);
    CHECK(tree.put(content, "files/a").existed);
    CHECK(look(tree, "files/a").pinned);
    CHECK(kept_bytes(tree) == kMiB);
  }
  SUBCASE("unpinned, it is kept by its names as before") {
    CHECK_FALSE(tree.names().unpin("files/b")->pinned);
    CHECK_FALSE(look(tree, "files/a").pinned);
    tree.clock().advance(10 * kTtl);
    CHECK(kept_bytes(tree) == kMiB);
    CHECK_FALSE(look(tree, blob_path(blob.key)).expires.has_value());
  }
}

TEST_CASE("pin: unpinning what is not pinned lengthens no life") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put(content_of(kMiB, 1));
  tree.clock().advance(kTtl - absl::Seconds(1));
  REQUIRE(tree.names().unpin(blob_path(blob.key)).ok());
  tree.clock().advance(absl::Seconds(1));
  CHECK(kept_bytes(tree) == 0);
  REQUIRE(tree.names().unpin(blob_path(blob.key)).ok());
  CHECK(kept_bytes(tree) == 0);
}

TEST_CASE("pin: what cannot be pinned, unpinned or evicted") {
  TreeFixture tree;
  tree.put("content", "files/d/a");
  REQUIRE(tree.names().volumes().create("v", page::kPageSize, "", {}).ok());
  using Call = std::function<absl::Status(const std::string& path)>;
  const std::vector<Call> calls = {
      [&](const std::string& path) { return tree.names().pin(path).status(); },
      [&](const std::string& path) { return tree.names().unpin(path).status(); },
      [&](const std::string& path) {
        return tree.names().evict(path, EvictFrom::kMemory).status();
      },
      [&](const std::string& path) { return tree.names().evict(path, EvictFrom::kDisk).status(); },
      [&](const std::string& path) { return tree.names().evict(path, EvictFrom::kAll).status(); },
  };
  for (const Call& call : calls) {
    for (const char* path : {"", "files", "files/d", "blobs", "origins", "volumes"}) {
      INFO(path);
      CHECK(absl::IsFailedPrecondition(call(path)));
      CHECK(says(call(path), "directory"));
    }
    for (const char* path : {"files/none", "files/d/none", "blobs/12", "origins/a", "nowhere"}) {
      INFO(path);
      CHECK(absl::IsNotFound(call(path)));
    }
    CHECK(absl::IsNotFound(call(blob_path(digest_of("never put")))));
    CHECK(absl::IsFailedPrecondition(call("files/d/a/b")));
    CHECK(absl::IsInvalidArgument(call("files/../x")));
    CHECK(absl::IsFailedPrecondition(call("volumes/v")));
    CHECK(says(call("volumes/v"), "volumes/v: is a volume"));
  }
}

TEST_CASE("evict: pages leave memory, and the next reader has them again") {
  TreeFixture tree;
  const std::string content = content_of(kMiB, 1);
  tree.put(content, "files/a");
  REQUIRE(tree.read("files/a") == content);
  const page::ObjectRef object = tree.names().open(look(tree, "files/a").id).value();
  const uint64_t before = object->residency()->memory_pages;
  REQUIRE(before > 0);
  const Evicted evicted = tree.names().evict("files/a", EvictFrom::kMemory).value();
  CHECK(evicted.memory_pages == before);
  CHECK_FALSE(evicted.removed);
  CHECK(evicted.stays.empty());
  CHECK(object->residency()->memory_pages == 0);
  CHECK(object->residency()->disk_pages == kMiB / page::kPageSize);
  CHECK(tree.names().evict("files/a", EvictFrom::kMemory)->memory_pages == 0);
  CHECK(tree.read("files/a") == content);
}

TEST_CASE("evict: only a cached blob leaves the disk; a kept one says what keeps it") {
  TreeFixture tree;
  const std::string content = content_of(kMiB, 1);
  const CommittedBlob blob = tree.put(content);
  const std::string path = blob_path(blob.key);
  const auto refusal = [&] {
    const absl::Status refused = tree.names().evict(path, EvictFrom::kDisk).status();
    CHECK(absl::IsFailedPrecondition(refused));
    const Evicted all = tree.names().evict(path, EvictFrom::kAll).value();
    CHECK(all.stays == base::message(refused));
    CHECK_FALSE(all.removed);
    CHECK(is_here(tree, blob));
    return refused;
  };
  CHECK(says(refusal(), "kept until 2023-11-15T22:13:20Z (store.unnamed_ttl)"));
  REQUIRE(tree.names().pin(path).ok());
  CHECK(says(refusal(), "blobcachectl unpin sha256:" + blob.key.hex()));
  REQUIRE(tree.names().bind("files/a", blob.key, {}).ok());
  CHECK(says(refusal(), "held by files/a, and pinned"));
  REQUIRE(tree.names().unpin(path).ok());
  CHECK(says(refusal(), "held by files/a"));
  REQUIRE(tree.names().remove("files/a").ok());
  tree.clock().advance(kTtl);

  // Expired, whether anybody has counted since or not.
  page::ObjectRef reader = tree.names().open(look(tree, path).id).value();
  const Evicted gone = tree.names().evict(path, EvictFrom::kAll).value();
  CHECK(gone.removed);
  CHECK(gone.disk_bytes == kMiB);
  CHECK(gone.stays.empty());
  CHECK_FALSE(is_here(tree, blob));
  CHECK(tree.store().stats().disk_used_bytes == 0);
  CHECK(tree.store().stats().disk_kept_bytes == 0);
  CHECK(tree.files_on_disk() == 0);
  // Who reads it reads on.
  CHECK(TreeFixture::read_object(*reader).value() == content);
}

TEST_CASE("evict: what somebody has pinned in the meantime is not lost to an earlier look") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put(content_of(kMiB, 1));
  tree.clock().advance(kTtl);
  REQUIRE(kept_bytes(tree) == 0);
  REQUIRE(tree.names().pin(blob_path(blob.key)).ok());
  CHECK(says(tree.names().evict(blob_path(blob.key), EvictFrom::kDisk).status(), "pinned"));
  CHECK(tree.store().stats().disk_kept_bytes == kMiB);
}

}  // namespace
}  // namespace blobcache::tree
