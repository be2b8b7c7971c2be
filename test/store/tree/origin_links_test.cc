// Symbolic links that an origin has: shown as what they are, and followed by nobody here.

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "base/status.h"
#include "store/tree/evict.h"
#include "store/tree/name_editor.h"
#include "store/tree/namespace.h"
#include "store/tree/path.h"
#include "store/tree/volumes.h"
#include "test/store/tree/fake_origin.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

/// A tree with the origin "a", which has a file, a directory and links to both.
struct LinksFixture : TreeFixture {
  LinksFixture() {
    origins = {a};
    reopen();
    a->put("file", "content");
    a->put("dir/inner", "inner");
    a->put_link("to-file", "file");
    a->put_link("to-dir", "dir");
    a->put_link("out", "/etc/passwd");
  }
  ~LinksFixture() { close(); }

  NodeId id_of(std::string_view path) { return names().resolve(path).value().id; }
  std::string target(NodeId node) { return names().editor().read_symlink(node).value(); }

  std::shared_ptr<FakeOrigin> a = std::make_shared<FakeOrigin>("a");
};

TEST_CASE_FIXTURE(LinksFixture, "origin links: are what they are, with the text that they say") {
  CHECK(list("origins/a") == std::vector<std::string>{"dir", "file", "out", "to-dir", "to-file"});
  const Node link = names().resolve("origins/a/out").value();
  CHECK(link.type == NodeType::kSymlink);
  CHECK(link.mode == 0777);
  CHECK(link.size_bytes == 11);
  CHECK(target(link.id) == "/etc/passwd");
  CHECK(names().lookup(id_of("origins/a"), "out")->id == link.id);
  CHECK(names().list(id_of("origins/a"), 0, 3)->back().node.id == link.id);
  clock().advance(absl::Hours(1));
  CHECK(names().stat(link.id)->id == link.id);
  CHECK(base::posix_errno_of(names().editor().read_symlink(id_of("origins/a/file")).status()) ==
        EINVAL);
  CHECK(base::posix_errno_of(names().editor().read_symlink(id_of("origins/a/dir")).status()) ==
        EINVAL);
  // What it says is known without asking.
  a->set_error(absl::UnavailableError("away"));
  CHECK(target(link.id) == "/etc/passwd");
}

TEST_CASE_FIXTURE(LinksFixture, "origin links: nothing lies behind one, whatever is done with it") {
  for (const char* path : {"origins/a/to-dir/inner", "origins/a/out/x"}) {
    CHECK(absl::IsNotFound(names().resolve(path).status()));
  }
  const NodeId link = id_of("origins/a/to-dir");
  CHECK(absl::IsFailedPrecondition(names().lookup(link, "inner").status()));
  CHECK(absl::IsFailedPrecondition(names().list(link, 0, 9).status()));
  const int opens = a->opens;
  for (const char* path : {"origins/a/to-file", "origins/a/out"}) {
    const absl::Status refused = names().open(id_of(path)).status();
    CHECK(absl::IsFailedPrecondition(refused));
    CHECK(says(refused, "symbolic link"));
    CHECK(absl::IsFailedPrecondition(names().open_image(id_of(path)).status()));
    CHECK(absl::IsFailedPrecondition(names().evict(path, EvictFrom::kAll).status()));
    const absl::Status base = names().volumes().create("v", 0, path, Creator{}).status();
    CHECK(absl::IsFailedPrecondition(base));
    CHECK(says(base, "symbolic link"));
    CHECK(names().origin_of(id_of(path)).value().empty());
  }
  CHECK(a->opens == opens);
}

TEST_CASE_FIXTURE(LinksFixture, "origin links: another text is another link, and so is a file") {
  const NodeId before = id_of("origins/a/to-file");
  a->put_link("to-file", "other");
  const NodeId other = id_of("origins/a/to-file");
  CHECK(other != before);
  CHECK(target(before) == "file");  // as whoever has it open has it
  CHECK(target(other) == "other");
  clock().advance(absl::Seconds(2));
  CHECK(absl::IsNotFound(names().stat(before).status()));
  a->put("to-file", "file");  // of the same name, size and time
  const Node file = names().resolve("origins/a/to-file").value();
  CHECK(file.type == NodeType::kFile);
  CHECK(file.id != before);
  CHECK(read("origins/a/to-file") == "file");
  clock().advance(absl::Seconds(2));
  CHECK(absl::IsNotFound(names().stat(other).status()));
  // The same text again is the same node again, after a restart, too.
  a->put_link("to-file", "file");
  CHECK(id_of("origins/a/to-file") == before);
  reopen();
  CHECK(id_of("origins/a/to-file") == before);
}

TEST_CASE_FIXTURE(LinksFixture,
                  "origin links: any text that a file system can hold, and no other") {
  for (const std::string& text :
       {std::string("\x01 \n\xff\\"), std::string(kMaxTargetBytes, 't'), std::string("..")}) {
    a->put_link("odd", text);
    const Node link = names().resolve("origins/a/odd").value();
    CHECK(link.size_bytes == text.size());
    CHECK(target(link.id) == text);
  }
  for (const std::string& text :
       {std::string(), std::string("a\0b", 3), std::string(kMaxTargetBytes + 1, 't')}) {
    a->put_link("odd", text);
    CHECK(absl::IsNotFound(names().resolve("origins/a/odd").status()));
    CHECK(list("origins/a").size() == 5);
  }
}

}  // namespace
}  // namespace blobcache::tree
