// Volumes as the tree has them: names, bases, budget, commits, and what a restart finds.

#include "store/tree/volumes.h"

#include <doctest/doctest.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

constexpr size_t kPage = 4096;
constexpr Creator kMaker{.uid = 7, .gid = 8, .may_replace = MayReplace::kAll};

/// Never ends a commit; notes the last progress.
class CutWatcher final : public CommitWatcher {
 public:
  bool on_progress(uint64_t done_bytes, uint64_t total_bytes) override {
    CHECK(done_bytes < total_bytes);
    last = done_bytes;
    return ++calls <= ends_after;
  }
  uint64_t last = 0;
  int calls = 0;
  int ends_after = 1'000'000;
};

VolumeInfo create(TreeFixture& tree, std::string_view name, uint64_t size,
                  std::string_view base = "") {
  absl::StatusOr<VolumeInfo> made = tree.names().volumes().create(name, size, base, kMaker);
  REQUIRE_MESSAGE(made.ok(), made.status().ToString());
  return *made;
}

VolumeRef open(TreeFixture& tree, std::string_view name) {
  const absl::StatusOr<Node> node = tree.names().resolve("volumes/" + std::string(name));
  REQUIRE(node.ok());
  absl::StatusOr<VolumeRef> volume = tree.names().volumes().open(node->id);
  REQUIRE_MESSAGE(volume.ok(), volume.status().ToString());
  return *std::move(volume);
}

std::string read(volume::Volume& volume, uint64_t offset, size_t length) {
  std::string out(length, '?');
  void* const data = out.data();
  const absl::Status status = volume.read_wait(offset, {static_cast<std::byte*>(data), out.size()});
  REQUIRE_MESSAGE(status.ok(), status.ToString());
  return out;
}

size_t folders(TreeFixture& tree) {
  size_t count = 0;
  std::error_code error;
  for (std::filesystem::directory_iterator at(tree.path() / "volumes", error), end;
       !error && at != end; at.increment(error)) {
    ++count;
  }
  return count;
}

TEST_CASE("volumes: made, seen in the tree, written to, and there after a restart") {
  TreeFixture tree;
  const VolumeInfo made = create(tree, "disk", 8 * kMiB);
  CHECK(made.size_bytes == 8 * kMiB);
  CHECK_FALSE(made.base.has_value());
  CHECK(tree.list("volumes") == std::vector<std::string>{"disk"});
  const Node node = tree.names().resolve("volumes/disk").value();
  CHECK(node.type == NodeType::kImage);
  CHECK(node.id == made.node);
  CHECK(node.size_bytes == 8 * kMiB);
  CHECK(node.mode == 0600);
  CHECK(node.uid == 7);
  const std::string content = content_of(3 * kPage, 1);
  {
    const VolumeRef volume = open(tree, "disk");
    CHECK(read(*volume, 0, kPage) == std::string(kPage, '\0'));
    REQUIRE(volume->write_wait(kPage, bytes_of(content)).ok());
    const VolumeRef same = open(tree, "disk");
    CHECK(same.get() == volume.get());
    CHECK(tree.names().volumes().list().value().front().in_use);
  }
  tree.reopen();
  const std::vector<VolumeInfo> all = tree.names().volumes().list().value();
  REQUIRE(all.size() == 1);
  CHECK(all[0].name == "disk");
  CHECK_FALSE(all[0].in_use);
  CHECK(all[0].own_bytes == content.size());
  CHECK(tree.names().volumes().usage().used_bytes == content.size());
  CHECK(read(*open(tree, "disk"), kPage, content.size()) == content);
}

TEST_CASE("volumes: what cannot be made says why, and leaves nothing") {
  TreeFixture tree;
  Volumes& volumes = tree.names().volumes();
  create(tree, "taken", kMiB);
  tree.put(content_of(kMiB, 1), "files/base");
  tree.put(std::string("QFI\xfb") + content_of(kPage, 2), "files/cow");
  const auto code = [&](std::string_view name, uint64_t size, std::string_view base) {
    return volumes.create(name, size, base, kMaker).status().code();
  };
  CHECK(code("taken", kMiB, "") == absl::StatusCode::kAlreadyExists);
  CHECK(code("", kMiB, "") == absl::StatusCode::kInvalidArgument);
  CHECK(code("a/b", kMiB, "") == absl::StatusCode::kInvalidArgument);
  CHECK(code("..", kMiB, "") == absl::StatusCode::kInvalidArgument);
  CHECK(code("x", 0, "") == absl::StatusCode::kInvalidArgument);
  CHECK(code("x", 1000, "") == absl::StatusCode::kInvalidArgument);
  CHECK(code("x", uint64_t{1} << 60, "") == absl::StatusCode::kInvalidArgument);
  CHECK(code("x", kMiB / 2, "files/base") == absl::StatusCode::kInvalidArgument);
  CHECK(code("x", 0, "files/none") == absl::StatusCode::kNotFound);
  CHECK(code("x", 0, "files") == absl::StatusCode::kFailedPrecondition);
  CHECK(code("x", 0, "volumes/taken") == absl::StatusCode::kFailedPrecondition);
  const absl::Status qcow = volumes.create("x", 0, "files/cow", kMaker).status();
  CHECK(qcow.code() == absl::StatusCode::kFailedPrecondition);
  CHECK(says(qcow, "qemu-img convert -O raw"));
  CHECK(tree.list("volumes") == std::vector<std::string>{"taken"});
  CHECK(folders(tree) == 1);
}

TEST_CASE("volumes: a base shows through, is kept by the volume, and let go with it") {
  TreeFixture tree;
  const std::string content = content_of(2 * kMiB + 100, 1);
  const CommittedBlob blob = tree.put(content, "files/base");
  const VolumeInfo made = create(tree, "over", 0, "files/base");
  CHECK(made.size_bytes == 2 * kMiB + 512);  // sectors
  CHECK(made.base == blob.key);
  REQUIRE(tree.names().remove("files/base").ok());
  tree.clock().advance(absl::Hours(1000));
  REQUIRE(tree.names().counts().ok());
  const absl::Status held = tree.names().remove(blob_path(blob.key));
  CHECK(absl::IsFailedPrecondition(held));
  CHECK(says(held, "held by volumes/over"));
  CHECK(tree.store().stats().disk_kept_bytes > 2 * kMiB);
  tree.reopen();
  {
    const VolumeRef volume = open(tree, "over");
    CHECK(read(*volume, 0, content.size()) == content);
    CHECK(read(*volume, content.size(), 412) == std::string(412, '\0'));
    REQUIRE(volume->write_wait(10, bytes_of("changed")).ok());
    CHECK(read(*volume, 0, kPage) == content.substr(0, 10) + "changed" + content.substr(17, 4079));
  }
  CHECK(tree.read(blob_path(blob.key)) == content);  // copy on write
  REQUIRE(tree.names().volumes().remove("over").ok());
  CHECK(folders(tree) == 0);
  CHECK(tree.names().volumes().usage().used_bytes == 0);
  CHECK(tree.names().remove(blob_path(blob.key)).ok());
}

TEST_CASE("volumes: one that is in use is not removed, nor is it by rm") {
  TreeFixture tree;
  create(tree, "disk", kMiB);
  VolumeRef volume = open(tree, "disk");
  const absl::Status used = tree.names().volumes().remove("disk");
  CHECK(absl::IsFailedPrecondition(used));
  CHECK(says(used, "in use"));
  volume = nullptr;
  CHECK(says(tree.names().remove("volumes/disk"), "volume rm"));
  CHECK(absl::IsFailedPrecondition(tree.names().pin("volumes/disk").status()));
  CHECK(absl::IsFailedPrecondition(
      tree.names().open(tree.names().resolve("volumes/disk")->id).status()));
  CHECK(absl::IsNotFound(tree.names().volumes().remove("none")));
  CHECK(tree.names().volumes().remove("disk").ok());
  CHECK(absl::IsNotFound(tree.names().resolve("volumes/disk").status()));
}

TEST_CASE("volumes: all together stay within their budget, also across a restart") {
  TreeFixture tree;
  tree.volume_bytes = kMiB;
  tree.reopen();
  create(tree, "a", 8 * kMiB);
  create(tree, "b", 8 * kMiB);
  const std::string content = content_of(kMiB / 2, 1);
  REQUIRE(open(tree, "a")->write_wait(0, bytes_of(content)).ok());
  REQUIRE(open(tree, "b")->write_wait(0, bytes_of(content)).ok());
  CHECK(absl::IsResourceExhausted(open(tree, "b")->write_wait(kMiB, bytes_of("more"))));
  CHECK(tree.names().volumes().usage().used_bytes == kMiB);
  tree.reopen();
  CHECK(tree.names().volumes().usage().used_bytes == kMiB);
  CHECK(absl::IsResourceExhausted(open(tree, "b")->write_wait(kMiB, bytes_of("more"))));
  REQUIRE(tree.names().volumes().remove("a").ok());
  CHECK(tree.names().volumes().usage().used_bytes == kMiB / 2);
  CHECK(open(tree, "b")->write_wait(kMiB, bytes_of("more")).ok());
}

TEST_CASE("volumes: grow, and never shrink") {
  TreeFixture tree;
  create(tree, "disk", kMiB);
  Volumes& volumes = tree.names().volumes();
  const VolumeRef volume = open(tree, "disk");
  CHECK(volumes.resize("disk", 3 * kMiB).value().size_bytes == 3 * kMiB);
  CHECK(volume->size_bytes() == 3 * kMiB);
  CHECK(volume->write_wait(3 * kMiB - 4, bytes_of("tail")).ok());
  CHECK(absl::IsInvalidArgument(volumes.resize("disk", kMiB).status()));
  CHECK(absl::IsInvalidArgument(volumes.resize("disk", 3 * kMiB + 1).status()));
  CHECK(absl::IsNotFound(volumes.resize("none", kMiB).status()));
  CHECK(tree.names().resolve("volumes/disk").value().size_bytes == 3 * kMiB);
}

TEST_CASE("volumes: a commit is a blob of one moment, and the volume goes on") {
  TreeFixture tree;
  const std::string content = content_of(3 * kMiB, 1);
  tree.put(content, "files/base");
  create(tree, "disk", 4 * kMiB, "files/base");
  const VolumeRef volume = open(tree, "disk");
  REQUIRE(volume->write_wait(kMiB, bytes_of("before")).ok());

  /// Writes while the commit reads.
  class Meddler final : public CommitWatcher {
   public:
    explicit Meddler(VolumeRef volume) : volume_(std::move(volume)) {}
    bool on_progress(uint64_t /*done*/, uint64_t /*total*/) override {
      return volume_->write_wait(kMiB, bytes_of("after!")).ok() &&
             volume_->write_wait(3 * kMiB, bytes_of("after!")).ok();
    }

   private:
    const VolumeRef volume_;
  } meddler(volume);

  const absl::StatusOr<CommittedBlob> blob =
      tree.names().volumes().commit("disk", "files/snap", kMaker, meddler);
  REQUIRE_MESSAGE(blob.ok(), blob.status().ToString());
  std::string expected = content + std::string(kMiB, '\0');
  expected.replace(kMiB, 6, "before");
  CHECK(blob->key == digest_of(expected));
  CHECK(tree.read("files/snap") == expected);
  CHECK(read(*volume, kMiB, 6) == "after!");
  CHECK(read(*volume, 3 * kMiB, 6) == "after!");

  CutWatcher ended;
  ended.ends_after = 1;
  CHECK(
      absl::IsCancelled(tree.names().volumes().commit("disk", "files/no", kMaker, ended).status()));
  CHECK(absl::IsNotFound(tree.names().resolve("files/no").status()));
  CutWatcher all;
  CHECK(tree.names().volumes().commit("disk", "", kMaker, all).ok());
  CHECK(all.last == 3 * kMiB);
}

TEST_CASE("volumes: snapshots and clones have what the volume had, over the same base") {
  TreeFixture tree;
  const std::string content = content_of(2 * kMiB, 1);
  tree.put(content, "files/base");
  create(tree, "disk", 3 * kMiB, "files/base");
  const VolumeRef volume = open(tree, "disk");
  REQUIRE(volume->write_wait(kMiB, bytes_of("mine")).ok());
  REQUIRE(volume->write_zeroes_wait(0, 16 * kPage).ok());
  Volumes& volumes = tree.names().volumes();
  CutWatcher watcher;
  const VolumeInfo snapshot = volumes.copy("disk", "snap", true, kMaker, watcher).value();
  CHECK(snapshot.read_only);
  CHECK(snapshot.own_bytes == kPage);  // what is the volume's own, and no more
  CHECK(tree.names().resolve("volumes/snap").value().mode == 0400);
  const VolumeInfo clone = volumes.copy("snap", "clone", false, kMaker, watcher).value();
  CHECK_FALSE(clone.read_only);
  REQUIRE(volume->write_wait(kMiB, bytes_of("later")).ok());
  REQUIRE(open(tree, "clone")->write_wait(2 * kMiB, bytes_of("clone's")).ok());
  std::string expected = content + std::string(kMiB, '\0');
  expected.replace(0, 16 * kPage, 16 * kPage, '\0');
  expected.replace(kMiB, 4, "mine");
  CHECK(read(*open(tree, "snap"), 0, 3 * kMiB) == expected);
  expected.replace(2 * kMiB, 7, "clone's");
  CHECK(read(*open(tree, "clone"), 0, 3 * kMiB) == expected);
  CHECK(absl::IsFailedPrecondition(volumes.resize("snap", 4 * kMiB).status()));
  CHECK(absl::IsAlreadyExists(volumes.copy("disk", "snap", true, kMaker, watcher).status()));
  CutWatcher ended;
  ended.ends_after = 0;
  CHECK(absl::IsCancelled(volumes.copy("disk", "other", false, kMaker, ended).status()));
  CHECK(folders(tree) == 3);
  CHECK(tree.list("volumes").size() == 3);
}

TEST_CASE("volumes: a folder that no row knows goes at the next start; others stay") {
  TreeFixture tree;
  create(tree, "disk", kMiB);
  const std::filesystem::path folder = tree.path() / "volumes";
  std::filesystem::create_directory(folder / std::string(32, 'a'));
  std::ofstream(folder / std::string(32, 'a') / "data") << "half made";
  std::filesystem::create_directory(folder / "somebody's own");
  tree.reopen();
  for (int i = 0; i < 10'000 && folders(tree) > 2; ++i) absl::SleepFor(absl::Milliseconds(1));
  CHECK(folders(tree) == 2);
  CHECK(std::filesystem::exists(folder / "somebody's own"));
  CHECK(open(tree, "disk") != nullptr);
}

TEST_CASE("volumes: many threads open and close one") {
  TreeFixture tree;
  create(tree, "disk", kMiB);
  std::vector<std::thread> threads;
  std::atomic<int> failures = 0;
  const NodeId node = tree.names().resolve("volumes/disk").value().id;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) {
        const absl::StatusOr<VolumeRef> volume = tree.names().volumes().open(node);
        const std::string text = std::to_string(t) + ":" + std::to_string(i) + ";";
        const uint64_t place = static_cast<uint64_t>(t) * kPage;
        if (!volume.ok() || !(*volume)->write_wait(place, bytes_of(text)).ok()) ++failures;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(failures == 0);
  for (int t = 0; t < 4; ++t) {
    const std::string text = std::to_string(t) + ":49;";
    CHECK(read(*open(tree, "disk"), static_cast<uint64_t>(t) * kPage, text.size()) == text);
  }
}

}  // namespace
}  // namespace blobcache::tree
