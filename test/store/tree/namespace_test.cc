// What names exist and what they mean: looking, binding, removing, listing.

#include "store/tree/namespace.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

using Names = std::vector<std::string>;

TEST_CASE("namespace: a new store has its directories and nothing else") {
  TreeFixture tree;
  CHECK(tree.list("") == Names{"blobs", "files", "origins", "volumes"});
  for (const char* path : {"blobs", "files", "origins", "volumes"}) CHECK(tree.list(path).empty());

  const Node root = tree.names().resolve("/").value();
  CHECK(root.id == kRootNode);
  CHECK(root.type == NodeType::kDirectory);
  CHECK(tree.names().resolve("").value().id == kRootNode);
  const Node blobs = tree.names().resolve("blobs").value();
  CHECK(blobs.mode == 0500);
  CHECK(blobs.uid == ::geteuid());
  CHECK(tree.names().resolve("volumes").value().mode == 0700);
  CHECK(tree.names().resolve("files").value().mode == 0755);
  CHECK(tree.names().lookup(kRootNode, "blobs").value().id == blobs.id);
  CHECK(tree.names().stat(blobs.id).value().mode == 0500);

  const Namespace::Counts counts = tree.names().counts().value();
  CHECK(counts.blobs == 0);
  CHECK(counts.names == 0);
}

TEST_CASE("namespace: a put with a name is seen under both paths") {
  TreeFixture tree;
  const std::string content = content_of(10000, 1);
  const CommittedBlob blob = tree.put(content, "files/a/b/c.bin");
  CHECK(blob.key == digest_of(content));
  CHECK(blob.size_bytes == content.size());
  CHECK_FALSE(blob.existed);

  const Node file = tree.names().resolve("files/a/b/c.bin").value();
  CHECK(file.type == NodeType::kFile);
  CHECK(file.size_bytes == content.size());
  CHECK(file.mode == 0644);
  CHECK(file.links == 1);
  CHECK(file.digest == blob.key);
  CHECK(file.modified == tree.clock().now());
  CHECK(tree.read("files/a/b/c.bin") == content);

  const Node stored = tree.names().resolve(blob_path(blob.key)).value();
  CHECK(stored.mode == 0400);
  CHECK(stored.size_bytes == content.size());
  CHECK(stored.digest == blob.key);
  CHECK(stored.id != file.id);
  CHECK(tree.read(blob_path(blob.key)) == content);

  CHECK(tree.names().resolve("files/a/b").value().mode == 0755);
  CHECK(tree.list("files/a/b") == Names{"c.bin"});
  CHECK(tree.list("blobs") == Names{blob.key.hex()});
}

TEST_CASE("namespace: owners are the creator's, parents made on the way too") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put("content");
  const Creator creator{.uid = 1234, .gid = 567};
  const Node bound = tree.names().bind("files/made/by", blob.key, creator).value();
  CHECK(bound.uid == 1234);
  CHECK(bound.gid == 567);
  CHECK(tree.names().stat(bound.id).value().uid == 1234);
  CHECK(tree.names().resolve("files/made").value().uid == 1234);
  CHECK(tree.names().resolve("files/made").value().gid == 567);
}

TEST_CASE("namespace: what is not there, and what is no directory") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put("content", "files/a");
  Namespace& names = tree.names();
  for (const char* path : {"nothing", "files/b", "files/b/c", "origins/hub", "blobs/abc"}) {
    INFO(path);
    const absl::Status status = names.resolve(path).status();
    CHECK(absl::IsNotFound(status));
    CHECK(says(status, path));
  }
  CHECK(absl::IsNotFound(names.resolve(blob_path(digest_of("other"))).status()));
  // A blob has one name, in lower case.
  std::string upper = blob.key.hex();
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  CHECK(absl::IsNotFound(names.resolve("blobs/" + upper).status()));

  CHECK(absl::IsFailedPrecondition(names.resolve("files/a/b").status()));
  CHECK(absl::IsFailedPrecondition(names.resolve(blob_path(blob.key) + "/b").status()));
  const NodeId file = names.resolve("files/a").value().id;
  const NodeId stored = names.resolve(blob_path(blob.key)).value().id;
  CHECK(absl::IsFailedPrecondition(names.lookup(file, "b").status()));
  CHECK(absl::IsFailedPrecondition(names.lookup(stored, "b").status()));
  CHECK(absl::IsFailedPrecondition(names.list(file, 0, 10).status()));
  CHECK(absl::IsFailedPrecondition(names.list(stored, 0, 10).status()));
  CHECK(absl::IsFailedPrecondition(names.open(kRootNode).status()));

  for (const NodeId node :
       {NodeId{0}, NodeId{9}, NodeId{9999}, file + 1, stored + 1, NodeId{1} << 57, UINT64_MAX}) {
    INFO(node);
    CHECK(absl::IsNotFound(names.stat(node).status()));
    CHECK(absl::IsNotFound(names.lookup(node, "a").status()));
    CHECK(absl::IsNotFound(names.list(node, 0, 10).status()));
    CHECK(absl::IsNotFound(names.open(node).status()));
  }
  CHECK(absl::IsInvalidArgument(names.resolve("files//a").status()));
  CHECK(absl::IsInvalidArgument(names.lookup(kRootNode, "..").status()));
  CHECK(absl::IsInvalidArgument(names.list(kRootNode, UINT64_MAX, 10).status()));
}

TEST_CASE(
    "namespace: binding goes beneath files/ only, to a blob that is here, and never over a "
    "directory") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put("content", "files/directory/file");
  Namespace& names = tree.names();
  for (const char* path : {"files", "blobs/x", "volumes/x", "origins/x", "x", "other/x"}) {
    INFO(path);
    CHECK(absl::IsPermissionDenied(names.bind(path, blob.key, {}).status()));
    CHECK(absl::IsPermissionDenied(names.put(path, {}, 0).status()));
  }
  CHECK(absl::IsInvalidArgument(names.bind("", blob.key, {}).status()));
  CHECK(absl::IsInvalidArgument(names.bind("files/../x", blob.key, {}).status()));
  CHECK(absl::IsInvalidArgument(names.put("files/x/", {}, 0).status()));
  CHECK(absl::IsNotFound(names.bind("files/x", digest_of("other"), {}).status()));

  for (const char* path :
       {"files/directory", "files/directory/file/x", "files/directory/file/x/y"}) {
    INFO(path);
    CHECK(absl::IsFailedPrecondition(names.bind(path, blob.key, {}).status()));
    CHECK(absl::IsFailedPrecondition(names.put(path, {}, 0).status()));
  }
  // A refused bind leaves no directory of its path behind.
  CHECK(absl::IsNotFound(names.bind("files/new/x", digest_of("other"), {}).status()));
  CHECK(tree.list("files") == Names{"directory"});
}

TEST_CASE("namespace: a name bound anew is a new node, and the old one is gone") {
  TreeFixture tree;
  tree.put("old", "files/a");
  const Node before = tree.names().resolve("files/a").value();
  const page::ObjectRef open = tree.names().open(before.id).value();
  tree.clock().advance(absl::Seconds(5));
  tree.put("new content", "files/a");
  const Node after = tree.names().resolve("files/a").value();
  CHECK(after.id != before.id);
  CHECK(after.size_bytes == 11);
  CHECK(after.modified == before.modified + absl::Seconds(5));
  CHECK(tree.read("files/a") == "new content");
  CHECK(absl::IsNotFound(tree.names().stat(before.id).status()));
  CHECK(absl::IsNotFound(tree.names().open(before.id).status()));
  CHECK(TreeFixture::read_object(*open).value() == "old");
  // The same content once more is a new node, too, and loses nothing.
  tree.put("new content", "files/a");
  CHECK(tree.names().resolve("files/a").value().id != after.id);
  CHECK(tree.read("files/a") == "new content");
  CHECK(tree.list("files") == Names{"a"});
  CHECK(tree.names().counts().value().names == 1);
}

TEST_CASE("namespace: removing names") {
  TreeFixture tree;
  Namespace& names = tree.names();
  const CommittedBlob blob = tree.put("content", "files/a/b");
  names.bind("files/c", blob.key, {}).IgnoreError();
  for (const char* path : {"", "/", "blobs", "files", "origins", "volumes"}) {
    INFO(path);
    CHECK(absl::IsPermissionDenied(names.remove(path)));
  }
  for (const char* path : {"x", "files/x", "files/x/y", "origins/x", "volumes/x", "blobs/x"}) {
    INFO(path);
    CHECK(absl::IsNotFound(names.remove(path)));
  }
  CHECK(absl::IsFailedPrecondition(names.remove("files/c/x")));
  CHECK(absl::IsInvalidArgument(names.remove("files/a/")));
  const absl::Status occupied = names.remove("files/a");
  CHECK(absl::IsFailedPrecondition(occupied));
  CHECK(says(occupied, "files/a"));

  const NodeId removed = names.resolve("files/a/b").value().id;
  CHECK(names.remove("files/a/b").ok());
  CHECK(absl::IsNotFound(names.stat(removed).status()));
  CHECK(names.remove("files/a").ok());
  CHECK(tree.list("files") == Names{"c"});
  CHECK(tree.read("files/c") == "content");
}

TEST_CASE("namespace: a blob is forgotten only when no name holds it") {
  TreeFixture tree;
  Namespace& names = tree.names();
  const std::string content = content_of(3 << 20, 7);
  const CommittedBlob blob = tree.put(content, "files/deep/er/name");
  const absl::Status held = names.remove(blob_path(blob.key));
  CHECK(absl::IsFailedPrecondition(held));
  CHECK(says(held, "files/deep/er/name"));
  CHECK(tree.read(blob_path(blob.key)) == content);

  REQUIRE(names.remove("files/deep/er/name").ok());
  const page::ObjectRef open = names.open(names.resolve(blob_path(blob.key)).value().id).value();
  CHECK(names.remove(blob_path(blob.key)).ok());
  CHECK(absl::IsNotFound(names.resolve(blob_path(blob.key)).status()));
  CHECK(absl::IsNotFound(names.remove(blob_path(blob.key))));
  CHECK(tree.files_on_disk() == 0);
  CHECK(tree.store().stats().disk_used_bytes == 0);
  // Open and not read before: readable to the end.
  CHECK(TreeFixture::read_object(*open).value() == content);
}

TEST_CASE("namespace: ids are never used again") {
  TreeFixture tree;
  std::set<NodeId> ids;
  for (int i = 0; i < 3; ++i) {
    const CommittedBlob blob = tree.put("content", "files/d/a");
    for (const std::string& path :
         {std::string("files/d/a"), std::string("files/d"), blob_path(blob.key)}) {
      CHECK(ids.insert(tree.names().resolve(path).value().id).second);
    }
    REQUIRE(tree.names().remove("files/d/a").ok());
    REQUIRE(tree.names().remove("files/d").ok());
    REQUIRE(tree.names().remove(blob_path(blob.key)).ok());
    tree.reopen();
  }
}

TEST_CASE(
    "namespace: a walk sees what exists throughout exactly once, whatever happens meanwhile") {
  TreeFixture tree;
  Namespace& names = tree.names();
  const CommittedBlob blob = tree.put("content");
  const CommittedBlob other = tree.put("other");
  for (int i = 0; i < 50; ++i) {
    REQUIRE(names.bind("files/stays" + std::to_string(i), blob.key, {}).ok());
    REQUIRE(names.bind("files/goes" + std::to_string(i), blob.key, {}).ok());
  }
  const NodeId files = names.resolve("files").value().id;
  std::multiset<std::string> seen;
  uint64_t cookie = 0;
  for (int step = 0;; ++step) {
    const std::vector<NamedNode> entries = names.list(files, cookie, 7).value();
    if (entries.empty()) break;
    for (const NamedNode& entry : entries) {
      CHECK(entry.cookie > cookie);
      cookie = entry.cookie;
      seen.insert(entry.name);
    }
    // Names go (the one that the cookie stands for, too), come, and change what they mean.
    for (int i = 5 * step; i < std::min(50, 5 * step + 5); ++i) {
      REQUIRE(names.remove("files/goes" + std::to_string(i)).ok());
    }
    REQUIRE(names.bind("files/stays" + std::to_string(step % 50), other.key, {}).ok());
    if (step < 20) REQUIRE(names.bind("files/new" + std::to_string(step), blob.key, {}).ok());
    REQUIRE(step < 1000);
  }
  for (int i = 0; i < 50; ++i) {
    const std::string name = "stays" + std::to_string(i);
    INFO(name);
    CHECK(seen.count(name) == 1);
  }
  for (const std::string& name : seen) CHECK(seen.count(name) == 1);
  CHECK(names.list(files, cookie, 7).value().empty());
  CHECK(names.list(files, 0, 0).value().empty());
  CHECK(names.list(files, 0, SIZE_MAX).value().size() == tree.list("files").size());
}

TEST_CASE("namespace: a rebound name keeps its place in a walk") {
  TreeFixture tree;
  const CommittedBlob blob = tree.put("content");
  const CommittedBlob other = tree.put("other");
  for (const char* path : {"files/a", "files/b", "files/c"}) {
    REQUIRE(tree.names().bind(path, blob.key, {}).ok());
  }
  const NodeId files = tree.names().resolve("files").value().id;
  const std::vector<NamedNode> first = tree.names().list(files, 0, 2).value();
  REQUIRE(first.size() == 2);
  REQUIRE(tree.names().bind("files/a", other.key, {}).ok());
  const std::vector<NamedNode> rest = tree.names().list(files, first.back().cookie, 10).value();
  REQUIRE(rest.size() == 1);
  CHECK(rest.front().name == "c");
}

TEST_CASE("namespace: names are bytes") {
  TreeFixture tree;
  const std::string name = "files/\xff\xfe\n ' \"%;--";
  tree.put("content", name);
  CHECK(tree.read(name) == "content");
  CHECK(tree.list("files") == Names{name.substr(6)});
  CHECK(absl::IsNotFound(tree.names().resolve("files/\xff").status()));
  // No folding of case, no normal forms.
  tree.put("1", "files/x");
  tree.put("2", "files/X");
  CHECK(tree.read("files/x") == "1");
  CHECK(tree.read("files/X") == "2");
  CHECK(tree.names().remove(name).ok());
}

TEST_CASE("namespace: counts") {
  TreeFixture tree;
  tree.put(content_of(5000, 1), "files/a");
  const CommittedBlob blob = tree.put(content_of(6000, 2));
  REQUIRE(tree.names().bind("files/d/b", blob.key, {}).ok());
  REQUIRE(tree.names().bind("files/d/c", blob.key, {}).ok());
  tree.put(content_of(7000, 3));
  const auto check = [&](uint64_t blobs, uint64_t bytes, uint64_t names, uint64_t unnamed) {
    const Namespace::Counts counts = tree.names().counts().value();
    CHECK(counts.blobs == blobs);
    CHECK(counts.blob_bytes == bytes);
    CHECK(counts.names == names);
    CHECK(counts.unnamed_blobs == unnamed);
  };
  check(3, 18000, 3, 1);
  REQUIRE(tree.names().remove("files/d/b").ok());
  check(3, 18000, 2, 1);
  REQUIRE(tree.names().remove("files/d/c").ok());
  check(3, 18000, 1, 2);
  REQUIRE(tree.names().remove(blob_path(blob.key)).ok());
  check(2, 12000, 1, 1);
  REQUIRE(tree.names().bind("files/a", digest_of(content_of(7000, 3)), {}).ok());
  check(2, 12000, 1, 1);
  tree.reopen();
  check(2, 12000, 1, 1);
}

}  // namespace
}  // namespace blobcache::tree
