// Many threads at once; run these under the thread sanitizer, too.

#include <doctest/doctest.h>

#include <atomic>
#include <set>
#include <thread>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

constexpr int kThreads = 8;

void run_threads(int count, const std::function<void(int)>& work) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) threads.emplace_back([&work, i] { work(i); });
  for (std::thread& thread : threads) thread.join();
}

/// What went wrong on any thread; assertions of the test framework belong to its own thread.
class Failures {
 public:
  void check(bool good) {
    if (!good) ++count_;
  }
  [[nodiscard]] int count() const { return count_.load(); }

 private:
  std::atomic<int> count_ = 0;
};

TEST_CASE("concurrency: puts of the same content end as one blob with one file, and all succeed") {
  TreeFixture tree;
  Failures failures;
  std::atomic<int> made = 0;
  for (uint32_t round = 0; round < 10; ++round) {
    const std::string content = content_of(20000, round);
    run_threads(kThreads, [&](int thread) {
      const auto blob = tree.try_put(content, "files/" + std::to_string(thread));
      failures.check(blob.ok());
      if (blob.ok() && !blob->existed) ++made;
    });
  }
  CHECK(failures.count() == 0);
  CHECK(made == 10);
  CHECK(tree.files_on_disk() == 10);
  CHECK(tree.list("blobs").size() == 10);
  for (int thread = 0; thread < kThreads; ++thread) {
    CHECK(tree.read("files/" + std::to_string(thread)) == content_of(20000, 9));
  }
  CHECK(tree.store().stats().disk_used_bytes == 10 * 20480);
}

TEST_CASE("concurrency: putting and forgetting the same blob never leaves a row without a file") {
  TreeFixture tree;
  Failures failures;
  const std::string content = content_of(9000, 1);
  const std::string path = blob_path(digest_of(content));
  run_threads(4, [&](int thread) {
    for (int i = 0; i < 60; ++i) {
      if (thread % 2 == 0) {
        failures.check(tree.try_put(content).ok());
      } else {
        const absl::Status status = tree.names().remove(path);
        failures.check(status.ok() || absl::IsNotFound(status));
      }
      // Whoever finds it can read it.
      const auto node = tree.names().resolve(path);
      if (!node.ok()) continue;
      const auto object = tree.names().open(node->id);
      if (object.ok()) failures.check(TreeFixture::read_object(**object).value_or("") == content);
    }
  });
  CHECK(failures.count() == 0);
  const bool here = tree.names().resolve(path).ok();
  CHECK(tree.files_on_disk() == (here ? 1 : 0));
  CHECK(tree.store().stats().disk_used_bytes == (here ? 12288 : 0));
}

TEST_CASE("concurrency: lookups, lists, binds and removals side by side") {
  TreeFixture tree;
  Failures failures;
  const CommittedBlob one = tree.put(content_of(5000, 1), "files/fixed/one");
  const CommittedBlob two = tree.put(content_of(6000, 2), "files/fixed/two");
  for (int i = 0; i < 40; ++i) {
    REQUIRE(tree.names().bind("files/fixed/" + std::to_string(i), one.key, {}).ok());
  }
  std::atomic<int> writers = 4;
  run_threads(kThreads, [&](int thread) {
    Namespace& names = tree.names();
    if (thread < 4) {
      for (int i = 0; i < 60; ++i) {
        const std::string path =
            "files/t" + std::to_string(thread % 2) + "/" + std::to_string(i % 5);
        const page::ObjectKey& key = i % 2 == 0 ? one.key : two.key;
        failures.check(names.bind(path, key, {}).ok());
        failures.check(names.bind("files/fixed/" + std::to_string(i % 40), key, {}).ok());
        const absl::Status removed = names.remove(path);
        failures.check(removed.ok() || absl::IsNotFound(removed));
        const absl::Status directory = names.remove("files/t" + std::to_string(thread % 2));
        failures.check(directory.ok() || absl::IsNotFound(directory) ||
                       absl::IsFailedPrecondition(directory));
      }
      --writers;
      return;
    }
    while (writers.load() > 0) {
      const auto node = names.resolve("files/fixed/7");
      failures.check(node.ok() && (node->digest == one.key || node->digest == two.key));
      failures.check(names.resolve("files/fixed/one").value().size_bytes == 5000);
      const std::vector<std::string> seen = tree.list("files/fixed", 7);
      failures.check(seen.size() == 42);
      failures.check(std::set<std::string>(seen.begin(), seen.end()).size() == 42);
      failures.check(names.counts().value().blobs == 2);
    }
  });
  CHECK(failures.count() == 0);
  uint64_t names = 42;
  for (const char* path : {"files/t0", "files/t1"}) {
    if (tree.names().resolve(path).ok()) names += tree.list(path).size();
  }
  CHECK(tree.names().counts().value().names == names);
}

TEST_CASE("concurrency: puts over a small budget push out expired blobs and nothing else") {
  TreeFixture tree(uint64_t{16} << 20);
  for (uint32_t i = 0; i < 10; ++i) tree.put(content_of(1 << 20, i));
  const std::string kept = content_of(1 << 20, 100);
  tree.put(kept, "files/kept");
  tree.clock().advance(absl::Hours(24));
  Failures failures;
  run_threads(4, [&](int thread) {
    for (uint32_t i = 0; i < 3; ++i) {
      const uint32_t seed = 200 + static_cast<uint32_t>(thread) * 10 + i;
      failures.check(tree.try_put(content_of(1 << 20, seed), "files/" + std::to_string(seed)).ok());
    }
  });
  CHECK(failures.count() == 0);
  CHECK(tree.list("files").size() == 13);
  CHECK(tree.read("files/kept") == kept);
  const page::Stats stats = tree.store().stats();
  CHECK(stats.disk_kept_bytes == uint64_t{13} << 20);
  CHECK(stats.disk_used_bytes <= uint64_t{16} << 20);
  CHECK(stats.disk_used_bytes == tree.names().counts().value().blobs << 20);
}

}  // namespace
}  // namespace blobcache::tree
