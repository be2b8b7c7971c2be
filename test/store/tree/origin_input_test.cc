// What an origin may say though it makes no sense: each has its answer, and none of them is a crash
// or another file's bytes.

#include <doctest/doctest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/status.h"
#include "store/tree/namespace.h"
#include "store/tree/path.h"
#include "test/store/tree/fake_origin.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

/// A tree with the origin "a".
struct InputFixture : TreeFixture {
  InputFixture() {
    origins = {a};
    reopen();
  }
  ~InputFixture() { close(); }

  NodeId id_of(std::string_view path) { return names().resolve(path).value().id; }

  std::shared_ptr<FakeOrigin> a = std::make_shared<FakeOrigin>("a");
};

OriginEntry file_entry(std::string name, uint64_t size) {
  OriginEntry entry;
  entry.name = std::move(name);
  entry.size_bytes = size;
  return entry;
}

TEST_CASE_FIXTURE(InputFixture, "origin input: a listing shows what can be named, each name once") {
  a->list_as("", {file_entry("z", 1), file_entry("..", 2), file_entry("a/b", 3),
                  file_entry(std::string("n\0", 2), 4), file_entry("Z", 5), file_entry("z", 6),
                  file_entry(std::string(256, 'n'), 7), file_entry("\x1b[2J", 8)});
  CHECK(list("origins/a") == std::vector<std::string>{"\x1b[2J", "Z", "z"});
  const std::vector<NamedNode> listed = names().list(id_of("origins/a"), 0, 9).value();
  CHECK(listed.back().node.size_bytes == 1);
  // A walk in steps of one sees the same, though the origin lists another order each time.
  a->list_as("", {file_entry("z", 1), file_entry("Z", 5), file_entry("\x1b[2J", 8)});
  CHECK(list("origins/a", 1) == std::vector<std::string>{"\x1b[2J", "Z", "z"});
}

TEST_CASE_FIXTURE(InputFixture, "origin input: names that differ in case alone are two files") {
  a->put("Name", "upper");
  a->put("name", "lower");
  a->put("na\xc3\xafve", "one letter");
  a->put("nai\xcc\x88ve", "two signs");
  CHECK(read("origins/a/Name") == "upper");
  CHECK(read("origins/a/name") == "lower");
  CHECK(read("origins/a/na\xc3\xafve") == "one letter");
  CHECK(read("origins/a/nai\xcc\x88ve") == "two signs");
  CHECK(id_of("origins/a/Name") != id_of("origins/a/name"));
  CHECK(list("origins/a").size() == 4);
}

TEST_CASE_FIXTURE(InputFixture, "origin input: what lies too deep for a path is not there") {
  // Sixteen names of 250 bytes fit, and a seventeenth does not.
  const std::string name(250, 'd');
  std::string path = name;
  while (path.size() + 1 + name.size() <= kMaxPathBytes) path += "/" + name;
  const std::string deep = path + "/" + name;
  REQUIRE(deep.size() > kMaxPathBytes);
  a->put(deep, "deep");
  a->put(path + "/short", "short");
  NodeId node = id_of("origins/a");
  for (size_t at = 0; at < path.size(); at += name.size() + 1) {
    node = names().lookup(node, name).value().id;
  }
  CHECK(base::posix_errno_of(names().lookup(node, name).status()) == ENAMETOOLONG);
  const std::vector<NamedNode> listed = names().list(node, 0, 9).value();
  REQUIRE(listed.size() == 1);
  CHECK(listed[0].name == "short");
  CHECK(read_object(*names().open(listed[0].node.id).value()).value() == "short");
  CHECK(absl::IsInvalidArgument(names().resolve("origins/a/" + deep).status()));
}

TEST_CASE_FIXTURE(InputFixture,
                  "origin input: who has a file open that grows or shrinks reads on") {
  for (const bool lasting : {true, false}) {
    const std::string before = content_of(300'000, 1);
    for (const std::string& after :
         {content_of(100, 2), content_of(900'000, 3), std::string(), before.substr(1)}) {
      a->put("x", before, lasting);
      const NodeId old = id_of("origins/a/x");
      const page::ObjectRef open = names().open(old).value();
      REQUIRE(open->read_wait(0, 4096).ok());
      a->put("x", after, lasting);
      CHECK(names().resolve("origins/a/x")->size_bytes == after.size());
      CHECK(id_of("origins/a/x") != old);
      CHECK(open->size_bytes() == before.size());
      CHECK(read_object(*open).value() == before);
      CHECK(read("origins/a/x") == after);
      CHECK(absl::IsNotFound(names().open(old).status()));
    }
  }
}

TEST_CASE_FIXTURE(InputFixture, "origin input: a file becomes a directory, and a file again") {
  a->put("x", "file");
  const NodeId file = id_of("origins/a/x");
  const page::ObjectRef open = names().open(file).value();
  a->remove("x");
  a->put("x/y", "beneath");
  const Node directory = names().resolve("origins/a/x").value();
  CHECK(directory.type == NodeType::kDirectory);
  CHECK(directory.id != file);
  CHECK(list("origins/a/x") == std::vector<std::string>{"y"});
  CHECK(read("origins/a/x/y") == "beneath");
  CHECK(read_object(*open).value() == "file");
  CHECK(!names().open(file).ok());
  a->remove("x/y");
  a->put("x", "file");
  CHECK(read("origins/a/x") == "file");
  CHECK(!names().lookup(directory.id, "y").ok());
  clock().advance(absl::Seconds(2));
  CHECK(absl::IsNotFound(names().stat(directory.id).status()));
}

}  // namespace
}  // namespace blobcache::tree
