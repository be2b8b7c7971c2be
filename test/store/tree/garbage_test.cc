// What a collection of garbage takes, and what it leaves.

#include "store/tree/garbage.h"

#include <doctest/doctest.h>

#include <atomic>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

class Collected final : public GarbageWatcher {
 public:
  bool wants_more() override { return steps-- > 0; }
  void on_garbage(const Garbage& garbage) override {
    names.insert(garbage.name);
    bytes += garbage.disk_bytes;
    ++count;
  }
  int64_t steps = INT64_MAX;
  std::set<std::string> names;
  uint64_t bytes = 0;
  size_t count = 0;
};

Collected collect(TreeFixture& tree, const GarbageOptions& options = {}) {
  Collected collected;
  const absl::Status status = tree.names().collect_garbage(options, collected);
  REQUIRE_MESSAGE(status.ok(), status.ToString());
  CHECK(collected.names.size() == collected.count);
  return collected;
}

using FileNames = std::set<std::string>;

void make_file(const std::filesystem::path& path) { std::ofstream(path) << "something"; }

}  // namespace

TEST_CASE("garbage: a blob without a name goes when its time is over, not before") {
  TreeFixture tree;
  tree.put(content_of(5'000, 1), "files/named");
  const CommittedBlob old = tree.put(content_of(9'000, 2));
  tree.clock().advance(kTtl / 2);
  const CommittedBlob fresh = tree.put(content_of(9'000, 3));
  CHECK(collect(tree).count == 0);
  tree.clock().advance(kTtl / 2);
  for (const bool counted : {false, true}) {
    // Whether the accounts call it cached already makes no difference.
    if (counted) REQUIRE(tree.names().counts().ok());
    const Collected would = collect(tree, {.dry_run = true});
    CHECK(would.names == FileNames{blob_path(old.key)});
    CHECK(would.bytes == 12'288);
  }
  const uint64_t used = tree.store().stats().disk_used_bytes;
  CHECK(collect(tree).names == FileNames{blob_path(old.key)});
  CHECK(tree.store().stats().disk_used_bytes == used - 12'288);
  CHECK(absl::IsNotFound(tree.names().resolve(blob_path(old.key)).status()));
  CHECK(tree.read(blob_path(fresh.key)) == content_of(9'000, 3));
  CHECK(tree.files_on_disk() == 2);
  CHECK(collect(tree, {.dry_run = true, .expire_now = true}).names ==
        FileNames{blob_path(fresh.key)});
  CHECK(collect(tree, {.expire_now = true}).names == FileNames{blob_path(fresh.key)});
  CHECK(collect(tree, {.expire_now = true}).count == 0);
  CHECK(tree.read("files/named") == content_of(5'000, 1));
  CHECK(tree.store().stats().disk_kept_bytes == tree.store().stats().disk_used_bytes);
}

TEST_CASE("garbage: more than one transaction's worth, in a dry run and in earnest") {
  TreeFixture tree;
  constexpr uint32_t kBlobs = 300;
  for (uint32_t i = 0; i < kBlobs; ++i) tree.put("blob " + std::to_string(i));
  tree.put("kept", "files/kept");
  CHECK(collect(tree, {.dry_run = true, .expire_now = true}).count == kBlobs);
  CHECK(tree.list("blobs").size() == kBlobs + 1);
  CHECK(collect(tree, {.expire_now = true}).count == kBlobs);
  CHECK(tree.list("blobs").size() == 1);
  CHECK(tree.files_on_disk() == 1);
}

TEST_CASE("garbage: who has a blob open goes on reading it") {
  TreeFixture tree;
  const std::string content = content_of(3'000'000, 1);
  const CommittedBlob blob = tree.put(content);
  const page::ObjectRef reader =
      tree.names().open(tree.names().resolve(blob_path(blob.key)).value().id).value();
  CHECK(collect(tree, {.expire_now = true}).count == 1);
  CHECK(tree.files_on_disk() == 0);
  CHECK(TreeFixture::read_object(*reader).value_or("") == content);
}

TEST_CASE("garbage: files of no blob go, those of blobs and of people stay") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put(content_of(3'000'000, 1), "files/a");
  page::ObjectKey key;
  key.bytes[0] = 0xab;
  const std::string orphan = "objects/ab/" + key.hex() + "." + page::Incarnation::random().hex();
  // An earlier life of a blob that is here.
  const std::string stale = "objects/" + blob.key.hex().substr(0, 2) + "/" + blob.key.hex() + "." +
                            page::Incarnation::random().hex() + ".map";
  const std::string half = "tmp/" + page::Incarnation::random().hex();
  for (const std::string& file : {orphan, stale, half}) make_file(tree.path() / file);
  make_file(tree.path() / "objects/ab/notes");
  make_file(tree.path() / (orphan + ".damaged"));
  CHECK(collect(tree, {.dry_run = true}).names == FileNames{orphan, stale, half});
  CHECK(std::filesystem::exists(tree.path() / orphan));
  CHECK(collect(tree).names == FileNames{orphan, stale, half});
  for (const std::string& file : {orphan, stale, half}) {
    CHECK(!std::filesystem::exists(tree.path() / file));
  }
  CHECK(std::filesystem::exists(tree.path() / "objects/ab/notes"));
  CHECK(std::filesystem::exists(tree.path() / (orphan + ".damaged")));
  CHECK(tree.read("files/a") == content_of(3'000'000, 1));
}

TEST_CASE("garbage: a put under way is safe") {
  TreeFixture tree;
  const std::string content = content_of(3'000'000, 1);
  auto writer = tree.names().put("files/a", Creator{}, content.size()).value();
  REQUIRE(writer->append(bytes_of(content)).ok());
  CHECK(collect(tree, {.expire_now = true}).count == 0);
  REQUIRE(writer->commit().ok());
  CHECK(collect(tree, {.expire_now = true}).count == 0);
  CHECK(tree.read("files/a") == content);
}

TEST_CASE("garbage: ends wherever it is told to, and what has gone by then is told of") {
  TreeFixture tree;
  for (uint32_t i = 0; i < 3; ++i) tree.put("blob " + std::to_string(i));
  make_file(tree.path() / "tmp" / page::Incarnation::random().hex());
  size_t gone = 0;
  for (int64_t steps = 0;; ++steps) {
    Collected collected;
    collected.steps = steps;
    const absl::Status status = tree.names().collect_garbage({.expire_now = true}, collected);
    gone += collected.count;
    if (status.ok()) break;
    CHECK(absl::IsCancelled(status));
    REQUIRE(steps < 100);
  }
  // The sweep of the start may have been there before us for the file in tmp/.
  CHECK(gone >= 3);
  CHECK(gone <= 4);
  CHECK(tree.files_on_disk() == 0);
}

TEST_CASE("garbage: beside puts, names and removals nothing with a name is ever lost") {
  TreeFixture tree;
  std::atomic<int> failures{0};
  std::atomic<bool> over{false};
  const auto check = [&](bool good) { failures += good ? 0 : 1; };
  const auto use = [&](uint32_t me) {
    for (uint32_t round = 0; round < 40; ++round) {
      const std::string content = content_of(5'000 + round, me * 1'000 + round);
      const std::string first = "files/" + std::to_string(me) + "/first";
      const std::string second = "files/" + std::to_string(me) + "/" + std::to_string(round);
      const auto blob = tree.try_put(content, first);
      check(blob.ok());
      if (!blob.ok()) continue;
      check(tree.names().bind(second, blob->key, Creator{}).ok());
      check(tree.names().remove(first).ok());
      check(tree.try_read(second).value_or("") == content);
    }
  };
  std::thread collector([&] {
    while (!over) {
      Collected collected;
      check(tree.names().collect_garbage({.expire_now = true}, collected).ok());
      check(tree.names().collect_garbage({.dry_run = true, .expire_now = true}, collected).ok());
    }
  });
  std::thread one([&] { use(1); });
  std::thread two([&] { use(2); });
  one.join();
  two.join();
  over = true;
  collector.join();
  CHECK(failures == 0);
  for (uint32_t me = 1; me <= 2; ++me) {
    for (uint32_t round = 0; round < 40; ++round) {
      CHECK(tree.read("files/" + std::to_string(me) + "/" + std::to_string(round)) ==
            content_of(5'000 + round, me * 1'000 + round));
    }
  }
}

}  // namespace blobcache::tree
