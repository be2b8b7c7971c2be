// Changes that share their transactions: none of them may harm another.

#include "store/tree/impl/write_queue.h"

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <thread>

#include "absl/synchronization/notification.h"
#include "store/tree/impl/catalog.h"
#include "store/tree/impl/node_ids.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

constexpr auto kFiles = static_cast<int64_t>(kFilesNode);

absl::Status make_directory(CatalogWriter& catalog, std::string_view name) {
  FileRow row;
  row.kind = FileKind::kDirectory;
  BLOBCACHE_ASSIGN_OR_RETURN(const int64_t file, catalog.insert_file(row));
  return catalog.insert_entry(kFiles, name, file);
}

bool is_there(Catalog& catalog, std::string_view name) {
  return catalog.read()->find_entry(kFiles, name).value().has_value();
}

struct CatalogFixture {
  TemporaryDirectory directory;
  std::unique_ptr<Catalog> catalog =
      Catalog::open(directory.path() / "catalog.sqlite", directory.path() / "objects").value();
};

/// An object that only has to be named.
class SealedObject final : public page::ObjectWriter {
 public:
  absl::Status append(absl::Span<const std::byte> /*bytes*/) override { return absl::OkStatus(); }
  [[nodiscard]] uint64_t size_bytes() const override { return 0; }
  absl::StatusOr<page::SealedObject> seal(const page::ObjectKey& /*key*/,
                                          const page::ObjectDescription& /*description*/) override {
    return page::SealedObject();
  }
  void keep() override {}
};

TEST_CASE("write queue: a refused change leaves nothing and is not called committed") {
  CatalogFixture fixture;
  int committed = 0;
  const absl::Status status = fixture.catalog->write(
      [](CatalogWriter& catalog) {
        REQUIRE(make_directory(catalog, "a").ok());
        return absl::PermissionDeniedError("no");
      },
      [&] { ++committed; });
  CHECK(absl::IsPermissionDenied(status));
  CHECK(committed == 0);
  CHECK_FALSE(is_there(*fixture.catalog, "a"));
  CHECK(fixture.catalog
            ->write([](CatalogWriter& catalog) { return make_directory(catalog, "a"); },
                    [&] { ++committed; })
            .ok());
  CHECK(committed == 1);
  CHECK(is_there(*fixture.catalog, "a"));
}

TEST_CASE(
    "write queue: what waits behind a change shares a transaction, and a refusal stays one's own") {
  CatalogFixture fixture;
  Catalog& catalog = *fixture.catalog;
  constexpr int kThreads = 20;
  absl::Notification first_is_in;
  std::atomic<int> waiting = 0;
  std::atomic<int> committed = 0;
  std::thread first([&] {
    // Holds the queue until all others wait behind it.
    const absl::Status status = catalog.write(
        [&](CatalogWriter&) {
          first_is_in.Notify();
          while (waiting.load() < kThreads) std::this_thread::yield();
          return absl::OkStatus();
        },
        [] {});
    CHECK(status.ok());
  });
  first_is_in.WaitForNotification();
  std::vector<absl::Status> results(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      ++waiting;
      results.at(static_cast<size_t>(i)) = catalog.write(
          [&](CatalogWriter& writer) -> absl::Status {
            BLOBCACHE_RETURN_IF_ERROR(make_directory(writer, std::to_string(i)));
            if (i % 4 == 0) return absl::AbortedError("refused");
            // The same name once more: an error of the database inside the savepoint.
            if (i % 4 == 1) return make_directory(writer, std::to_string(i));
            return absl::OkStatus();
          },
          [&] { ++committed; });
    });
  }
  first.join();
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kThreads; ++i) {
    INFO(i);
    const absl::Status& result = results.at(static_cast<size_t>(i));
    CHECK(result.ok() == (i % 4 >= 2));
    CHECK(absl::IsAborted(result) == (i % 4 == 0));
    CHECK(is_there(catalog, std::to_string(i)) == (i % 4 >= 2));
  }
  CHECK(committed == kThreads / 2);
}

TEST_CASE("write queue: an object whose sync failed is not synced again") {
  // As fsync(2) does: it tells of a write that failed once, and is fine from then on.
  CatalogFixture fixture;
  const std::unique_ptr<Database> database =
      Database::open(fixture.directory.path() / "catalog.sqlite", Database::Access::kReadWrite)
          .value();
  int syncs = 0;
  WriteQueue queue(*database, [&](absl::Span<page::ObjectWriter* const>) {
    return ++syncs == 1 ? absl::InternalError("the disk took it not") : absl::OkStatus();
  });
  SealedObject object;
  bool committed = false;
  const absl::Status status =
      queue.run([](CatalogWriter& catalog) { return make_directory(catalog, "a"); },
                [&] { committed = true; }, &object);
  CHECK_FALSE(status.ok());
  CHECK_FALSE(committed);
  CHECK(syncs == 1);
}

TEST_CASE("write queue: when a transaction fails as a whole each change gets its own answer") {
  CatalogFixture fixture;
  Catalog& catalog = *fixture.catalog;
  // A file that cannot grow fails like a full disk: with SQLITE_FULL, which undoes the whole
  // transaction.
  int64_t pages = 0;
  REQUIRE(catalog.write([&](CatalogWriter&) { return absl::OkStatus(); }, [] {}).ok());
  const std::unique_ptr<Database> database =
      Database::open(fixture.directory.path() / "catalog.sqlite", Database::Access::kReadWrite)
          .value();
  {
    Query query = database->query("PRAGMA page_count");
    REQUIRE(query.step().value());
    pages = query.integer(0);
  }
  REQUIRE(database->execute(("PRAGMA max_page_count = " + std::to_string(pages + 2)).c_str()).ok());
  WriteQueue queue(*database);

  absl::Notification first_is_in;
  std::atomic<int> waiting = 0;
  std::thread first([&] {
    const absl::Status status = queue.run(
        [&](CatalogWriter&) {
          first_is_in.Notify();
          while (waiting.load() < 2) std::this_thread::yield();
          return absl::OkStatus();
        },
        [] {});
    CHECK(status.ok());
  });
  first_is_in.WaitForNotification();
  absl::Status small;
  absl::Status large;
  std::thread small_thread([&] {
    ++waiting;
    small = queue.run([](CatalogWriter& writer) { return make_directory(writer, "small"); }, [] {});
  });
  std::thread large_thread([&] {
    ++waiting;
    large = queue.run(
        [](CatalogWriter& writer) -> absl::Status {
          for (int i = 0; i < 1000; ++i) {
            BLOBCACHE_RETURN_IF_ERROR(
                make_directory(writer, std::string(200, 'x') + std::to_string(i)));
          }
          return absl::OkStatus();
        },
        [] {});
  });
  first.join();
  small_thread.join();
  large_thread.join();
  CHECK(small.ok());
  CHECK(absl::IsResourceExhausted(large));
  CHECK(says(large, "catalog.sqlite"));
  CHECK(is_there(catalog, "small"));
  CHECK_FALSE(is_there(catalog, std::string(200, 'x') + "0"));
}

TEST_CASE(
    "write queue: objects are synced before their changes, together, and fail by themselves") {
  CatalogFixture fixture;
  const std::unique_ptr<Database> database =
      Database::open(fixture.directory.path() / "catalog.sqlite", Database::Access::kReadWrite)
          .value();
  std::array<SealedObject, 3> objects;
  std::vector<size_t> syncs;  // how many objects each call was given
  std::atomic<bool> synced = false;
  WriteQueue queue(*database, [&](absl::Span<page::ObjectWriter* const> sealed) -> absl::Status {
    syncs.push_back(sealed.size());
    for (const page::ObjectWriter* object : sealed) {
      if (object == &objects[1]) return absl::DataLossError("a bad disk");
    }
    synced = true;
    return absl::OkStatus();
  });
  absl::Notification first_is_in;
  std::atomic<int> waiting = 0;
  std::thread first([&] {
    const absl::Status status = queue.run(
        [&](CatalogWriter&) {
          first_is_in.Notify();
          while (waiting.load() < 3) std::this_thread::yield();
          return absl::OkStatus();
        },
        [] {});
    CHECK(status.ok());
  });
  first_is_in.WaitForNotification();
  std::array<absl::Status, 3> results;
  std::vector<std::thread> threads;
  for (size_t i = 0; i < objects.size(); ++i) {
    threads.emplace_back([&, i] {
      ++waiting;
      results[i] = queue.run(
          [&](CatalogWriter& writer) {
            CHECK(synced);
            return make_directory(writer, std::to_string(i));
          },
          [] {}, &objects[i]);
    });
  }
  first.join();
  for (std::thread& thread : threads) thread.join();
  CHECK(results[0].ok());
  CHECK(absl::IsDataLoss(results[1]));
  CHECK(results[2].ok());
  CHECK(is_there(*fixture.catalog, "0"));
  CHECK_FALSE(is_there(*fixture.catalog, "1"));
  CHECK(is_there(*fixture.catalog, "2"));
  REQUIRE_FALSE(syncs.empty());
  // However they met: never more calls than one for all and one each.
  CHECK(syncs.size() <= 5);
}

TEST_CASE("write queue: committed is called in order, before the next transaction begins") {
  CatalogFixture fixture;
  constexpr int kThreads = 8;
  constexpr int kChanges = 50;
  std::atomic<int> open_effects = 0;
  std::atomic<bool> overlap = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < kChanges; ++n) {
        const std::string name = std::to_string(i) + "." + std::to_string(n);
        const absl::Status status = fixture.catalog->write(
            [&](CatalogWriter& catalog) {
              if (open_effects.load() != 0) overlap = true;
              return make_directory(catalog, name);
            },
            [&] {
              ++open_effects;
              std::this_thread::yield();
              --open_effects;
            });
        if (!status.ok()) overlap = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_FALSE(overlap);
  CHECK(fixture.catalog->read()->list_entries(kFiles, 0, 10000).value().size() ==
        kThreads * kChanges);
}

}  // namespace
}  // namespace blobcache::tree
