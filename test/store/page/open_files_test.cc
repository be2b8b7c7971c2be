// Many objects, few descriptors.

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "store/page/geometry.h"
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

/// The number that the next descriptor would get.
rlim_t next_descriptor() {
  return static_cast<rlim_t>(base::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)).get());
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

TEST_CASE("open files: those that must stay open are not looked for when descriptors run out") {
  Fixture fixture;
  std::vector<ObjectRef> held;
  for (uint8_t name = 0; name < 40; ++name) {
    const ObjectSpec spec = fixture.put(random_bytes(3000, name), name);
    held.push_back(fixture.store().attach(spec));
    REQUIRE(held.back()->read_wait(0, 1).ok());
    // Every other one loses its name, and stays open from then on.
    if (name % 2 == 0) {
      REQUIRE(fixture.store().remove(spec.key, spec.incarnation, Retention::kKept, 4096).ok());
    }
  }
  const ObjectRef last = fixture.store().attach(fixture.put(random_bytes(3000, 99), 99));
  const FewDescriptors none(next_descriptor());
  // Each closes some of what may be closed, until nothing is left to close.
  std::vector<std::unique_ptr<ObjectWriter>> writers;
  while (writers.size() < 100) {
    auto writer = fixture.store().create(Retention::kKept, 0);
    if (!writer.ok()) break;
    writers.push_back(*std::move(writer));
  }
  CHECK(writers.size() > 10);
  CHECK(writers.size() < 100);
  CHECK(absl::IsUnavailable(fixture.store().create(Retention::kKept, 0).status()));
}

TEST_CASE("open files: a scrub that gets no descriptor calls nothing damaged") {
  class Always final : public ScrubControl {
   public:
    bool may_read(uint64_t /*bytes*/) override { return true; }
  };
  Fixture fixture;
  const ObjectSpec spec = fixture.put(random_bytes(2U << 20, 1), 1);
  Always control;
  {
    const FewDescriptors none(next_descriptor());
    CHECK(absl::IsUnavailable(fixture.store().scrub(spec, control).status()));
  }
  const auto result = fixture.store().scrub(spec, control);
  REQUIRE(result.ok());
  CHECK(result->clean());
}

TEST_CASE("open files: an object that loses its names while its reader opens them is read") {
  Fixture fixture(64U << 20);
  std::function<void()> at_next_open = [] {};
  fixture.options().disk_fault = [&at_next_open](const DiskStep& step) {
    if (step.kind == DiskStep::Kind::kOpen) std::exchange(at_next_open, [] {})();
    return 0;
  };
  for (const size_t size : {size_t{3000}, size_t{1'100'000}}) {
    fixture.reopen();
    const std::vector<std::byte> content = random_bytes(size, 7);
    const ObjectSpec spec = fixture.put(content, static_cast<uint8_t>(size % 7));
    const ObjectRef object = fixture.store().attach(spec);
    bool removed = false;
    at_next_open = [&] {
      removed =
          fixture.store()
              .remove(spec.key, spec.incarnation, spec.retention, page_count(size) << kPageShift)
              .ok();
    };
    CHECK(reads_whole(*object, content));
    CHECK(removed);
  }
}

}  // namespace blobcache::page
