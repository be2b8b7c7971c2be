// What files and volumes take of the disk, as stat tells it.

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "store/page/geometry.h"
#include "store/tree/files.h"
#include "store/tree/name_editor.h"
#include "store/tree/namespace.h"
#include "store/tree/volumes.h"
#include "test/store/tree/fake_origin.h"
#include "test/store/tree/file_steps.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

using page::kPageSize;

std::optional<uint64_t> taken_by(TreeFixture& tree, std::string_view path) {
  return tree.names().resolve(path).value().allocated_bytes;
}

TEST_CASE("allocation: a blob takes its pages, and none for its holes") {
  TreeFixture tree;
  tree.put("", "files/empty");
  tree.put("x", "files/small");
  tree.put(content_of(3 * kMiB + 1, 1), "files/full");
  tree.put(std::string(10 * kMiB, '\0'), "files/zeros");
  const std::string half = std::string(5 * kMiB, '\0') + content_of(kMiB, 2);
  const CommittedBlob blob = tree.put(half, "files/half");
  const auto expect = [&] {
    CHECK(taken_by(tree, "files/empty") == 0);
    CHECK(taken_by(tree, "files/small") == kPageSize);
    CHECK(taken_by(tree, "files/full") == 3 * kMiB + kPageSize);
    CHECK(taken_by(tree, "files/zeros") == 0);
    CHECK(taken_by(tree, "files/half") == kMiB);
    CHECK(taken_by(tree, "blobs/" + blob.key.hex()) == kMiB);
    CHECK_FALSE(taken_by(tree, "files").has_value());
  };
  expect();
  tree.reopen();
  expect();
  const std::vector<NamedNode> listed = tree.names().list(kFilesNode, 0, 10).value();
  CHECK(listed.size() == 5);
  for (const NamedNode& each : listed) {
    CHECK(each.node.allocated_bytes == taken_by(tree, "files/" + each.name));
  }
}

TEST_CASE("allocation: a file under writing takes what was written, and the blob that it was") {
  TreeFixture tree;
  const FileRef file = make_new(tree, "new");
  CHECK(taken_by(tree, "files/new") == 0);
  CHECK(set_length(*file, 100 * kMiB).ok());
  // Not none: a mapping may have changed what has not been written yet.
  CHECK(taken_by(tree, "files/new") == kPageSize);
  CHECK(write_file(*file, 50 * kMiB, "x").ok());
  CHECK(write_file(*file, 70 * kMiB, content_of(kMiB, 1)).ok());
  CHECK(taken_by(tree, "files/new") == kMiB + kPageSize);
  CHECK(file->node().allocated_bytes == kMiB + kPageSize);
  const absl::Status punched = wait_for_done([&](volume::Done done) {
    file->write_zeroes(70 * kMiB, kMiB / 2, {.fua = false, .no_hole = false}, std::move(done));
  });
  CHECK(punched.ok());
  CHECK(taken_by(tree, "files/new") == kMiB / 2 + kPageSize);
  CHECK(set_length(*file, 60 * kMiB).ok());
  CHECK(taken_by(tree, "files/new") == kPageSize);
  CHECK(tree.names().editor().remove_file(kFilesNode, "new").ok());
  CHECK(file->node().allocated_bytes == kPageSize);

  tree.put(content_of(kMiB, 3), "files/old");
  const FileRef old = open_to_write(tree, "files/old");
  // Its own pages are none yet, and it is no file of zeros.
  CHECK(taken_by(tree, "files/old") == kMiB);
  CHECK(write_file(*old, 10, "x").ok());
  CHECK(taken_by(tree, "files/old") == kMiB);
  CHECK(set_length(*old, 10 * kMiB).ok());
  CHECK(write_file(*old, 9 * kMiB, "x").ok());
  CHECK(taken_by(tree, "files/old") == kMiB + 2 * kPageSize);
  CHECK(set_length(*old, kPageSize + 1).ok());
  CHECK(taken_by(tree, "files/old") == 2 * kPageSize);
  CHECK(set_length(*old, 0).ok());
  CHECK(taken_by(tree, "files/old") == 0);
}

TEST_CASE("allocation: a file that settled is told of as the blob that it is") {
  TreeFixture tree;
  tree.settle_after = absl::Milliseconds(20);
  tree.reopen();
  {
    const FileRef file = make_new(tree, "a");
    CHECK(set_length(*file, 20 * kMiB).ok());
    CHECK(write_file(*file, 5 * kMiB, content_of(kMiB, 1)).ok());
  }
  const auto settled = [&] { return tree.names().resolve("files/a").value().settled; };
  for (int tries = 0; tries < 2000 && !settled(); ++tries) absl::SleepFor(absl::Milliseconds(5));
  REQUIRE(settled());
  CHECK(taken_by(tree, "files/a") == kMiB);
}

TEST_CASE("allocation: a volume takes its own pages, open or not, and never nothing") {
  TreeFixture tree;
  tree.put(content_of(kMiB, 1), "files/base");
  Volumes& volumes = tree.names().volumes();
  const VolumeInfo plain = volumes.create("plain", 64 * kMiB, "", Creator{}).value();
  CHECK(volumes.create("over", 0, "files/base", Creator{}).ok());
  // Not none: who is told so takes it for zeros, though somebody may write to it a moment later.
  CHECK(taken_by(tree, "volumes/plain") == kPageSize);
  CHECK(taken_by(tree, "volumes/over") == kPageSize);
  {
    const VolumeRef open = volumes.open(plain.node).value();
    CHECK(open->write_wait(3 * kMiB, bytes_of(content_of(kMiB, 2))).ok());
    CHECK(taken_by(tree, "volumes/plain") == kMiB);
    CHECK(open->trim_wait(3 * kMiB, kMiB / 2).ok());
    CHECK(taken_by(tree, "volumes/plain") == kMiB / 2);
  }
  CHECK(taken_by(tree, "volumes/plain") == kMiB / 2);
  tree.reopen();
  CHECK(taken_by(tree, "volumes/plain") == kMiB / 2);
  CHECK(taken_by(tree, "volumes/over") == kPageSize);
  CHECK(tree.names().stat(plain.node)->allocated_bytes == kMiB / 2);
}

TEST_CASE("allocation: of what an origin has nobody counts it") {
  TreeFixture tree;
  const auto origin = std::make_shared<FakeOrigin>("a");
  tree.origins = {origin};
  tree.reopen();
  origin->put("file", "content");
  origin->put_image("disk", "0123456789");
  CHECK_FALSE(taken_by(tree, "origins/a/file").has_value());
  CHECK_FALSE(taken_by(tree, "origins/a/disk").has_value());
  tree.close();
}

}  // namespace
}  // namespace blobcache::tree
