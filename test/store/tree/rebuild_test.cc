// A catalog made again from the blobs' files: everything is back, what is damaged is told, and a
// rebuild that was cut short can be run again.

#include "store/tree/rebuild.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/xattr.h>

#include <fstream>

#include "absl/time/clock.h"
#include "store/page/geometry.h"
#include "store/tree/impl/description.h"
#include "store/tree/volumes.h"
#include "test/store/tree/rebuild_fixture.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

TEST_CASE("rebuild: every blob and name is back, with digests, owners, modes and times") {
  TreeFixture tree;
  Namespace& names = tree.names();
  const Creator somebody{1000, 1001, MayReplace::kAll};
  put_as(tree, "small", "files/dir/small", somebody);
  put_as(tree, "small", "files/small again", Creator{});
  put_as(tree, content_of(3 << 20, 1), "files/large", somebody);
  put_as(tree, content_of(5000, 2) + std::string(2 << 20, '\0') + "end", "files/sparse", somebody);
  put_as(tree, std::string(1 << 20, '\0'), "/files/hole", somebody);
  put_as(tree, "", "files/empty", somebody);
  put_as(tree, "unnamed", "", somebody);
  put_as(tree, "odd", "files/a b%\n\xff/\xe2\x98\x83", somebody);
  put_as(tree, "old", "files/rebound", somebody);
  put_as(tree, "new", "files/rebound", somebody);
  put_as(tree, "removed", "files/removed", somebody);
  put_as(tree, "forgotten", "files/forgotten", somebody);
  REQUIRE(names.bind("files/bound", digest_of("small"), Creator{7, 8, MayReplace::kAll}).ok());
  REQUIRE(names.bind("files/bound/below", digest_of("small"), somebody).ok() == false);
  tree.clock().advance(absl::Seconds(1));
  REQUIRE(names.remove("files/removed").ok());
  REQUIRE(names.remove("files/forgotten").ok());
  REQUIRE(names.remove(blob_path(digest_of("forgotten"))).ok());
  // Putting it again makes a new file, which must know the other names.
  put_as(tree, "small", "files/third", somebody);
  put_as(tree, "small", "", somebody);

  const Picture before = picture_of(tree);
  const Namespace::Counts counts = names.counts().value();
  const uint64_t used = tree.store().stats().disk_used_bytes;
  lose_catalog(tree);
  const RebuildSummary summary = rebuild_whole(tree);
  CHECK(summary.blobs == counts.blobs);
  CHECK(summary.blob_bytes == counts.blob_bytes);
  CHECK(summary.names == counts.names);
  tree.open();
  CHECK(picture_of(tree) == before);
  CHECK(tree.names().counts().value().unnamed_blobs == counts.unnamed_blobs);
  CHECK(tree.store().stats().disk_used_bytes == used);
  CHECK(tree.read("files/large") == content_of(3 << 20, 1));
  CHECK(tree.read("files/sparse") == content_of(5000, 2) + std::string(2 << 20, '\0') + "end");
  CHECK(tree.read("files/hole") == std::string(1 << 20, '\0'));
  CHECK(tree.read("files/empty").empty());
  CHECK(tree.read("files/third") == "small");
  CHECK(tree.store().stats().map_errors == 0);
  CHECK(tree.store().stats().checksum_errors == 0);
  // And once more, from what the rebuilt store says.
  lose_catalog(tree);
  rebuild_whole(tree);
  tree.open();
  CHECK(picture_of(tree) == before);
}

TEST_CASE("rebuild: a description follows its blob's names") {
  TreeFixture tree;
  const page::ObjectKey key = digest_of("content");
  const auto paths = [&] {
    std::vector<std::string> told;
    const auto description = parse_description(description_of(tree, key)).value();
    for (const DescribedName& name : description.names) told.push_back(name.path);
    return told;
  };
  using Paths = std::vector<std::string>;
  tree.put("content");
  CHECK(paths().empty());
  REQUIRE(tree.names().bind("files/a", key, Creator{}).ok());
  CHECK(paths() == Paths{"files/a"});
  tree.put("content", "files/b");
  CHECK(paths() == Paths{"files/a", "files/b"});
  tree.put("content");
  CHECK(paths() == Paths{"files/a", "files/b"});
  tree.put("other", "files/a");
  CHECK(paths() == Paths{"files/b"});
  REQUIRE(tree.names().remove("files/b").ok());
  CHECK(paths().empty());
}

TEST_CASE("rebuild: pins are back, with names and without, and follow what was done last") {
  TreeFixture tree;
  put_as(tree, "named", "files/named", Creator{});
  put_as(tree, "unnamed", "", Creator{});
  put_as(tree, "let go", "", Creator{});
  put_as(tree, "put again", "", Creator{});
  put_as(tree, "never", "", Creator{});
  for (const char* content : {"named", "unnamed", "let go", "put again"}) {
    REQUIRE(tree.names().pin(blob_path(digest_of(content))).ok());
  }
  CHECK(description_of(tree, digest_of("unnamed")).ends_with("\npinned\n"));
  REQUIRE(tree.names().unpin(blob_path(digest_of("let go"))).ok());
  // A new file, which must know of the pin.
  put_as(tree, "put again", "", Creator{});
  lose_catalog(tree);
  rebuild_whole(tree);
  tree.open();
  const auto pinned = [&](std::string_view content) {
    return tree.names().resolve(blob_path(digest_of(content)))->pinned;
  };
  CHECK(pinned("named"));
  CHECK(tree.names().resolve("files/named")->pinned);
  CHECK(pinned("unnamed"));
  CHECK_FALSE(pinned("let go"));
  CHECK(pinned("put again"));
  CHECK_FALSE(pinned("never"));
  tree.clock().advance(kTtl);
  REQUIRE(tree.names().counts().ok());
  CHECK(tree.store().stats().disk_kept_bytes == 3 * page::kPageSize);
  CHECK(tree.store().stats().disk_used_bytes == 5 * page::kPageSize);
}

TEST_CASE("rebuild: a damaged file is told, left out and kept, and comes back when it is whole") {
  TreeFixture tree;
  const std::string content = content_of(2 << 20, 1);
  const page::ObjectKey key = digest_of(content);
  tree.put(content, "files/damaged");
  tree.put("good", "files/good");
  lose_catalog(tree);
  const fs::path file = file_of(tree, key);
  const fs::path aside = file.string() + ".damaged";
  const fs::path backup = tree.path() / "backup";
  fs::copy_file(file, backup);
  SUBCASE("a byte has changed") {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(12345);
    stream.put('\0');
  }
  SUBCASE("it is cut") { fs::resize_file(file, 1 << 20); }
  SUBCASE("it is longer") { fs::resize_file(file, (2 << 20) + 1); }
  for (int run = 0; run < 2; ++run) {
    const Outcome outcome = rebuild(tree);
    REQUIRE(outcome.summary.ok());
    CHECK(outcome.summary->left_out == 1);
    CHECK(outcome.summary->blobs == 1);
    REQUIRE(outcome.lines.size() == 1);
    CHECK(outcome.lines[0].find(key.hex()) != std::string::npos);
    CHECK(outcome.lines[0].find(aside.string()) != std::string::npos);
    CHECK(outcome.lines[0].find(".damaged.damaged") == std::string::npos);
    tree.open();
    CHECK(tree.list("files") == std::vector<std::string>{"good"});
    // The file survives starts, which remove what no blob owns.
    lose_catalog(tree);
    CHECK(fs::exists(aside));
    CHECK_FALSE(fs::exists(file));
  }
  {
    // The bytes alone: the description is the damaged file's.
    std::ifstream from(backup, std::ios::binary);
    std::ofstream(aside, std::ios::binary) << from.rdbuf();
  }
  rebuild_whole(tree);
  tree.open();
  CHECK(tree.read("files/damaged") == content);
  CHECK(tree.store().stats().map_errors == 0);
}

TEST_CASE("rebuild: a description that is not to be trusted costs the names, never the blob") {
  TreeFixture tree;
  const page::ObjectKey key = digest_of("content");
  tree.put("content", "files/a");
  tree.put("other", "files/b");
  lose_catalog(tree);
  SUBCASE("gone") { REQUIRE(::removexattr(file_of(tree, key).c_str(), kAttribute) == 0); }
  SUBCASE("garbage") { set_description(tree, key, std::string(100, '\xff')); }
  SUBCASE("too long") { set_description(tree, key, std::string(3000, 'x')); }
  SUBCASE("empty") { set_description(tree, key, ""); }
  SUBCASE("another blob's") {
    set_description(tree, key, description_of(tree, digest_of("other")));
  }
  const Outcome outcome = rebuild(tree);
  REQUIRE(outcome.summary.ok());
  CHECK(outcome.summary->left_out == 0);
  CHECK(outcome.summary->names_lost == 1);
  REQUIRE(outcome.lines.size() == 1);
  CHECK(outcome.lines[0].find("names, if it had any, are lost") != std::string::npos);
  tree.open();
  CHECK(tree.list("files") == std::vector<std::string>{"b"});
  CHECK(tree.read(blob_path(key)) == "content");
}

TEST_CASE("rebuild: names that cannot be together, and one that two blobs claim") {
  TreeFixture tree;
  put_as(tree, "first", "files/a", Creator{});
  put_as(tree, "second", "files/b", Creator{});
  lose_catalog(tree);
  Description first = parse_description(description_of(tree, digest_of("first"))).value();
  Description second = parse_description(description_of(tree, digest_of("second"))).value();
  SUBCASE("the later one has it") {
    second.names[0].path = "files/a";
    set_description(tree, second.key, format_description(second).value());
    const Outcome outcome = rebuild(tree);
    REQUIRE(outcome.summary.ok());
    CHECK(outcome.summary->complete());
    tree.open();
    CHECK(tree.read("files/a") == "second");
    // The other has lost its name now, not when the name was bound.
    tree.clock().advance(absl::Hours(23));
    CHECK(tree.names().counts().value().unnamed_blobs == 1);
  }
  SUBCASE("a file where a directory is wanted") {
    second.names[0].path = "files/a/b";
    set_description(tree, second.key, format_description(second).value());
    const Outcome outcome = rebuild(tree);
    REQUIRE(outcome.summary.ok());
    CHECK(outcome.summary->names_lost == 1);
    CHECK(outcome.summary->names == 1);
    CHECK(outcome.lines.size() == 1);
    tree.open();
    CHECK(tree.read("files/a") == "first");
    CHECK(tree.read(blob_path(second.key)) == "second");
  }
}

TEST_CASE("rebuild: refused while the catalog is whole or in use, and where there is no store") {
  TreeFixture tree;
  tree.put("content", "files/a");
  CHECK(absl::IsUnavailable(rebuild(tree).summary.status()));
  tree.close();
  const absl::Status whole = rebuild(tree).summary.status();
  CHECK(absl::IsFailedPrecondition(whole));
  CHECK(says(whole, "catalog is whole"));
  CHECK(says(whole, "move"));
  tree.open();
  CHECK(tree.read("files/a") == "content");

  const TemporaryDirectory empty;
  RebuildOptions options;
  options.path = empty.path();
  options.report = [](std::string_view) {};
  CHECK(absl::IsFailedPrecondition(rebuild_catalog(options).status()));
  CHECK(fs::is_empty(empty.path()));
}

TEST_CASE("rebuild: a damaged catalog is moved aside; a newer one is not damaged") {
  TreeFixture tree;
  for (int i = 0; i < 300; ++i) tree.put(fmt::format("content {}", i), fmt::format("files/{}", i));
  const Picture before = picture_of(tree);
  tree.close();
  const fs::path file = tree.path() / "catalog.sqlite";
  SUBCASE("in the middle, where a start does not look") {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(fs::file_size(file) / 2 / 4096 * 4096));
    stream << content_of(4096, 9);
  }
  SUBCASE("no database") { std::ofstream(file) << content_of(100000, 9); }
  SUBCASE("empty, with a log of an earlier one") {
    std::ofstream(file) << "";
    std::ofstream(tree.path() / "catalog.sqlite-wal") << content_of(50000, 9);
  }
  SUBCASE("left behind by a rebuild that was killed") {
    std::ofstream(file) << "";
    std::ofstream(tree.path() / "catalog.sqlite.rebuilding") << content_of(100000, 9);
    std::ofstream(tree.path() / "catalog.sqlite.rebuilding-journal") << content_of(50000, 9);
  }
  const RebuildSummary summary = rebuild_whole(tree);
  CHECK(fs::exists(summary.set_aside));
  CHECK(summary.set_aside.filename().string().starts_with("catalog.sqlite.damaged-"));
  CHECK_FALSE(fs::exists(tree.path() / "catalog.sqlite.rebuilding"));
  tree.open();
  CHECK(picture_of(tree) == before);
}

TEST_CASE("rebuild: a newer catalog is refused, and nothing is changed") {
  TreeFixture tree;
  tree.put("content", "files/a");
  tree.close();
  const fs::path file = tree.path() / "catalog.sqlite";
  {
    // user_version stands at offset 60 of the header, big-endian.
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(63);
    stream.put(99);
  }
  const absl::Status status = rebuild(tree).summary.status();
  CHECK(absl::IsFailedPrecondition(status));
  CHECK(says(status, "version 99"));
  CHECK(fs::exists(file));
}

/// Descriptions are compared in the background.
void wait_for_description(TreeFixture& tree, const std::string& expected) {
  const auto told = [&] { return description_of(tree, digest_of("content")); };
  for (int i = 0; i < 10000 && told() != expected; ++i) absl::SleepFor(absl::Milliseconds(1));
  CHECK(told() == expected);
}

TEST_CASE("rebuild: what a kill left untold is told by the next start") {
  TreeFixture tree;
  tree.put("content", "files/a");
  tree.put("content", "files/b");
  const std::string right = description_of(tree, digest_of("content"));
  Description stale = parse_description(right).value();
  stale.names.resize(1);
  set_description(tree, digest_of("content"), format_description(stale).value());
  SUBCASE("after a clean stop nothing is looked at") {
    tree.reopen();
    tree.close();
    CHECK(description_of(tree, digest_of("content")) == format_description(stale).value());
  }
  SUBCASE("after a kill") {
    close_as_killed(tree);
    tree.open();
    wait_for_description(tree, right);
  }
  SUBCASE("after a rebuild, which knows no more than was told") {
    lose_catalog(tree);
    set_description(tree, digest_of("content"), "garbage");
    REQUIRE(rebuild(tree).summary.ok());
    tree.open();
    stale.names.clear();
    wait_for_description(tree, format_description(stale).value());
  }
}

TEST_CASE("rebuild: volumes are back, over their bases, with what was written to them") {
  TreeFixture tree;
  const std::string content = content_of(1 << 20, 1);
  const CommittedBlob base = tree.put(content, "files/base");
  Volumes& volumes = tree.names().volumes();
  REQUIRE(volumes.create("over", 2 << 20, "files/base", {}).ok());
  REQUIRE(volumes.create("plain", 1 << 20, "", {}).ok());
  REQUIRE(tree.names().remove("files/base").ok());
  {
    const NodeId node = tree.names().resolve("volumes/over").value().id;
    REQUIRE((*volumes.open(node))->write_wait(4096, bytes_of("written")).ok());
  }
  lose_catalog(tree);
  rebuild_whole(tree);
  tree.open();
  CHECK(tree.list("volumes").size() == 2);
  const Node node = tree.names().resolve("volumes/over").value();
  CHECK(node.size_bytes == 2 << 20);
  {
    const VolumeRef volume = tree.names().volumes().open(node.id).value();
    std::string got(8192, '?');
    void* const data = got.data();
    REQUIRE(volume->read_wait(0, {static_cast<std::byte*>(data), got.size()}).ok());
    CHECK(got == content.substr(0, 4096) + "written" + content.substr(4103, 4089));
  }
  // Held again, as by a name.
  CHECK(absl::IsFailedPrecondition(tree.names().remove(blob_path(base.key))));
}

TEST_CASE("rebuild: a volume whose base or name is gone stays beside, and a start leaves it") {
  TreeFixture tree;
  const CommittedBlob base = tree.put(content_of(1 << 20, 1), "files/base");
  Volumes& volumes = tree.names().volumes();
  REQUIRE(volumes.create("over", 2 << 20, "files/base", {}).ok());
  REQUIRE(volumes.create("plain", 1 << 20, "", {}).ok());
  const std::filesystem::path file = file_of(tree, base.key);
  lose_catalog(tree);
  std::filesystem::remove(file);
  for (const auto& folder : std::filesystem::directory_iterator(tree.path() / "volumes")) {
    std::ifstream name(folder.path() / "name");
    std::string text;
    name >> text;
    if (text == "plain") std::filesystem::remove(folder.path() / "name");
  }
  const Outcome outcome = rebuild(tree);
  REQUIRE(outcome.summary.ok());
  CHECK_FALSE(outcome.summary->complete());
  CHECK(outcome.summary->left_out == 2);
  tree.open();
  CHECK(tree.list("volumes").empty());
  tree.reopen();
  size_t beside = 0;
  for (const auto& folder : std::filesystem::directory_iterator(tree.path() / "volumes")) {
    if (folder.path().extension() == ".damaged") ++beside;
  }
  CHECK(beside == 2);
}

TEST_CASE("rebuild: volumes without a catalog are not taken for what a kill left") {
  TreeFixture tree;
  REQUIRE(tree.names().volumes().create("plain", 1 << 20, "", {}).ok());
  lose_catalog(tree);
  page::PageStoreOptions options;
  options.path = tree.path();
  options.memory_bytes = uint64_t{16} << 20;
  options.disk_bytes = uint64_t{1} << 30;
  const auto store = page::PageStore::open(options).value();
  CHECK(absl::IsDataLoss(Namespace::open(tree.namespace_options(), *store).status()));
}

}  // namespace
}  // namespace blobcache::tree
