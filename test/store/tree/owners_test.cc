// Whose names may be replaced by whom.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

constexpr Creator kAlice{.uid = 1001, .gid = 100};
constexpr Creator kBob{.uid = 1002, .gid = 100};
constexpr Creator kStranger{.uid = 1001, .gid = 100, .may_replace = MayReplace::kNone};
constexpr Creator kAdministrator{.uid = 7, .gid = 7, .may_replace = MayReplace::kAll};

absl::Status put_as(TreeFixture& tree, const Creator& creator, std::string_view path,
                    std::string_view content) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<BlobWriter> writer,
                             tree.names().put(path, creator, content.size()));
  BLOBCACHE_RETURN_IF_ERROR(writer->append(bytes_of(content)));
  return writer->commit().status();
}

std::string refusal(std::string_view path, uid_t owner) {
  return fmt::format("{}: belongs to uid {}; only its owner or an administrator may replace it",
                     path, owner);
}

TEST_CASE("a name is replaced by its owner and by administrators, and by nobody else") {
  TreeFixture tree;
  CHECK(put_as(tree, kAlice, "files/d/x", "alice").ok());
  for (const Creator& other : {kBob, kStranger}) {
    // The put does not even begin.
    const absl::Status status = tree.names().put("files/d/x", other, 0).status();
    CHECK(absl::IsPermissionDenied(status));
    CHECK(base::message(status) == refusal("files/d/x", 1001));
    const absl::Status bound = tree.names().bind("files/d/x", digest_of("alice"), other).status();
    CHECK(absl::IsPermissionDenied(bound));
    CHECK(base::message(bound) == refusal("files/d/x", 1001));
  }
  CHECK(tree.read("files/d/x") == "alice");

  CHECK(put_as(tree, kAlice, "files/d/x", "again").ok());
  CHECK(tree.read("files/d/x") == "again");
  CHECK(put_as(tree, kAdministrator, "files/d/x", "admin").ok());
  CHECK(tree.read("files/d/x") == "admin");
  // It is the administrator's now.
  CHECK(says(put_as(tree, kAlice, "files/d/x", "alice"), "belongs to uid 7;"));
}

TEST_CASE("everybody makes new names and directories, also where others have theirs") {
  TreeFixture tree;
  CHECK(put_as(tree, kAlice, "files/d/alice", "a").ok());
  CHECK(put_as(tree, kBob, "files/d/bob", "b").ok());
  CHECK(put_as(tree, kStranger, "files/d/e/f/stranger", "c").ok());
  CHECK(tree.names().resolve("files/d/bob").value().uid == 1002);
  CHECK(tree.names().resolve("files/d").value().uid == 1001);
  // What a stranger made is not known to be his.
  CHECK(absl::IsPermissionDenied(put_as(tree, kStranger, "files/d/e/f/stranger", "d")));
}

TEST_CASE("whose a name is counts when it is bound, too") {
  TreeFixture tree;
  auto slow = tree.names().put("files/x", kBob, 0).value();
  CHECK(slow->append(bytes_of("bob")).ok());
  CHECK(put_as(tree, kAlice, "files/x", "alice").ok());
  const absl::Status status = slow->commit().status();
  CHECK(absl::IsPermissionDenied(status));
  CHECK(base::message(status) == refusal("files/x", 1001));
  slow = nullptr;
  CHECK(tree.read("files/x") == "alice");
  CHECK(tree.list("blobs").size() == 1);  // nothing is left of the other one
}

}  // namespace
}  // namespace blobcache::tree
