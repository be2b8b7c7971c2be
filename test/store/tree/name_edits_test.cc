// Names beneath files/ that are changed as a file system changes them.

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include "store/tree/impl/name_telling.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/name_editor.h"
#include "store/tree/volumes.h"
#include "test/store/tree/rebuild_fixture.h"

namespace blobcache::tree {
namespace {

/// 0 for OK.
int errno_of(const absl::Status& status) {
  return status.ok() ? 0 : base::posix_errno_of(status).value_or(-1);
}

AttributeChange to_mode(mode_t mode) {
  AttributeChange change;
  change.mode = mode;
  return change;
}

AttributeChange to_owner(mode_t mode, std::optional<uid_t> uid, std::optional<gid_t> gid) {
  AttributeChange change = to_mode(mode);
  change.uid = uid;
  change.gid = gid;
  return change;
}

AttributeChange to_time(absl::Time time) {
  AttributeChange change;
  change.modified = time;
  return change;
}

class EditedTree : public TreeFixture {
 public:
  NameEditor& editor() { return names().editor(); }
  NodeId at(std::string_view path) {
    const absl::StatusOr<Node> node = names().resolve(path);
    REQUIRE_MESSAGE(node.ok(), node.status().ToString());
    return node->id;
  }
  NodeId make(NodeId parent, std::string_view name, mode_t mode = 0755) {
    const absl::StatusOr<Node> node = editor().make_directory({parent, name, mode, 7, 8});
    REQUIRE_MESSAGE(node.ok(), node.status().ToString());
    return node->id;
  }
  int rename(std::string_view from, std::string_view name, std::string_view to,
             std::string_view new_name, RenameMode mode = RenameMode::kReplace) {
    return errno_of(editor().rename(at(from), name, at(to), new_name, mode));
  }
  bool has(std::string_view path) { return names().resolve(path).ok(); }
};

class NameListener final : public NamespaceListener {
 public:
  void on_name_changed(NodeId parent, std::string_view name) override {
    changes.push_back(std::to_string(parent) + "/" + std::string(name));
  }
  std::vector<std::string> changes;
};

class NoGarbage final : public GarbageWatcher {
 public:
  bool wants_more() override { return true; }
  void on_garbage(const Garbage& /*garbage*/) override { FAIL("nothing is garbage"); }
};

TEST_CASE("name edits: directories are made, with the group of one that says so") {
  EditedTree tree;
  const absl::StatusOr<Node> made =
      tree.editor().make_directory({kFilesNode, "a", 0750 | S_ISVTX, 7, 8});
  REQUIRE(made.ok());
  CHECK(made->type == NodeType::kDirectory);
  CHECK(made->mode == (0750 | S_ISVTX));
  CHECK(made->uid == 7);
  CHECK(made->gid == 8);
  CHECK(made->modified == tree.clock().now());
  CHECK(tree.names().resolve("files/a")->id == made->id);
  CHECK(tree.names().resolve("files")->modified == tree.clock().now());

  REQUIRE(tree.editor().set_attributes(made->id, to_owner(02755, std::nullopt, 33)).ok());
  const absl::StatusOr<Node> inner = tree.editor().make_directory({made->id, "b", 0700, 7, 8});
  REQUIRE(inner.ok());
  CHECK(inner->gid == 33);
  CHECK(inner->mode == 02700);
  const absl::StatusOr<Node> link = tree.editor().make_symlink({made->id, "l", 0, 7, 8}, "b");
  REQUIRE(link.ok());
  CHECK(link->gid == 33);
  CHECK(link->mode == 0777);
}

TEST_CASE("name edits: what cannot be made says why") {
  EditedTree tree;
  const NodeId a = tree.make(kFilesNode, "a");
  tree.put("content", "files/f");
  const auto make = [&](NodeId parent, std::string_view name) {
    return errno_of(tree.editor().make_directory({parent, name, 0755, 0, 0}).status());
  };
  CHECK(make(kFilesNode, "a") == EEXIST);
  CHECK(make(kFilesNode, "f") == EEXIST);
  CHECK(make(tree.at("files/f"), "x") == ENOTDIR);
  CHECK(make(1000, "x") == ENOENT);
  for (const NodeId fixed : {kRootNode, kBlobsNode, kVolumesNode, kOriginsNode, kBlobTag + 1}) {
    CHECK(make(fixed, "x") == EPERM);
  }
  CHECK(make(a, std::string(256, 'x')) == ENAMETOOLONG);
  CHECK(make(a, std::string(255, 'x')) == 0);
  CHECK(make(a, "..") == EINVAL);
  CHECK(make(a, "x/y") == EINVAL);
  CHECK(errno_of(tree.editor().make_symlink({a, "l", 0, 0, 0}, "").status()) == ENOENT);
  CHECK(errno_of(tree.editor().make_symlink({a, "l", 0, 0, 0}, std::string(4096, 'x')).status()) ==
        ENAMETOOLONG);
}

TEST_CASE("name edits: a name is any bytes but a slash and NUL") {
  EditedTree tree;
  std::string all;
  for (int c = 1; c < 256; ++c) {
    if (c != '/') all += static_cast<char>(c);
  }
  tree.make(kFilesNode, all);
  tree.make(kFilesNode, "\xe4\xf6\xfc");
  tree.reopen();
  CHECK(tree.list("files") == std::vector<std::string>{all, "\xe4\xf6\xfc"});
}

TEST_CASE("name edits: a symbolic link says what it was told") {
  EditedTree tree;
  const std::string target(4095, 'x');
  const absl::StatusOr<Node> link = tree.editor().make_symlink({kFilesNode, "l", 0, 0, 0}, target);
  REQUIRE(link.ok());
  tree.reopen();
  const Node found = tree.names().resolve("files/l").value();
  CHECK(found.type == NodeType::kSymlink);
  CHECK(found.id == link->id);
  CHECK(found.size_bytes == target.size());
  CHECK(tree.editor().read_symlink(found.id).value() == target);
  CHECK(errno_of(tree.editor().read_symlink(kFilesNode).status()) == EINVAL);
  CHECK(errno_of(tree.editor().read_symlink(kBlobTag + 1).status()) == EINVAL);
  CHECK(errno_of(tree.editor().read_symlink(1000).status()) == ENOENT);
  // It is no file to those who want bytes.
  CHECK(absl::IsFailedPrecondition(tree.names().open(found.id).status()));
  CHECK(absl::IsFailedPrecondition(tree.names().pin("files/l").status()));
  CHECK(absl::IsFailedPrecondition(tree.names().evict("files/l", EvictFrom::kAll).status()));
  CHECK(tree.names().counts()->names == 0);
  // A put replaces it, and is a name then.
  tree.put("content", "files/l");
  CHECK(tree.names().counts()->names == 1);
  CHECK(tree.read("files/l") == "content");
  REQUIRE(tree.names().remove("files/l").ok());
  CHECK(tree.names().counts()->names == 0);
}

TEST_CASE("name edits: files are unlinked, and directories removed when they are empty") {
  EditedTree tree;
  const NodeId a = tree.make(kFilesNode, "a");
  tree.put("content", "files/a/f");
  NameEditor& editor = tree.editor();
  CHECK(errno_of(editor.remove_file(kFilesNode, "a")) == EISDIR);
  CHECK(errno_of(editor.remove_file(kFilesNode, "b")) == ENOENT);
  CHECK(errno_of(editor.remove_directory(kFilesNode, "a")) == ENOTEMPTY);
  CHECK(errno_of(editor.remove_directory(a, "f")) == ENOTDIR);
  CHECK(errno_of(editor.remove_directory(kRootNode, "files")) == EPERM);
  tree.clock().advance(absl::Seconds(5));
  CHECK(errno_of(editor.remove_file(a, "f")) == 0);
  CHECK(tree.names().resolve("files/a")->modified == tree.clock().now());
  CHECK(errno_of(editor.remove_directory(kFilesNode, "a")) == 0);
  CHECK_FALSE(tree.names().stat(a).ok());
  CHECK(errno_of(editor.make_directory({a, "x", 0, 0, 0}).status()) == ENOENT);
  // The blob has lost its name, and its time runs.
  CHECK(tree.names().resolve(blob_path(digest_of("content")))->retention ==
        page::Retention::kCached);
  CHECK(tree.names().counts()->unnamed_blobs == 1);
}

TEST_CASE("name edits: a file has several names, and is there until the last one goes") {
  EditedTree tree;
  const NodeId a = tree.make(kFilesNode, "a");
  tree.put("content", "files/f");
  const NodeId file = tree.at("files/f");
  NameEditor& editor = tree.editor();
  tree.clock().advance(absl::Seconds(5));
  const absl::StatusOr<Node> linked = editor.link(file, a, "g");
  REQUIRE(linked.ok());
  CHECK(linked->id == file);
  CHECK(linked->links == 2);
  CHECK(tree.names().resolve("files/f")->links == 2);
  CHECK(tree.names().resolve("files/f")->changed == tree.clock().now());
  CHECK(tree.names().counts()->names == 2);
  CHECK(errno_of(editor.link(file, a, "g").status()) == EEXIST);
  CHECK(errno_of(editor.link(a, kFilesNode, "d").status()) == EPERM);
  CHECK(errno_of(editor.link(1000, kFilesNode, "d").status()) == ENOENT);
  CHECK(errno_of(editor.link(kBlobTag + 1, kFilesNode, "d").status()) == EXDEV);
  CHECK(errno_of(editor.link(file, kVolumesNode, "d").status()) == EXDEV);
  // Two names of one file: nothing happens.
  CHECK(tree.rename("files", "f", "files/a", "g") == 0);
  CHECK(tree.has("files/f"));
  tree.clock().advance(absl::Seconds(5));
  REQUIRE(editor.remove_file(kFilesNode, "f").ok());
  CHECK(tree.names().stat(file)->links == 1);
  CHECK(tree.names().stat(file)->changed == tree.clock().now());
  CHECK_FALSE(tree.names().resolve(blob_path(digest_of("content")))->expires.has_value());
  REQUIRE(editor.remove_file(a, "g").ok());
  CHECK_FALSE(tree.names().stat(file).ok());
  CHECK(tree.names().resolve(blob_path(digest_of("content")))->retention ==
        page::Retention::kCached);
}

TEST_CASE("name edits: a rename replaces what it may") {
  EditedTree tree;
  tree.make(kFilesNode, "a");
  tree.make(tree.make(kFilesNode, "full"), "x");
  tree.make(kFilesNode, "empty");
  tree.put("one", "files/f");
  tree.put("two", "files/a/g");
  CHECK(tree.rename("files", "nothing", "files", "x") == ENOENT);
  CHECK(tree.rename("files", "f", "files", "full") == EISDIR);
  CHECK(tree.rename("files", "a", "files", "f") == ENOTDIR);
  CHECK(tree.rename("files", "a", "files", "full") == ENOTEMPTY);
  CHECK(tree.rename("files", "f", "files/a", "g", RenameMode::kNoReplace) == EEXIST);
  CHECK(tree.rename("files", "f", "", "g") == EXDEV);
  CHECK(tree.rename("", "files", "files", "g") == EXDEV);
  CHECK(tree.rename("files", "f", "files", std::string(256, 'x')) == ENAMETOOLONG);
  CHECK(tree.read("files/f") == "one");

  const NodeId file = tree.at("files/f");
  tree.clock().advance(absl::Seconds(5));
  CHECK(tree.rename("files", "f", "files/a", "g") == 0);
  CHECK_FALSE(tree.has("files/f"));
  CHECK(tree.at("files/a/g") == file);
  CHECK(tree.names().stat(file)->changed == tree.clock().now());
  CHECK(tree.names().resolve("files")->modified == tree.clock().now());
  CHECK(tree.names().resolve("files/a")->modified == tree.clock().now());
  CHECK(tree.names().resolve(blob_path(digest_of("two")))->retention == page::Retention::kCached);
  CHECK(tree.names().counts()->names == 1);
  CHECK(tree.rename("files", "a", "files", "empty") == 0);
  CHECK(tree.read("files/empty/g") == "one");
  CHECK(tree.rename("files", "empty", "files", "empty") == 0);
  CHECK(tree.rename("files", "empty", "files", "empty", RenameMode::kNoReplace) == EEXIST);
  tree.reopen();
  CHECK(tree.read("files/empty/g") == "one");
}

TEST_CASE("name edits: no directory comes to lie in itself") {
  EditedTree tree;
  const NodeId a = tree.make(kFilesNode, "a");
  const NodeId b = tree.make(a, "b");
  tree.make(b, "c");
  tree.put("content", "files/f");
  CHECK(tree.rename("files", "a", "files/a", "x") == EINVAL);
  CHECK(tree.rename("files", "a", "files/a/b/c", "x") == EINVAL);
  CHECK(tree.rename("files", "a", "files/a", "b", RenameMode::kExchange) == EINVAL);
  CHECK(tree.rename("files/a/b", "c", "files", "a", RenameMode::kExchange) == EINVAL);
  CHECK(tree.rename("files/a/b", "c", "files", "a") == ENOTEMPTY);
  // A file is no directory, wherever it goes.
  CHECK(tree.rename("files", "f", "files/a/b/c", "f") == 0);
  CHECK(tree.rename("files/a", "b", "files", "b") == 0);
  CHECK(tree.rename("files", "a", "files/b/c", "a") == 0);
  CHECK(tree.has("files/b/c/a"));
}

TEST_CASE("name edits: two names change places, of whatever kinds") {
  EditedTree tree;
  tree.make(kFilesNode, "a");
  tree.make(tree.at("files/a"), "inner");
  tree.make(kFilesNode, "d");
  tree.put("content", "files/d/f");
  CHECK(tree.rename("files", "a", "files/d", "x", RenameMode::kExchange) == ENOENT);
  CHECK(tree.rename("files", "a", "files/d", "f", RenameMode::kExchange) == 0);
  CHECK(tree.has("files/d/f/inner"));
  CHECK(tree.read("files/a") == "content");
  CHECK(tree.names().counts()->names == 1);
}

TEST_CASE("name edits: who walks a directory sees a name that stays once") {
  EditedTree tree;
  for (const char* name : {"a", "b", "c", "d"}) tree.put(name, std::string("files/") + name);
  const std::vector<NamedNode> first = tree.names().list(kFilesNode, 0, 2).value();
  REQUIRE(first.back().name == "b");
  CHECK(tree.rename("files", "d", "files", "b") == 0);
  CHECK(tree.rename("files", "a", "files", "c", RenameMode::kExchange) == 0);
  const std::vector<NamedNode> rest =
      tree.names().list(kFilesNode, first.back().cookie, 10).value();
  REQUIRE(rest.size() == 1);
  CHECK(rest.front().name == "c");
  CHECK(tree.read("files/b") == "d");
}

TEST_CASE("name edits: attributes are set where they may be") {
  EditedTree tree;
  tree.put("content", "files/f");
  const NodeId file = tree.at("files/f");
  const absl::Time before = tree.names().stat(file)->modified;
  tree.clock().advance(absl::Seconds(5));
  const absl::Time time = absl::FromUnixNanos(1'234'567'891);
  NameEditor& editor = tree.editor();
  Node node = editor.set_attributes(file, to_owner(04711, 1, 2)).value();
  CHECK(node.mode == 04711);
  CHECK(node.uid == 1);
  CHECK(node.gid == 2);
  CHECK(node.modified == before);
  CHECK(node.changed == tree.clock().now());
  node = editor.set_attributes(file, to_time(time)).value();
  CHECK(node.modified == time);
  CHECK(node.uid == 1);
  CHECK(editor.set_attributes(kFilesNode, to_owner(0777, 5, std::nullopt)).ok());
  CHECK(tree.names().resolve("files")->uid == 5);
  for (const NodeId fixed : {kRootNode, kBlobsNode, kVolumesNode, kOriginsNode, kBlobTag + 1}) {
    CHECK(errno_of(editor.set_attributes(fixed, to_mode(0777)).status()) == EPERM);
  }
  REQUIRE(tree.names().volumes().create("v", 4096, "", Creator{}).ok());
  CHECK(errno_of(editor.set_attributes(tree.at("volumes/v"), to_mode(0777)).status()) == EPERM);
  CHECK(errno_of(editor.set_attributes(1000, to_mode(0777)).status()) == ENOENT);
  tree.reopen();
  CHECK(tree.names().resolve("files/f")->mode == 04711);
  CHECK(tree.names().resolve("files/f")->modified == time);
}

TEST_CASE("name edits: listeners hear of all names that a change concerns") {
  EditedTree tree;
  NameListener listener;
  tree.names().add_listener(&listener);
  const NodeId a = tree.make(kFilesNode, "a");
  const std::string beneath = std::to_string(a) + "/";
  CHECK(std::exchange(listener.changes, {}) == std::vector<std::string>{"3/a"});
  REQUIRE(tree.editor().make_symlink({a, "l", 0, 0, 0}, "x").ok());
  REQUIRE(tree.editor().link(tree.at("files/a/l"), kFilesNode, "m").ok());
  CHECK(std::exchange(listener.changes, {}) == std::vector<std::string>{beneath + "l", "3/m"});
  REQUIRE(tree.rename("files/a", "l", "files", "n") == 0);
  CHECK(std::exchange(listener.changes, {}) == std::vector<std::string>{beneath + "l", "3/n"});
  REQUIRE(tree.editor().remove_file(kFilesNode, "n").ok());
  REQUIRE(tree.editor().remove_directory(kFilesNode, "a").ok());
  CHECK(std::exchange(listener.changes, {}) == std::vector<std::string>{"3/n", "3/a"});
  tree.names().remove_listener(&listener);
}

// ------------------------------------------------------------------ what blobs' files tell of it

/// Names of blobs, with their attributes.
Picture named_files(TreeFixture& tree) {
  Picture picture = picture_of(tree);
  std::erase_if(picture, [](const auto& entry) { return entry.second.starts_with("- "); });
  return picture;
}

void check_comes_back(TreeFixture& tree) {
  const Picture before = named_files(tree);
  lose_catalog(tree);
  rebuild_whole(tree);
  tree.open();
  CHECK(named_files(tree) == before);
}

TEST_CASE("name edits: a lost catalog comes back with names as they were changed last") {
  EditedTree tree;
  tree.make(kFilesNode, "a");
  tree.make(kFilesNode, "b");
  tree.put("one", "files/a/one");
  tree.put("two", "files/a/two");
  tree.put("same", "files/a/same");
  tree.put("same", "files/b/same");
  REQUIRE(tree.editor().link(tree.at("files/a/one"), kFilesNode, "linked").ok());
  SUBCASE("a file renamed, replaced, removed") {
    CHECK(tree.rename("files/a", "one", "files/b", "uno") == 0);
    CHECK(tree.rename("files/a", "same", "files/b", "same") == 0);
    CHECK(tree.editor().remove_file(tree.at("files/a"), "two").ok());
  }
  SUBCASE("directories moved") { CHECK(tree.rename("files", "a", "files/b", "moved") == 0); }
  SUBCASE("directories with the same content that change places") {
    CHECK(tree.rename("files", "a", "files", "b", RenameMode::kExchange) == 0);
  }
  SUBCASE("attributes, of all names") {
    AttributeChange change = to_owner(0600, 5, 6);
    change.modified = absl::FromUnixSeconds(99);
    CHECK(tree.editor().set_attributes(tree.at("files/linked"), change).ok());
  }
  check_comes_back(tree);
}

TEST_CASE("name edits: names lie deeper than a path can say, and are told of when they come up") {
  EditedTree tree;
  NodeId deep = tree.make(kFilesNode, "top");
  for (int i = 0; i < 15; ++i) deep = tree.make(deep, std::string(255, 'x'));
  const std::string name(255, 'n');
  tree.put("content", "files/f");
  REQUIRE(tree.editor().link(tree.at("files/f"), kFilesNode, "g").ok());
  REQUIRE(tree.editor().rename(kFilesNode, "f", deep, name, RenameMode::kReplace).ok());
  CHECK(tree.names().lookup(deep, name)->links == 2);
  NoGarbage watcher;
  CHECK(tree.names().collect_garbage({}, watcher).ok());
  REQUIRE(tree.editor().set_attributes(tree.at("files/g"), to_mode(0600)).ok());
  CHECK(tree.rename("files", "top", "files", "bottom") == 0);
  const std::string told = description_of(tree, digest_of("content"));
  CHECK(told.find("name 600 0 0") != std::string::npos);
  CHECK(told.find("xxx") == std::string::npos);
  SUBCASE("up again") {
    REQUIRE(tree.editor().rename(deep, name, kFilesNode, "f", RenameMode::kReplace).ok());
  }
  SUBCASE("gone from there") { REQUIRE(tree.editor().remove_file(deep, name).ok()); }
  check_comes_back(tree);
}

TEST_CASE("name edits: what is beneath a large directory is told after it has moved") {
  EditedTree tree;
  const NodeId a = tree.make(kFilesNode, "a");
  const NodeId inner = tree.make(a, "inner");
  const std::string content = "the same in all";
  // Enough of them that a names file tells them, and some that it tells not.
  for (size_t i = 0; i < 2 * NameTelling::kMostBeneath; ++i) {
    tree.put(content, "files/a/inner/" + std::to_string(i));
  }
  tree.put("other", "files/a/other");
  const std::filesystem::path mark = tree.path() / "described";
  REQUIRE(std::filesystem::exists(mark));
  REQUIRE(tree.rename("files", "a", "files", "b") == 0);
  CHECK_FALSE(std::filesystem::exists(mark));
  SUBCASE("by the next start") {}
  SUBCASE("whatever leaves it before") {
    REQUIRE(tree.editor().rename(inner, "7", kFilesNode, "7", RenameMode::kReplace).ok());
    REQUIRE(tree.editor().remove_file(inner, "8").ok());
    REQUIRE(tree.rename("files", "b", "files", "c") == 0);
  }
  close_as_killed(tree);
  tree.open();
  for (int i = 0; i < 10'000 && !std::filesystem::exists(mark); ++i) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  REQUIRE(std::filesystem::exists(mark));
  check_comes_back(tree);
}

}  // namespace
}  // namespace blobcache::tree
