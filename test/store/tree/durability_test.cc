// Changes that are durable later: what a kill leaves, what a power cut may take, and what sync()
// is for.

#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "store/tree/impl/catalog.h"
#include "store/tree/impl/catalog_log.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/wal_check.h"
#include "store/tree/name_editor.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

absl::Status add_entry(CatalogWriter& catalog, std::string_view name) {
  FileRow row;
  row.kind = FileKind::kDirectory;
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t file, catalog.insert_file(row));
  return catalog.insert_entry(static_cast<int64_t>(kFilesNode), name, file);
}

class LateCatalog {
 public:
  absl::Status add(std::string_view name, Durability durability) {
    return catalog_->write([&](CatalogWriter& writer) { return add_entry(writer, name); }, [] {},
                           nullptr, durability);
  }
  Catalog& catalog() { return *catalog_; }
  /// Names in the catalog of which only the log's first `log_bytes` are left.
  std::vector<std::string> names_after_loss(uint64_t log_bytes) {
    const TemporaryDirectory copy;
    for (const char* name : {"catalog.sqlite", "catalog.sqlite-wal"}) {
      std::filesystem::copy_file(directory_.path() / name, copy.path() / name);
    }
    std::filesystem::resize_file(copy.path() / "catalog.sqlite-wal", log_bytes);
    const std::unique_ptr<Catalog> left =
        Catalog::open(copy.path() / "catalog.sqlite", copy.path() / "objects").value();
    std::vector<std::string> names;
    const std::vector<EntryRow> entries =
        left->read()->list_entries(static_cast<int64_t>(kFilesNode), 0, 1000).value();
    for (const EntryRow& entry : entries) {
      names.push_back(entry.name);
    }
    return names;
  }
  /// How the log looks when the byte at `offset` is another one.
  WalState state_with_damage_at(uint64_t offset) {
    const TemporaryDirectory copy;
    const std::filesystem::path log = copy.path() / "log";
    std::filesystem::copy_file(directory_.path() / "catalog.sqlite-wal", log);
    std::fstream stream(log, std::ios::binary | std::ios::in | std::ios::out);
    stream.seekg(static_cast<std::streamoff>(offset));
    const int byte = stream.get();
    stream.seekp(static_cast<std::streamoff>(offset));
    stream.put(static_cast<char>(byte ^ 1));
    stream.close();
    return inspect_wal(log, CatalogLog::read_mark(mark()));
  }
  [[nodiscard]] std::filesystem::path mark() const {
    return directory_.path() / "catalog.sqlite-synced";
  }
  [[nodiscard]] uint64_t log_bytes() const {
    return std::filesystem::file_size(directory_.path() / "catalog.sqlite-wal");
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<Catalog> catalog_ =
      Catalog::open(directory_.path() / "catalog.sqlite", directory_.path() / "objects").value();
};

TEST_CASE("durability: what is durable later survives a kill") {
  LateCatalog late;
  for (int i = 0; i < 20; ++i) REQUIRE(late.add(std::to_string(i), Durability::kLater).ok());
  CHECK(late.names_after_loss(late.log_bytes()).size() == 20);
}

TEST_CASE("durability: whatever is lost of the log, the changes that are left are the first ones") {
  LateCatalog late;
  for (int i = 0; i < 12; ++i) {
    const Durability durability = i % 4 == 3 ? Durability::kNow : Durability::kLater;
    REQUIRE(late.add(std::to_string(i), durability).ok());
  }
  const uint64_t all = late.log_bytes();
  size_t most = 0;
  for (uint64_t bytes = 0; bytes <= all; bytes += 1000) {
    const std::vector<std::string> names = late.names_after_loss(bytes);
    for (size_t i = 0; i < names.size(); ++i) CHECK(names[i] == std::to_string(i));
    CHECK(names.size() >= most);
    most = names.size();
  }
  CHECK(most >= 11);
}

TEST_CASE("durability: a log is damaged where it was synced, and may be torn behind that") {
  LateCatalog late;
  REQUIRE(late.add("durable", Durability::kNow).ok());
  const uint64_t synced = late.log_bytes();
  for (int i = 0; i < 5; ++i) REQUIRE(late.add(std::to_string(i), Durability::kLater).ok());
  const uint64_t all = late.log_bytes();
  REQUIRE(all > synced);
  for (uint64_t at = 100; at < all; at += 1000) {
    CHECK(late.state_with_damage_at(at) == (at < synced ? WalState::kDamaged : WalState::kWhole));
  }
  REQUIRE(late.catalog().sync().ok());
  for (uint64_t at = 100; at < all; at += 1000) {
    CHECK(late.state_with_damage_at(at) == WalState::kDamaged);
  }
  SUBCASE("a mark that a power cut emptied knows of nothing") {
    std::filesystem::resize_file(late.mark(), 0);
    CHECK(late.state_with_damage_at(100) == WalState::kWhole);
  }
  SUBCASE("without a mark what is followed by commits counts as synced") {
    std::filesystem::remove(late.mark());
    CHECK(late.state_with_damage_at(100) == WalState::kDamaged);
  }
}

TEST_CASE("durability: a change that changed nothing makes nothing durable") {
  LateCatalog late;
  REQUIRE(late.add("a", Durability::kNow).ok());
  const uint64_t synced = late.log_bytes();
  REQUIRE(late.add("b", Durability::kLater).ok());
  REQUIRE(late.catalog().write([](CatalogWriter&) { return absl::OkStatus(); }, [] {}).ok());
  CHECK(late.state_with_damage_at(synced + 100) == WalState::kWhole);
  REQUIRE(late.catalog().sync().ok());
  CHECK(late.state_with_damage_at(synced + 100) == WalState::kDamaged);
}

TEST_CASE("durability: sync is asked for by many at once, beside changes of both kinds") {
  LateCatalog late;
  constexpr int kThreads = 8;
  constexpr int kChanges = 40;
  std::atomic<bool> failed = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < kChanges; ++n) {
        const Durability durability = (n + i) % 10 == 0 ? Durability::kNow : Durability::kLater;
        const std::string name = std::to_string(i) + "." + std::to_string(n);
        if (!late.add(name, durability).ok()) failed = true;
        if (n % 5 == 0 && !late.catalog().sync().ok()) failed = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(failed);
  CHECK(late.catalog().sync().ok());
  CHECK(late.names_after_loss(late.log_bytes()).size() == size_t{kThreads * kChanges});
}

TEST_CASE("durability: a refused change is no change, however durable it was to be") {
  LateCatalog late;
  const absl::Status status = late.catalog().write(
      [](CatalogWriter& writer) -> absl::Status {
        REQUIRE(add_entry(writer, "a").ok());
        return absl::AbortedError("no");
      },
      [] {}, nullptr, Durability::kLater);
  CHECK(absl::IsAborted(status));
  CHECK(late.catalog().sync().ok());
  CHECK_FALSE(
      late.catalog().read()->find_entry(static_cast<int64_t>(kFilesNode), "a").value().has_value());
}

}  // namespace
}  // namespace blobcache::tree
