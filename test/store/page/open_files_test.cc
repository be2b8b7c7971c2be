// Many objects, few descriptors.

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <filesystem>
#include <thread>
#include <vector>

#include "store/page/page_store.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

/// Lowers the process's limit on open files for as long as it lives.
class FewDescriptors {
 public:
  explicit FewDescriptors(rlim_t limit) {
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
    const rlimit lower{limit, before_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &lower) == 0);
  }
  ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  FewDescriptors(const FewDescriptors&) = delete;
  FewDescriptors& operator=(const FewDescriptors&) = delete;

 private:
  rlimit before_{};
};

size_t open_descriptors() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    ++count;
  }
  return count;
}

}  // namespace

TEST_CASE("open files: more objects in use than descriptors are all read, again and again") {
  const FewDescriptors few(100);
  Fixture fixture(64U << 20);
  std::vector<std::vector<std::byte>> contents;
  std::vector<ObjectRef> objects;
  for (uint32_t i = 0; i < 300; ++i) {
    // Some with a map file of their own.
    contents.push_back(random_bytes(i % 50 == 0 ? 1'100'000 : 3000, i));
    ObjectKey key;
    key.bytes[0] = static_cast<uint8_t>(i);
    key.bytes[1] = static_cast<uint8_t>(i >> 8);
    objects.push_back(fixture.store().attach(fixture.put(contents.back(), key)));
  }
  for (int round = 0; round < 2; ++round) {
    for (size_t i = 0; i < objects.size(); ++i) {
      fixture.store().evict_memory(*objects[i]);
      CHECK(reads_whole(*objects[i], contents[i]));
    }
    CHECK(open_descriptors() < 70);
  }
  // Several readers at once, each closing the others' files.
  std::atomic<int> wrong = 0;
  std::vector<std::thread> readers;
  for (size_t reader = 0; reader < 4; ++reader) {
    readers.emplace_back([&, reader] {
      for (size_t i = 0; i < objects.size(); ++i) {
        const size_t at = (i * 7 + reader * 75) % objects.size();
        fixture.store().evict_memory(*objects[at]);
        wrong += reads_whole(*objects[at], contents[at]) ? 0 : 1;
      }
    });
  }
  for (std::thread& reader : readers) reader.join();
  CHECK(wrong == 0);
}

TEST_CASE("open files: a removed object that somebody holds stays open however many others come") {
  const FewDescriptors few(100);
  Fixture fixture(64U << 20);
  const auto content = random_bytes(3U << 20, 1);
  ObjectKey first;
  first.bytes[31] = 1;
  const ObjectSpec spec = fixture.put(content, first);
  const ObjectRef held = fixture.store().attach(spec);
  REQUIRE(fixture.store()
              .remove(spec.key, spec.incarnation, Retention::kKept, fixture.disk_bytes)
              .ok());
  for (uint32_t i = 0; i < 200; ++i) {
    const auto other = random_bytes(3000, i);
    ObjectKey key;
    key.bytes[0] = static_cast<uint8_t>(i);
    CHECK(reads_whole(*fixture.store().attach(fixture.put(other, key)), other));
  }
  CHECK(reads_whole(*held, content));
}

}  // namespace blobcache::page
