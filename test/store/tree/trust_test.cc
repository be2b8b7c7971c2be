// What a store does with a catalog that tells less than it should: it keeps what it does not know.

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>

#include "store/tree/impl/wal_check.h"
#include "test/store/tree/rebuild_fixture.h"

namespace blobcache::tree {
namespace {

std::string content_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

/// The catalog as a kill leaves it: copied while it is open.
class Killed {
 public:
  explicit Killed(TreeFixture& tree) : tree_(tree) {
    for (const char* name : {"catalog.sqlite", "catalog.sqlite-wal", "lock"}) {
      files_[name] = content_of_file(tree.path() / name);
    }
    tree.close();
  }
  std::string& log() { return files_["catalog.sqlite-wal"]; }
  void open() {
    for (const auto& [name, content] : files_) write_file(tree_.path() / name, content);
    if (log().empty()) std::filesystem::remove(tree_.path() / "catalog.sqlite-wal");
    tree_.open();
  }

 private:
  TreeFixture& tree_;
  std::map<std::string, std::string> files_;
};

class DebrisWatcher final : public GarbageWatcher {
 public:
  bool wants_more() override { return true; }
  void on_garbage(const Garbage& /*garbage*/) override { ++count; }
  int count = 0;
};

/// Nothing is taken for garbage, and a rebuild has all of it back.
void check_kept(TreeFixture& tree, const Picture& before, size_t files) {
  DebrisWatcher watcher;
  const absl::Status status = tree.names().collect_garbage({}, watcher);
  CHECK(absl::IsDataLoss(status));
  CHECK(says(status, "--rebuild"));
  CHECK(watcher.count == 0);
  CHECK(tree.files_on_disk() == files);
  lose_catalog(tree);
  RebuildOptions options;
  options.path = tree.path();
  options.report = [](std::string_view) {};
  REQUIRE(rebuild_catalog(options).ok());
  tree.open();
  CHECK(picture_of(tree) == before);
}

}  // namespace

TEST_CASE("trust: after a kill the log is read, and what it does not know is garbage") {
  TreeFixture tree;
  for (int i = 0; i < 5; ++i) tree.put(std::to_string(i), "files/" + std::to_string(i));
  const Picture before = picture_of(tree);
  CHECK(inspect_wal(tree.path() / "catalog.sqlite-wal") == WalState::kWhole);
  Killed killed(tree);
  write_file(tree.path() / "objects" / "00" / (std::string(64, '0') + "." + std::string(32, '0')),
             "an orphan");
  killed.open();
  CHECK(picture_of(tree) == before);
  DebrisWatcher watcher;
  REQUIRE(tree.names().collect_garbage({}, watcher).ok());
  CHECK(tree.files_on_disk() == 5);
}

TEST_CASE("trust: a log that is gone or damaged after a kill costs no blob") {
  TreeFixture tree;
  tree.put("of an earlier life", "files/old");
  tree.reopen();
  for (int i = 0; i < 20; ++i) tree.put(std::to_string(i), "files/" + std::to_string(i));
  const Picture before = picture_of(tree);
  Killed killed(tree);
  SUBCASE("gone") { killed.log().clear(); }
  SUBCASE("a byte of its first frame") { killed.log().at(100) ^= 1; }
  SUBCASE("a byte of its header") { killed.log().at(9) ^= 1; }
  killed.open();
  check_kept(tree, before, 21);
}

TEST_CASE("trust: a damaged index costs no blob") {
  TreeFixture tree;
  for (int i = 0; i < 20; ++i) tree.put(std::to_string(i), "files/" + std::to_string(i));
  const Picture before = picture_of(tree);
  const page::ObjectKey key = tree.names().resolve("files/7")->digest.value();
  tree.close();
  const std::filesystem::path catalog = tree.path() / "catalog.sqlite";
  std::string bytes = content_of_file(catalog);
  const std::string_view wanted(reinterpret_cast<const char*>(key.bytes.data()), key.bytes.size());
  constexpr size_t kPage = 4096;
  constexpr char kIndexLeaf = 0x0a;
  size_t flipped = 0;
  for (size_t at = bytes.find(wanted); at != std::string::npos; at = bytes.find(wanted, at + 1)) {
    if (bytes[at / kPage * kPage] != kIndexLeaf) continue;
    bytes[at + 31] ^= 1;
    ++flipped;
  }
  REQUIRE(flipped == 1);
  write_file(catalog, bytes);
  tree.open();
  check_kept(tree, before, 20);
}

TEST_CASE("trust: a torn end of a log is what a kill leaves") {
  const TemporaryDirectory directory;
  const std::filesystem::path wal = directory.path() / "wal";
  CHECK(inspect_wal(wal) == WalState::kAbsent);
  write_file(wal, "");
  CHECK(inspect_wal(wal) == WalState::kWhole);
  write_file(wal, std::string(200, 'x'));
  CHECK(inspect_wal(wal) == WalState::kDamaged);
  TreeFixture tree;
  for (int i = 0; i < 5; ++i) tree.put(std::to_string(i), "files/" + std::to_string(i));
  const std::string log = content_of_file(tree.path() / "catalog.sqlite-wal");
  REQUIRE(log.size() > 10'000);
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{100}, size_t{4119}, size_t{5000}}) {
    write_file(wal, log.substr(0, log.size() - cut));
    CHECK(inspect_wal(wal) == WalState::kWhole);
  }
  std::string torn = log;
  torn.at(torn.size() - 10) ^= 1;
  write_file(wal, torn);
  // The last frame commits, so it may have been answered.
  CHECK(inspect_wal(wal) == WalState::kDamaged);
}

}  // namespace blobcache::tree
