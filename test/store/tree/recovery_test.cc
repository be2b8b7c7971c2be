// What a restart finds: after a clean stop, after a kill at any moment, and in a store that cannot
// be opened.

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <set>

#include "absl/time/clock.h"
#include "store/tree/impl/sqlite.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

absl::Status open_error(const std::filesystem::path& path, page::PageStore& store) {
  NamespaceOptions options;
  options.path = path;
  return Namespace::open(options, store).status();
}

TEST_CASE("recovery: a clean restart changes nothing") {
  TreeFixture tree;
  const std::string content = content_of(3 << 20, 1);
  const CommittedBlob blob = tree.put(content, "files/a/b");
  const Node before = tree.names().resolve("files/a/b").value();
  const uint64_t used = tree.store().stats().disk_used_bytes;
  tree.reopen();
  const Node after = tree.names().resolve("files/a/b").value();
  CHECK(after.id == before.id);
  CHECK(after.modified == before.modified);
  CHECK(after.digest == blob.key);
  CHECK(tree.read("files/a/b") == content);
  CHECK(tree.store().stats().disk_used_bytes == used);
}

TEST_CASE("recovery: a second namespace on the same store is refused and names who holds it") {
  TreeFixture tree;
  tree.put("content", "files/a");
  const absl::Status status = open_error(tree.path(), tree.store());
  CHECK(absl::IsUnavailable(status));
  CHECK(says(status, tree.path().string()));
  CHECK(says(status, "process " + std::to_string(::getpid())));
  CHECK(tree.read("files/a") == "content");
  tree.close();
  tree.open();  // the lock went with its holder
}

TEST_CASE("recovery: a lock that was taken before is used, and taken once") {
  TreeFixture tree;
  tree.close();
  NamespaceOptions options = tree.namespace_options();
  options.lock = StoreLock::acquire(tree.path()).value();
  CHECK(absl::IsUnavailable(StoreLock::acquire(tree.path()).status()));
  page::PageStoreOptions page_options;
  page_options.path = tree.path();
  page_options.memory_bytes = uint64_t{16} << 20;
  const std::unique_ptr<page::PageStore> store = page::PageStore::open(page_options).value();
  {
    const auto names = Namespace::open(options, *store);
    REQUIRE(names.ok());
    options.lock = nullptr;
    CHECK(absl::IsUnavailable(StoreLock::acquire(tree.path()).status()));
  }
  CHECK(StoreLock::acquire(tree.path()).ok());
}

TEST_CASE("recovery: a store that is no directory, is missing or cannot be written") {
  TreeFixture tree;
  const std::filesystem::path file = tree.path() / "file";
  std::ofstream(file) << "content";
  const absl::Status no_directory = open_error(file, tree.store());
  CHECK(absl::IsFailedPrecondition(no_directory));
  CHECK(says(no_directory, file.string()));
  const absl::Status missing = open_error(tree.path() / "missing", tree.store());
  CHECK(absl::IsNotFound(missing));
  CHECK(says(missing, "missing"));
  // Root writes anywhere on a real disk; /proc takes nobody's files.
  const absl::Status unwritable = open_error("/proc/self/task", tree.store());
  CHECK_FALSE(unwritable.ok());
  CHECK(says(unwritable, "/proc/self/task cannot hold a store"));
  const absl::Status unmakeable = open_error("/proc", tree.store());
  CHECK(says(unmakeable, "/proc cannot hold a store: its file system lets no files be made"));
}

/// Files are removed in the background: waits until as many are left.
bool settles_at(const TreeFixture& tree, size_t files) {
  for (int i = 0; i < 1000; ++i) {
    if (tree.files_on_disk() == files) return true;
    absl::SleepFor(absl::Milliseconds(10));
  }
  return false;
}

TEST_CASE(
    "recovery: a stop between the files and the catalog leaves orphans, and the next start none") {
  TreeFixture tree;
  tree.put("content", "files/a");
  const uint64_t used = tree.store().stats().disk_used_bytes;
  {
    // What a kill leaves: sealed files that no row knows. keep() alone makes the writer leave them.
    auto writer = tree.store().create(page::Retention::kKept, 0).value();
    REQUIRE(writer->append(bytes_of(content_of(2 << 20, 5))).ok());
    REQUIRE(writer->seal(digest_of(content_of(2 << 20, 5)), {}).ok());
    writer->keep();
  }
  REQUIRE(tree.files_on_disk() == 3);
  tree.reopen();
  CHECK(settles_at(tree, 1));
  CHECK(tree.store().stats().disk_used_bytes == used);
  CHECK(tree.read("files/a") == "content");
  CHECK(tree.list("blobs").size() == 1);
}

/// Puts until it is killed, and says on `out` what was answered.
[[noreturn]] void put_until_killed(const std::filesystem::path& path, int out) {
  page::PageStoreOptions page_options;
  page_options.path = path;
  page_options.memory_bytes = uint64_t{16} << 20;
  auto store = page::PageStore::open(page_options);
  if (!store.ok()) ::_exit(1);
  NamespaceOptions options;
  options.path = path;
  auto names = Namespace::open(options, **store);
  if (!names.ok()) ::_exit(2);
  const auto seed = static_cast<uint32_t>(::getpid());
  for (uint32_t i = 0;; ++i) {
    // Sizes on both sides of the inline map; every other name replaces an older one.
    const std::string content = content_of(i % 3 == 0 ? (1 << 20) + 5 : 3000, seed + i);
    const std::string name = "files/d" + std::to_string(i % 7) + "/" + std::to_string(i / 2);
    auto writer = (*names)->put(name, {}, 0);
    if (!writer.ok() || !(*writer)->append(bytes_of(content)).ok()) ::_exit(3);
    const auto blob = (*writer)->commit();
    if (!blob.ok()) ::_exit(4);
    const std::string line = blob->key.hex() + "\n";
    if (::write(out, line.data(), line.size()) != static_cast<ssize_t>(line.size())) ::_exit(5);
  }
}

/// Starts a child, kills it after `answers` answers and a moment of `pause`; returns what it
/// answered.
std::vector<std::string> run_and_kill(const std::filesystem::path& path, size_t answers,
                                      absl::Duration pause) {
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) put_until_killed(path, pipe[1]);
  ::close(pipe[1]);
  std::string text;
  std::array<char, 4096> piece{};
  bool killed = false;
  for (;;) {
    const ssize_t length = ::read(pipe[0], piece.data(), piece.size());
    if (length <= 0) break;
    text.append(piece.data(), static_cast<size_t>(length));
    if (!killed && text.size() / 65 >= answers) {
      absl::SleepFor(pause);  // so that each round's kill falls into another step
      ::kill(child, SIGKILL);
      killed = true;
    }
  }
  ::close(pipe[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE(WIFSIGNALED(status));
  std::vector<std::string> keys;
  for (size_t at = 0; at + 65 <= text.size(); at += 65) keys.push_back(text.substr(at, 64));
  return keys;
}

TEST_CASE("recovery: a file whose blob the catalog has lost is data loss, and can be replaced") {
  for (const char* blob : {"NULL", "999"}) {
    INFO(blob);
    TreeFixture tree;
    tree.put("content", "files/d/a");
    tree.put("others", "files/d/b");
    tree.close();
    {
      const std::unique_ptr<Database> database =
          Database::open(tree.path() / "catalog.sqlite", Database::Access::kReadWrite).value();
      const std::string change = fmt::format(
          "UPDATE file SET blob = {} WHERE id = (SELECT file FROM dentry WHERE name = x'61')",
          blob);
      REQUIRE(database->execute(change.c_str()).ok());
    }
    tree.open();
    const absl::Status status = tree.try_read("files/d/a").status();
    CHECK(absl::IsDataLoss(status));
    CHECK(says(status, "its content is unknown: the catalog is damaged"));
    const Node node = tree.names().resolve("files/d/a").value();
    CHECK(node.type == NodeType::kFile);
    CHECK_FALSE(node.digest.has_value());
    // A directory is still told to be one, and the neighbour is whole.
    const NodeId directory = tree.names().resolve("files/d").value().id;
    CHECK(absl::IsFailedPrecondition(tree.names().open(directory).status()));
    CHECK(tree.list("files/d") == std::vector<std::string>{"a", "b"});
    CHECK(tree.read("files/d/b") == "others");
    tree.put("content", "files/d/a");
    CHECK(tree.read("files/d/a") == "content");
    CHECK(tree.names().remove("files/d/a").ok());
  }
}

TEST_CASE(
    "recovery: a size in the catalog that cannot be is data loss, never a crash or an empty file") {
  for (const char* size : {"-5", "0", "1125899906842625", "4611686018427387904", "999", "1001"}) {
    INFO(size);
    TreeFixture tree;
    const std::string content = content_of(1000, 1);
    tree.put(content, "files/a");
    tree.put("", "files/empty");
    tree.close();
    {
      const std::unique_ptr<Database> database =
          Database::open(tree.path() / "catalog.sqlite", Database::Access::kReadWrite).value();
      const std::string change = fmt::format(
          "UPDATE blob SET size_bytes = {}, disk_bytes = -1 WHERE size_bytes = 1000", size);
      REQUIRE(database->execute(change.c_str()).ok());
    }
    tree.open();
    CHECK(absl::IsDataLoss(tree.try_read("files/a").status()));
    CHECK(tree.read("files/empty").empty());
    // The bytes put again make it whole.
    tree.put(content, "files/a");
    CHECK(tree.read("files/a") == content);
  }
}

TEST_CASE("recovery: after a kill nothing that was answered is lost and nothing is half visible") {
  TreeFixture tree;
  std::set<std::string> answered;
  for (int round = 0; round < 6; ++round) {
    tree.close();
    const std::vector<std::string> keys = run_and_kill(
        tree.path(), 5 + 3 * static_cast<size_t>(round), absl::Microseconds(700 * round));
    answered.insert(keys.begin(), keys.end());
    tree.open();
    const std::vector<std::string> blobs = tree.list("blobs", 100);
    const std::set<std::string> here(blobs.begin(), blobs.end());
    for (const std::string& key : answered) CHECK(here.count(key) == 1);
    size_t files = 0;
    for (const std::string& hex : blobs) {
      const std::string content = tree.read("blobs/" + hex);
      CHECK(digest_of(content).hex() == hex);
      files += content.size() > (1 << 20) ? 2 : 1;
    }
    CHECK(settles_at(tree, files));
    // The accounts hold what the disk holds: whole pages of every blob.
    uint64_t used = 0;
    for (const std::string& hex : blobs) {
      const uint64_t size = tree.names().resolve("blobs/" + hex).value().size_bytes;
      used += (size + 4095) / 4096 * 4096;
    }
    CHECK(tree.store().stats().disk_used_bytes >= used);
    CHECK(tree.store().stats().disk_used_bytes <= used + blobs.size() * 8192);
    CHECK(tree.names().counts().value().blobs == blobs.size());
  }
}

TEST_CASE("recovery: a store that is handed over stays locked, and knows how it was left") {
  const TemporaryDirectory directory;
  base::ParcelWriter writer;
  {
    const std::shared_ptr<StoreLock> lock = StoreLock::acquire(directory.path()).value();
    REQUIRE(lock->hand_over(writer).ok());
  }
  base::Parcel parcel = std::move(writer).take();
  CHECK(absl::IsUnavailable(StoreLock::acquire(directory.path()).status()));
  {
    base::ParcelReader reader(parcel);
    const auto taken = StoreLock::take_over(reader);
    REQUIRE(taken.ok());
    CHECK((*taken)->ended_cleanly());
    // Another one comes before this one has ended.
    base::ParcelReader again(parcel);
    const auto second = StoreLock::take_over(again);
    REQUIRE(second.ok());
    CHECK_FALSE((*second)->ended_cleanly());
  }
  CHECK(absl::IsUnavailable(StoreLock::acquire(directory.path()).status()));
  parcel = base::Parcel();
  CHECK(StoreLock::acquire(directory.path()).ok());
}

}  // namespace
}  // namespace blobcache::tree
