// Importing and warming, over a real store and tree and an origin that does as it is told.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "server/import_runner.h"
#include "server/object_stream.h"
#include "server/warm_runner.h"
#include "store/page/page_store.h"
#include "store/tree/digest.h"
#include "store/tree/namespace.h"
#include "test/store/tree/fake_origin.h"
#include "test/temporary_directory.h"

namespace blobcache::server {
namespace {

constexpr uint64_t kMib = uint64_t{1} << 20;

/// Text that differs everywhere.
std::string content_of(size_t bytes, uint64_t seed) {
  std::string content(bytes, '\0');
  uint64_t state = seed * 0x9E3779B97F4A7C15U + 1;
  for (char& c : content) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    c = static_cast<char>(state >> 56);
  }
  return content;
}

page::ObjectKey digest_of(std::string_view content) {
  tree::Sha256 hash;
  hash.update({reinterpret_cast<const std::byte*>(content.data()), content.size()});
  return hash.finish();
}

/// An origin "up", a store and a tree.
struct TransferWorld {
  explicit TransferWorld(uint64_t disk_bytes = uint64_t{1} << 30) {
    page::PageStoreOptions options;
    options.path = folder.path();
    options.memory_bytes = 8 * page::PageStore::kMinMemory;
    options.disk_bytes = disk_bytes;
    pages = page::PageStore::open(options).value();
    tree::NamespaceOptions tree;
    tree.path = folder.path();
    tree.origins = {origin};
    names = tree::Namespace::open(tree, *pages).value();
    imports = std::make_unique<ImportRunner>(*names, options.memory_bytes);
    warmer = std::make_unique<WarmRunner>(*names, *pages);
  }
  [[nodiscard]] absl::StatusOr<tree::CommittedBlob> import(const ImportWish& wish) const {
    return imports->run(wish, [](uint64_t, uint64_t) { return true; });
  }
  [[nodiscard]] absl::StatusOr<Warmed> warm(const WarmWish& wish) const {
    return warmer->run(wish, [](uint64_t, uint64_t) { return true; });
  }
  [[nodiscard]] std::string bytes_of(const std::string& path) const {
    const page::ObjectRef object = names->open(names->resolve(path).value().id).value();
    std::string bytes;
    const auto take = [&](absl::Span<const std::byte> part) {
      bytes.append(reinterpret_cast<const char*>(part.data()), part.size());
      return absl::OkStatus();
    };
    const absl::Status status =
        stream_object(*object, {0, object->size_bytes(), 4}, take, [] { return true; });
    CHECK(status.ok());
    return bytes;
  }
  [[nodiscard]] uint64_t blobs() const { return names->counts().value().blobs; }

  test::TemporaryDirectory folder;
  std::shared_ptr<tree::FakeOrigin> origin = std::make_shared<tree::FakeOrigin>("up");
  std::unique_ptr<page::PageStore> pages;
  std::unique_ptr<tree::Namespace> names;
  std::unique_ptr<ImportRunner> imports;
  std::unique_ptr<WarmRunner> warmer;
};

TEST_CASE("import: a file becomes a blob, under a name or none") {
  const TransferWorld world;
  const std::string content = content_of(5 * kMib + 321, 1);
  world.origin->put("a/x", content);
  const auto blob = world.import({"origins/up/a/x", "files/images/x", std::nullopt});
  REQUIRE_MESSAGE(blob.ok(), blob.status().ToString());
  CHECK(blob->key == digest_of(content));
  CHECK(blob->size_bytes == content.size());
  CHECK_FALSE(blob->existed);
  CHECK(world.bytes_of("files/images/x") == content);
  CHECK(world.names->resolve("files/images/x").value().digest == blob->key);
  const auto again = world.import({"origins/up/a/x", "", digest_of(content)});
  REQUIRE(again.ok());
  CHECK(again->existed);
  // What was brought is here: nobody asks the origin twice.
  CHECK(world.origin->fetched_bytes == content.size());
  world.origin->put("empty", "");
  CHECK(world.import({"origins/up/empty", "", std::nullopt}).value().key == digest_of(""));
}

TEST_CASE("import: what does not match its digest, or is no file of an origin, leaves nothing") {
  const TransferWorld world;
  world.origin->put("x", content_of(2 * kMib, 1));
  world.origin->put("a/x", "y");
  world.origin->put_image("image", "i");
  world.origin->put_link("link", "x");
  const auto code = [&](const ImportWish& wish) { return world.import(wish).status().code(); };
  CHECK(code({"origins/up/x", "files/x", digest_of("other")}) == absl::StatusCode::kDataLoss);
  CHECK(code({"origins/up/none", "", {}}) == absl::StatusCode::kNotFound);
  CHECK(code({"origins/none/x", "", {}}) == absl::StatusCode::kNotFound);
  for (const char* path : {"origins/up/a", "origins/up/image", "origins/up/link", "origins/up",
                           "files/x", "origins", ""}) {
    CAPTURE(path);
    CHECK(code({path, "", {}}) == absl::StatusCode::kFailedPrecondition);
  }
  CHECK_FALSE(world.import({"origins/up/x", "blobs/x", {}}).ok());
  world.origin->set_error(absl::UnavailableError("away"));
  CHECK(code({"origins/up/x", "", {}}) == absl::StatusCode::kUnavailable);
  CHECK(world.blobs() == 0);
  CHECK(absl::IsNotFound(world.names->resolve("files/x").status()));
  CHECK(world.origin->sessions == 0);
}

/// Sources of it wait until they may go on.
class SlowOrigin final : public tree::Origin, public page::Source {
 public:
  explicit SlowOrigin(std::string content) : content_(std::move(content)) {}

  const std::string& name() const override { return name_; }
  std::string description() const override { return "slow"; }
  std::string type() const override { return "slow"; }
  std::string url_of(std::string_view) override { return "slow:"; }
  absl::StatusOr<tree::OriginEntry> look_up(std::string_view path) override {
    tree::OriginEntry entry;
    entry.name = std::string(path);
    entry.size_bytes = content_.size();
    entry.version = key_;
    return entry;
  }
  absl::StatusOr<std::vector<tree::OriginEntry>> list(std::string_view) override {
    return absl::UnimplementedError("no");
  }
  absl::StatusOr<tree::OriginFile> open(std::string_view) override {
    tree::OriginFile file;
    // It lives as long as the test.
    file.version = {key_, content_.size(), std::shared_ptr<page::Source>(this, [](auto*) {})};
    file.lasting = true;
    return file;
  }
  tree::OriginHealth health() const override { return {}; }

  std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                               FetchDone done) override {
    const auto wish = std::make_shared<Wish>(offset, into, std::move(done));
    {
      const absl::MutexLock lock(&mutex_);
      waiting_.push_back(wish);
      ++fetches_;
    }
    return std::make_unique<Handle>(wish);
  }
  void wait_fetches(size_t count) {
    const auto are_there = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return fetches_ >= count; };
    const absl::MutexLock lock(&mutex_);
    REQUIRE(mutex_.AwaitWithTimeout(absl::Condition(&are_there), absl::Seconds(60)));
  }
  /// Answers what waits, the last one first, until `over`.
  void answer_until(const std::function<bool()>& over) {
    while (!over()) {
      std::shared_ptr<Wish> wish;
      {
        const absl::MutexLock lock(&mutex_);
        if (waiting_.empty()) continue;
        wish = std::move(waiting_.back());
        waiting_.pop_back();
      }
      // One that was cancelled has no memory any more.
      if (wish->over.exchange(true)) continue;
      std::memcpy(wish->into.data(), content_.data() + wish->offset, wish->into.size());
      bytes += wish->into.size();
      wish->done(absl::OkStatus());
    }
  }
  std::atomic<uint64_t> bytes = 0;

 private:
  struct Wish {
    Wish(uint64_t at, absl::Span<std::byte> place, FetchDone call)
        : offset(at), into(place), done(std::move(call)) {}
    const uint64_t offset;
    const absl::Span<std::byte> into;
    FetchDone done;
    std::atomic<bool> over = false;
  };
  struct Handle final : Fetch {
    explicit Handle(std::shared_ptr<Wish> wished) : wish(std::move(wished)) {}
    void cancel() override {
      if (wish->over.exchange(true)) return;
      // What it holds must not wait for whoever still has the wish.
      FetchDone done = std::move(wish->done);
      done(absl::CancelledError("cancelled"));
    }
    const std::shared_ptr<Wish> wish;
  };

  const std::string name_ = "slow";
  const std::string content_;
  const page::ObjectKey key_ = digest_of("the key of it");
  absl::Mutex mutex_;
  std::vector<std::shared_ptr<Wish>> waiting_ ABSL_GUARDED_BY(mutex_);
  size_t fetches_ ABSL_GUARDED_BY(mutex_) = 0;
};

/// A slow origin, and imports and warmings of its one file.
struct SlowWorld {
  SlowWorld() {
    page::PageStoreOptions options;
    options.path = folder.path();
    options.memory_bytes = 8 * page::PageStore::kMinMemory;
    options.disk_bytes = uint64_t{1} << 30;
    pages = page::PageStore::open(options).value();
    tree::NamespaceOptions tree;
    tree.path = folder.path();
    tree.origins = {origin};
    names = tree::Namespace::open(tree, *pages).value();
    imports = std::make_unique<ImportRunner>(*names, options.memory_bytes);
    warmer = std::make_unique<WarmRunner>(*names, *pages);
  }
  const std::string content = content_of(20 * kMib, 7);
  test::TemporaryDirectory folder;
  std::shared_ptr<SlowOrigin> origin = std::make_shared<SlowOrigin>(content);
  std::unique_ptr<page::PageStore> pages;
  std::unique_ptr<tree::Namespace> names;
  std::unique_ptr<ImportRunner> imports;
  std::unique_ptr<WarmRunner> warmer;
};

TEST_CASE("import: several stretches side by side, in any order, and two wishes are one transfer") {
  const SlowWorld world;
  std::atomic<int> over = 0;
  std::vector<absl::StatusOr<tree::CommittedBlob>> results(
      3, absl::StatusOr<tree::CommittedBlob>(absl::UnknownError("")));
  std::atomic<uint64_t> farthest = 0;
  const auto run = [&](size_t which, const ImportWish& wish) {
    results[which] = world.imports->run(wish, [&](uint64_t done, uint64_t total) {
      farthest = std::max(farthest.load(), done);
      return total == world.content.size();
    });
    ++over;
  };
  std::thread first([&] { run(0, {"origins/slow/x", "files/a", std::nullopt}); });
  // Of what is asked for side by side the first is not there.
  world.origin->wait_fetches(2);
  std::thread second([&] { run(1, {"origins/slow/x", "files/a", std::nullopt}); });
  std::thread third([&] { run(2, {"origins/slow/x", "files/b", digest_of(world.content)}); });
  world.origin->answer_until([&] { return over == 3; });
  first.join();
  second.join();
  third.join();
  for (const auto& result : results) {
    REQUIRE_MESSAGE(result.ok(), result.status().ToString());
    CHECK(result->key == digest_of(world.content));
  }
  // Were the first two not one, the later of them would have found the blob here.
  CHECK((results[0]->existed == results[1]->existed));
  CHECK(world.origin->bytes == world.content.size());
  CHECK(world.names->resolve("files/a").value().digest == digest_of(world.content));
  CHECK(world.names->resolve("files/b").value().digest == digest_of(world.content));
}

TEST_CASE("import: who goes ends it, if nobody else waits, and nothing is left") {
  const SlowWorld world;
  std::atomic<bool> wanted = true;
  std::atomic<int> over = 0;
  absl::Status gone;
  absl::Status stayed;
  const ImportWish wish{"origins/slow/x", "files/a", std::nullopt};
  std::thread first([&] {
    gone = world.imports->run(wish, [&](uint64_t, uint64_t) { return wanted.load(); }).status();
    ++over;
  });
  world.origin->wait_fetches(1);
  SUBCASE("the only one") {
    wanted = false;
    first.join();
    CHECK(absl::IsCancelled(gone));
    CHECK(world.names->counts().value().blobs == 0);
    CHECK_FALSE(world.names->resolve("files/a").ok());
    return;
  }
  SUBCASE("one of two") {
    absl::Notification joined;
    std::thread second([&] {
      stayed = world.imports
                   ->run(wish,
                         [&](uint64_t, uint64_t) {
                           if (!joined.HasBeenNotified()) joined.Notify();
                           return true;
                         })
                   .status();
      ++over;
    });
    joined.WaitForNotification();
    wanted = false;
    first.join();
    CHECK(absl::IsCancelled(gone));
    world.origin->answer_until([&] { return over == 2; });
    second.join();
    CHECK(stayed.ok());
    CHECK(world.names->resolve("files/a").value().digest == digest_of(world.content));
    return;
  }
  SUBCASE("the daemon stops") {
    world.imports->stop();
    first.join();
    CHECK(absl::IsUnavailable(gone));
    CHECK(absl::IsUnavailable(
        world.imports->run(wish, [](uint64_t, uint64_t) { return true; }).status()));
    CHECK(world.names->counts().value().blobs == 0);
  }
}

TEST_CASE("warm: what the disk has not is fetched to it, and no more") {
  const TransferWorld world;
  const std::string content = content_of(5 * kMib + 321, 1);
  world.origin->put("x", content);
  CHECK(world.warm({"origins/up/x", kMib, kMib}).value().fetched == kMib);
  CHECK(world.origin->fetched_bytes == kMib);
  const Warmed whole = world.warm({"origins/up/x", 0, 0}).value();
  CHECK(whole.length == content.size());
  CHECK(whole.fetched == content.size() - kMib);
  CHECK(world.warm({"origins/up/x", 4 * kMib, 100 * kMib}).value().length == kMib + 321);
  CHECK(world.origin->fetched_bytes == content.size());
  {
    const page::ObjectRef object =
        world.names->open(world.names->resolve("origins/up/x").value().id).value();
    const page::Residency residency = object->residency().value();
    CHECK(residency.disk_pages == residency.pages);
  }
  world.origin->set_error(absl::OkStatus());
  CHECK(world.bytes_of("origins/up/x") == content);
  CHECK(world.origin->fetched_bytes == content.size());
}

TEST_CASE("warm: what cannot be is said") {
  const TransferWorld world;
  world.origin->put("x", "text");
  world.origin->put("fleeting", "text", /*lasting=*/false);
  world.origin->put("a/y", "text");
  world.origin->put_image("image", "i");
  const auto code = [&](const WarmWish& wish) {
    const absl::StatusCode waited = world.warm(wish).status().code();
    CHECK(world.warmer->begin(wish).code() == waited);
    return waited;
  };
  CHECK(code({"origins/up/x", 5, 0}) == absl::StatusCode::kOutOfRange);
  CHECK(code({"origins/up/none", 0, 0}) == absl::StatusCode::kNotFound);
  for (const char* path : {"origins/up/fleeting", "origins/up/a", "origins/up/image", "files"}) {
    CAPTURE(path);
    CHECK(code({path, 0, 0}) == absl::StatusCode::kFailedPrecondition);
  }
  // What is ours is on the disk.
  REQUIRE(world.import({"origins/up/x", "files/x", std::nullopt}).ok());
  CHECK(world.warm({"files/x", 0, 0}).value().fetched == 0);
  CHECK(world.warm({"origins/up/x", 4, 0}).value().length == 0);
  world.warmer->stop();
  CHECK(absl::IsUnavailable(world.warm({"origins/up/x", 0, 0}).status()));
  CHECK(absl::IsUnavailable(world.warmer->begin({"origins/up/x", 0, 0})));
}

TEST_CASE("warm: what the disk has no room for is an error, not an endless task") {
  const TransferWorld world(4 * kMib);
  world.origin->put("x", content_of(16 * kMib, 1));
  CHECK(absl::IsResourceExhausted(world.warm({"origins/up/x", 0, 0}).status()));
}

TEST_CASE("warm: begun, it goes on by itself; cancelled, it ends") {
  const SlowWorld world;
  std::atomic<bool> wanted = true;
  absl::Status gone;
  std::thread first([&] {
    gone = world.warmer
               ->run({"origins/slow/x", 0, 0}, [&](uint64_t, uint64_t) { return wanted.load(); })
               .status();
  });
  world.origin->wait_fetches(1);
  wanted = false;
  first.join();
  CHECK(absl::IsCancelled(gone));
  REQUIRE(world.warmer->begin({"origins/slow/x", 0, 0}).ok());
  REQUIRE(world.warmer->begin({"origins/slow/x", kMib, kMib}).ok());
  world.origin->answer_until([&] { return world.origin->bytes >= world.content.size(); });
  CHECK(world.origin->bytes == world.content.size());
}

}  // namespace
}  // namespace blobcache::server
