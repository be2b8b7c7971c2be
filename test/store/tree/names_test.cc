// Blobs with more names than an attribute holds, and file systems that hold none: a catalog that
// is lost comes back with every name.

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <fstream>
#include <thread>

#include "absl/time/clock.h"
#include "store/page/geometry.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/description.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/path.h"
#include "test/store/tree/rebuild_fixture.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

/// A file system of which a test says what it does not do; counts what names files take.
class NamesDisk {
 public:
  page::DiskFault hook() {
    return [this](const page::DiskStep& step) {
      // Not so: to remove one.
      if (step.kind == page::DiskStep::Kind::kAttribute)
        return step.bytes > 0 ? attribute.load() : 0;
      // Data and page maps are written in whole pages, and text happens not to be.
      const bool text = step.bytes % page::kPageSize != 0;
      if (step.kind != page::DiskStep::Kind::kWrite || !text) return 0;
      written += step.bytes;
      return names_file.load();
    };
  }
  std::atomic<int> attribute{0};   ///< what setting one comes to, an errno value below 0
  std::atomic<int> names_file{0};  ///< so with writing a names file
  std::atomic<uint64_t> written{0};
};

std::string nth(size_t i) {
  return fmt::format("files/dir{}/a name of some length {:06}", i % 3, i);
}

void bind_all(TreeFixture& tree, const page::ObjectKey& key, size_t from, size_t to) {
  for (size_t i = from; i < to; ++i) REQUIRE(tree.names().bind(nth(i), key, Creator{}).ok());
}

/// Blobs and names; directories that are empty are not told of.
Picture files_of(TreeFixture& tree) {
  Picture picture = picture_of(tree);
  std::erase_if(picture, [](const auto& entry) { return entry.second.starts_with("- "); });
  return picture;
}

/// The catalog is lost and made again: all is as it was.
void check_rebuilt(TreeFixture& tree) {
  const Picture before = files_of(tree);
  lose_catalog(tree);
  rebuild_whole(tree);
  tree.open();
  CHECK(files_of(tree) == before);
}

ino_t inode_of(const fs::path& path) {
  struct stat info{};
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

/// What is told in the background.
template <typename Condition>
bool comes_true(const Condition& condition) {
  for (int i = 0; i < 10'000 && !condition(); ++i) absl::SleepFor(absl::Milliseconds(1));
  return condition();
}

}  // namespace

TEST_CASE("names: a thousand of one blob are back") {
  NamesDisk disk;
  TreeFixture tree(uint64_t{1} << 30, disk.hook());
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  CHECK_FALSE(fs::exists(names_file_of(tree, key)));
  put_as(tree, "other", "files/other", Creator{});
  bind_all(tree, key, 1, 1000);
  CHECK(fs::exists(names_file_of(tree, key)));
  CHECK_FALSE(fs::exists(names_file_of(tree, digest_of("other"))));
  // Each name costs itself: the file is written whole a few times, not at every bind.
  CHECK(disk.written < 5 * fs::file_size(names_file_of(tree, key)));
  // Removed, bound anew to the same and to another blob, by others.
  for (size_t i = 0; i < 1000; i += 10) REQUIRE(tree.names().remove(nth(i)).ok());
  for (size_t i = 1; i < 1000; i += 100) {
    REQUIRE(tree.names().bind(nth(i), digest_of("other"), Creator{5, 6, MayReplace::kAll}).ok());
    REQUIRE(tree.names().bind(nth(i + 1), key, Creator{7, 8, MayReplace::kAll}).ok());
  }
  check_rebuilt(tree);
  // And again, from what the rebuilt store tells.
  REQUIRE(tree.names().remove(nth(5)).ok());
  bind_all(tree, key, 1000, 1010);
  check_rebuilt(tree);
}

TEST_CASE("names: many thousands of one blob are back, and one more costs no more than itself") {
  constexpr size_t kNames = 20'000;
  NamesDisk disk;
  TreeFixture tree(uint64_t{1} << 30, disk.hook());
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  tree.close();
  {
    // In one transaction, as nobody else could.
    auto catalog = Catalog::open(tree.path() / "catalog.sqlite", tree.path() / "objects").value();
    const auto bind = [&](CatalogWriter& writer) -> absl::Status {
      const BlobRow blob = writer.find_blob(key).value().value();
      for (size_t i = 1; i < kNames; ++i) {
        const std::string path = nth(i);
        Effects effects;
        BLOBCACHE_RETURN_IF_ERROR(bind_path(writer, split_path(path).value(), blob, Creator{},
                                            tree.clock().now(), effects)
                                      .status());
      }
      return absl::OkStatus();
    };
    REQUIRE(catalog->write(bind, [] {}).ok());
  }
  tree.open();
  bind_all(tree, key, kNames, kNames + 1);
  const ino_t file = inode_of(names_file_of(tree, key));
  const uint64_t whole = disk.written.exchange(0);
  CHECK(whole > kNames * 50);
  bind_all(tree, key, kNames + 1, kNames + 100);
  REQUIRE(tree.names().remove(nth(7)).ok());
  CHECK(inode_of(names_file_of(tree, key)) == file);
  CHECK(disk.written < 20'000);
  // A new copy takes the file over.
  tree.put("content", nth(kNames + 100));
  tree.put("content");
  CHECK(inode_of(names_file_of(tree, key)) == file);
  CHECK(disk.written < 20'000);
  CHECK(tree.files_on_disk() == 2);
  check_rebuilt(tree);
}

TEST_CASE("names: one that alone is too long for the attribute is back") {
  TreeFixture tree;
  const std::string part(250, '\xff');
  const std::string path = "files/" + part + "/" + part + "/" + part;
  const page::ObjectKey key = tree.put("content", path).key;
  CHECK(fs::exists(names_file_of(tree, key)));
  check_rebuilt(tree);
  REQUIRE(tree.names().remove(path).ok());
  check_rebuilt(tree);
}

TEST_CASE("names: those of a blob whose names became few are in its attribute again, sometime") {
  TreeFixture tree;
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  bind_all(tree, key, 1, 100);
  for (size_t i = 1; i < 100; ++i) REQUIRE(tree.names().remove(nth(i)).ok());
  check_rebuilt(tree);
  // A start after a kill or a rebuild compares, and writes the lesser.
  CHECK(comes_true([&] { return !fs::exists(names_file_of(tree, key)); }));
  check_rebuilt(tree);
}

TEST_CASE("names: without attributes they are in files, and all are back") {
  NamesDisk disk;
  disk.attribute = -ENOTSUP;
  TreeFixture tree(uint64_t{1} << 30, disk.hook());
  tree.put("content", "files/a");
  tree.put("content", "files/b");
  tree.put("unnamed");
  tree.put(content_of(3 << 20, 1), "files/large");
  REQUIRE(tree.names().bind("files/c", digest_of("unnamed"), Creator{}).ok());
  REQUIRE(tree.names().bind("files/d", digest_of("content"), Creator{}).ok());
  REQUIRE(tree.names().remove("files/a").ok());
  bind_all(tree, digest_of("content"), 0, 100);
  tree.put("content");
  CHECK(description_of(tree, digest_of("content")).empty());
  check_rebuilt(tree);
  check_rebuilt(tree);
  for (size_t i = 0; i < 100; ++i) REQUIRE(tree.names().remove(nth(i)).ok());
  for (const char* name : {"b", "c", "d", "large", "dir0", "dir1", "dir2"}) {
    REQUIRE(tree.names().remove(fmt::format("files/{}", name)).ok());
  }
  for (const std::string& hex : tree.list("blobs")) {
    REQUIRE(tree.names().remove("blobs/" + hex).ok());
  }
  CHECK(tree.files_on_disk() == 0);
}

TEST_CASE("names: a disk without room for an attribute has them in a file") {
  NamesDisk disk;
  TreeFixture tree(uint64_t{1} << 30, disk.hook());
  const page::ObjectKey key = tree.put("content", "files/a").key;
  disk.attribute = -ENOSPC;
  REQUIRE(tree.names().bind("files/b", key, Creator{}).ok());
  CHECK(fs::exists(names_file_of(tree, key)));
  // The one that could not be changed must not have the say.
  CHECK(description_of(tree, key).empty());
  tree.put("more", "files/c");
  tree.put("more", "files/d");
  check_rebuilt(tree);
  disk.attribute = 0;
  REQUIRE(tree.names().bind("files/e", key, Creator{}).ok());
  check_rebuilt(tree);
}

TEST_CASE("names: what could not be told is told by the next start") {
  NamesDisk disk;
  TreeFixture tree(uint64_t{1} << 30, disk.hook());
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  bind_all(tree, key, 1, 100);
  const fs::path mark = tree.path() / "described";
  CHECK(fs::exists(mark));
  for (const int failure : {-ENOSPC, -EIO}) {
    disk.names_file = failure;
    REQUIRE(tree.names().bind(fmt::format("files/x{}", -failure), key, Creator{}).ok());
    CHECK_FALSE(fs::exists(mark));
  }
  REQUIRE(tree.names().remove(nth(3)).ok());
  disk.names_file = 0;
  tree.reopen();
  CHECK(comes_true([&] { return fs::exists(mark); }));
  check_rebuilt(tree);
}

TEST_CASE("names: a names file that is not to be trusted costs what it does not tell, no more") {
  TreeFixture tree;
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  const page::ObjectKey other = tree.put("other", "files/other").key;
  bind_all(tree, key, 1, 100);
  bind_all(tree, other, 100, 200);
  lose_catalog(tree);
  const fs::path file = names_file_of(tree, key);
  const uint64_t size = fs::file_size(file);
  size_t lost = 100;
  SUBCASE("gone") { fs::remove(file); }
  SUBCASE("empty") { fs::resize_file(file, 0); }
  SUBCASE("garbage") { std::ofstream(file) << content_of(10'000, 1); }
  SUBCASE("no file") {
    fs::remove(file);
    fs::create_directory(file);
  }
  SUBCASE("another blob's") {
    fs::copy_file(names_file_of(tree, other), file, fs::copy_options::overwrite_existing);
  }
  SUBCASE("cut short") {
    fs::resize_file(file, size - 1);
    lost = 1;
  }
  SUBCASE("a byte has changed") {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(size - 3));
    stream.put('\0');
    lost = 1;
  }
  const Outcome outcome = rebuild(tree);
  REQUIRE(outcome.summary.ok());
  CHECK(outcome.summary->left_out == 0);
  CHECK(outcome.summary->names_lost == 1);
  CHECK(outcome.summary->names == 201 - lost);
  REQUIRE(outcome.lines.size() == 1);
  CHECK(outcome.lines[0].find("more names") != std::string::npos);
  tree.open();
  CHECK(tree.read(blob_path(key)) == "content");
}

TEST_CASE("names: a scrub makes a names file again that has rotted") {
  class Watcher final : public ScrubWatcher {
   public:
    bool may_read(uint64_t /*bytes*/) override { return true; }
    void on_begin(uint64_t /*blobs*/, uint64_t /*bytes*/) override {}
    void on_checked(const page::ScrubResult& /*result*/) override {}
    void on_damage(const DamagedObject& /*blob*/) override {}
  };
  TreeFixture tree;
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  bind_all(tree, key, 1, 100);
  std::fstream stream(names_file_of(tree, key), std::ios::in | std::ios::out | std::ios::binary);
  stream.seekp(1000);
  stream << "rot";
  stream.close();
  Watcher watcher;
  REQUIRE(tree.names().scrub(blob_path(key), watcher).ok());
  check_rebuilt(tree);
}

TEST_CASE("names: a store of an older version opens, is told anew, and rebuilds as before if not") {
  TreeFixture tree;
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  bind_all(tree, key, 1, 100);
  const Picture before = picture_of(tree);
  tree.close();
  // What it had of so many names.
  fs::remove(names_file_of(tree, key));
  fs::remove(tree.path() / "described");
  Description old{.key = key, .size_bytes = 7, .names = {}};
  for (size_t i = 0; i < 10; ++i) {
    old.names.push_back({nth(i), 0644, 0, 0, tree.clock().now()});
  }
  old.more_names = true;
  set_description(tree, key, format_description(old).value());
  SUBCASE("opened") {
    tree.open();
    CHECK(comes_true([&] { return fs::exists(tree.path() / "described"); }));
    CHECK(picture_of(tree) == before);
    check_rebuilt(tree);
  }
  SUBCASE("opened and changed") {
    tree.open();
    bind_all(tree, key, 100, 101);
    check_rebuilt(tree);
  }
  SUBCASE("rebuilt") {
    lose_catalog(tree);
    const Outcome outcome = rebuild(tree);
    REQUIRE(outcome.summary.ok());
    CHECK(outcome.summary->names == 10);
    CHECK(outcome.summary->names_lost == 1);
  }
}

TEST_CASE("names: a new copy that was killed while it took over the names file loses none") {
  TreeFixture tree;
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  bind_all(tree, key, 1, 100);
  const Picture before = picture_of(tree);
  lose_catalog(tree);
  const fs::path first = file_of(tree, key);
  const fs::path second =
      first.parent_path() / (key.hex() + "." + page::Incarnation::random().hex());
  fs::copy_file(first, second);
  const std::string elsewhere = format_names_elsewhere({.key = key, .size_bytes = 7, .names = {}});
  for (const fs::path& file : {first, second}) {
    REQUIRE(::setxattr(file.c_str(), kAttribute, elsewhere.data(), elsewhere.size(), 0) == 0);
  }
  SUBCASE("before") {}
  SUBCASE("after") { fs::rename(first.string() + ".names", second.string() + ".names"); }
  rebuild_whole(tree);
  tree.open();
  CHECK(picture_of(tree) == before);
}

TEST_CASE("names: the files of a damaged blob go aside and come back with its names") {
  TreeFixture tree;
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  bind_all(tree, key, 1, 100);
  const Picture before = picture_of(tree);
  lose_catalog(tree);
  const fs::path file = file_of(tree, key);
  std::ofstream(file) << "CONTENT";
  CHECK(rebuild(tree).summary->left_out == 1);
  CHECK(fs::exists(file.string() + ".names.damaged"));
  tree.open();
  lose_catalog(tree);
  std::ofstream(file.string() + ".damaged") << "content";
  rebuild_whole(tree);
  tree.open();
  CHECK(picture_of(tree) == before);
}

TEST_CASE("names: many at once, bound and removed, are told in the order of their commits") {
  TreeFixture tree;
  tree.put("content", "files/first");
  tree.put("other", "files/second");
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&tree, t] {
      const page::ObjectKey keys[] = {digest_of("content"), digest_of("other")};
      for (size_t i = 0; i < 60; ++i) {
        // Two threads for a name, so that they take it from each other.
        const std::string path = nth(i * 2 + t / 2);
        CHECK(tree.names().bind(path, keys[(i + t) % 2], Creator{}).ok());
        if (i % 3 == t % 2) (void)tree.names().remove(path);
        if (i % 16 == 0) tree.put("content", fmt::format("files/put{}", t));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  check_rebuilt(tree);
}

TEST_CASE("names: a kill between commit and names file is mended by the next start") {
  TreeFixture tree;
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  bind_all(tree, key, 1, 100);
  const fs::path file = names_file_of(tree, key);
  const uint64_t size = fs::file_size(file);
  uint64_t left = 0;
  SUBCASE("the line is not there") { left = size; }
  SUBCASE("half of it is there") { left = size + 20; }
  SUBCASE("nor is anything else") { left = 0; }
  bind_all(tree, key, 100, 101);
  close_as_killed(tree);
  fs::resize_file(file, left);
  const ino_t cut = inode_of(file);
  tree.open();
  CHECK(comes_true([&] { return inode_of(file) != cut; }));
  check_rebuilt(tree);
}

TEST_CASE("names: a pin is back, and so is that there is none, wherever the names are told") {
  NamesDisk disk;
  SUBCASE("in the attribute, which has no room for all names") {}
  SUBCASE("in the names file, as there are no attributes") { disk.attribute = -ENOTSUP; }
  TreeFixture tree(uint64_t{1} << 30, disk.hook());
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  bind_all(tree, key, 1, 100);
  tree.put("unnamed");
  const auto pinned = [&](std::string_view content) {
    return tree.names().resolve(blob_path(digest_of(content)))->pinned;
  };
  const ino_t file = inode_of(names_file_of(tree, key));
  disk.written = 0;
  REQUIRE(tree.names().pin(nth(50)).ok());
  REQUIRE(tree.names().pin(blob_path(digest_of("unnamed"))).ok());
  // A pin costs itself, and the names stay where they are.
  CHECK(inode_of(names_file_of(tree, key)) == file);
  CHECK(disk.written < 200);
  CHECK(description_of(tree, key).ends_with("\npinned\nmore names\n") == (disk.attribute == 0));
  check_rebuilt(tree);
  CHECK(pinned("content"));
  CHECK(pinned("unnamed"));
  // What is told anew, whole or of a new copy, tells it, too.
  tree.put("content", nth(100));
  tree.put("unnamed");
  bind_all(tree, key, 101, 2000);
  check_rebuilt(tree);
  CHECK(pinned("content"));
  CHECK(pinned("unnamed"));
  REQUIRE(tree.names().unpin(nth(7)).ok());
  REQUIRE(tree.names().unpin(blob_path(digest_of("unnamed"))).ok());
  check_rebuilt(tree);
  CHECK_FALSE(pinned("content"));
  CHECK_FALSE(pinned("unnamed"));
}

TEST_CASE("names: a pin that could not be told is told by the next start") {
  NamesDisk disk;
  SUBCASE("in the attribute") { disk.attribute = -EIO; }
  SUBCASE("in the names file") { disk.names_file = -ENOSPC; }
  const int attribute = disk.attribute.exchange(0);
  const int names_file = disk.names_file.exchange(0);
  TreeFixture tree(uint64_t{1} << 30, disk.hook());
  const page::ObjectKey key = tree.put("content", nth(0)).key;
  bind_all(tree, key, 1, 100);
  disk.attribute = attribute;
  disk.names_file = names_file;
  REQUIRE(tree.names().pin(blob_path(key)).ok());
  CHECK_FALSE(fs::exists(tree.path() / "described"));
  disk.attribute = 0;
  disk.names_file = 0;
  tree.reopen();
  CHECK(comes_true([&] { return fs::exists(tree.path() / "described"); }));
  check_rebuilt(tree);
  CHECK(tree.names().resolve(blob_path(key))->pinned);
}

}  // namespace blobcache::tree
