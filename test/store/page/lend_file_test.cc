// An object's file is lent only when all of it is on disk and was verified, and stays whole then.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "store/page/lent_file.h"
#include "store/page/page_store.h"
#include "store/page/scrub.h"
#include "test/store/page/remote.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

constexpr size_t kLentSize = 3 * kExtentSize + 1234;

class AnySpeed final : public ScrubControl {
 public:
  bool may_read(uint64_t /*bytes*/) override { return true; }
};

/// All bytes, read past the store.
std::vector<std::byte> read_file(const LentFile& lent) {
  struct stat info{};
  REQUIRE(::fstat(lent.fd.get(), &info) == 0);
  std::vector<std::byte> bytes(static_cast<size_t>(info.st_size) + kPageSize);
  const auto path = std::filesystem::path("/proc/self/fd") / std::to_string(lent.fd.get());
  const base::UniqueFd buffered(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const ssize_t got = ::pread(buffered.get(), bytes.data(), bytes.size(), 0);
  REQUIRE(got >= 0);
  bytes.resize(static_cast<size_t>(got));
  return bytes;
}

bool can_be_lent(Object& object) { return object.lend_file().ok(); }

/// What is verified in the background is there in a moment.
bool is_lent_soon(Object& object) {
  for (int tries = 0; tries < 1000; ++tries) {
    if (can_be_lent(object)) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return false;
}

/// Changes a byte of a file and leaves its times as they were, as a disk does that rots.
void rot(const std::filesystem::path& path, uint64_t offset) {
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  flip_byte(path, offset);
  const timespec times[] = {info.st_atim, info.st_mtim};  // NOLINT: for the system call
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

}  // namespace

TEST_CASE("a file is lent once all of it was read from disk, and has every byte") {
  Fixture fixture;
  std::vector<std::byte> content = random_bytes(kLentSize, 1);
  std::fill_n(content.begin() + kExtentSize, 3 * kPageSize, std::byte{0});  // holes
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.reopen();
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(absl::IsFailedPrecondition(object->lend_file().status()));
  CHECK(reads_as(*object, content, 0, kLentSize - kPageSize - 1234));
  CHECK_FALSE(can_be_lent(*object));
  CHECK(reads_whole(*object, content));
  const absl::StatusOr<LentFile> lent = object->lend_file();
  REQUIRE(lent.ok());
  CHECK(read_file(*lent) == content);
}

TEST_CASE("what only memory vouches for is read back in the background") {
  Fixture fixture(kMemory);
  const Remote remote(kLentSize, 1);
  const ObjectRef object = remote.attach(fixture.store());
  CHECK(remote.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  CHECK_FALSE(can_be_lent(*object));
  CHECK(is_lent_soon(*object));
  CHECK(read_file(object->lend_file().value()) == remote.content());
}

TEST_CASE("what the disk does not have is not lent") {
  Fixture fixture(kMemory);
  const Remote remote(kLentSize, 1);
  const ObjectRef object = remote.attach(fixture.store());
  CHECK(remote.read(fixture.store(), 0, kLentSize - 2 * kPageSize) > 0);
  fixture.store().wait_cached();
  fixture.store().evict_memory(*object);
  CHECK(remote.read(fixture.store(), 0, kLentSize - 2 * kPageSize) == 0);
  for (int i = 0; i < 20; ++i) {
    CHECK_FALSE(can_be_lent(*object));
    absl::SleepFor(absl::Milliseconds(5));
  }
}

TEST_CASE("a scrub vouches for the file of an object in use") {
  Fixture fixture(PageStore::kMinMemory, 1U << 30, sum_hash());
  const std::vector<std::byte> content = random_bytes(kLentSize, 1);
  const ObjectSpec spec = fixture.put(content, sum_of(content));
  fixture.reopen();
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(reads_as(*object, content, 0, 1));
  CHECK_FALSE(can_be_lent(*object));
  AnySpeed control;
  CHECK(fixture.store().scrub(spec, control).value().damaged_pages == 0);
  CHECK(can_be_lent(*object));
}

TEST_CASE("a page that is damaged keeps the file from being lent") {
  Fixture fixture;
  const std::vector<std::byte> content = random_bytes(kLentSize, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.reopen();
  rot(fixture.file_of(spec), 2 * kExtentSize + 7);
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(reads_as(*object, content, 0, 2 * kExtentSize));
  constexpr uint64_t kNext = 2 * kExtentSize + kPageSize;
  CHECK(reads_as(*object, content, kNext, kLentSize - kNext));
  CHECK_FALSE(object->read_wait(2 * kExtentSize, 1).ok());
  CHECK_FALSE(can_be_lent(*object));
}

TEST_CASE("damage that is found later ends the lending") {
  Fixture fixture(PageStore::kMinMemory, 1U << 30, sum_hash());
  const std::vector<std::byte> content = random_bytes(kLentSize, 1);
  const ObjectSpec spec = fixture.put(content, sum_of(content));
  fixture.reopen();
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(reads_whole(*object, content));
  CHECK(can_be_lent(*object));
  rot(fixture.file_of(spec), 7);
  AnySpeed control;
  CHECK(fixture.store().scrub(spec, control).value().damaged_pages == 1);
  CHECK_FALSE(can_be_lent(*object));
}

TEST_CASE("a file that somebody else wrote to is not lent") {
  Fixture fixture;
  const std::vector<std::byte> content = random_bytes(kLentSize, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.reopen();
  const ObjectRef object = fixture.store().attach(spec);
  CHECK(reads_whole(*object, content));
  CHECK(can_be_lent(*object));
  absl::SleepFor(absl::Milliseconds(20));  // the kernel's clock for files is coarse
  flip_byte(fixture.file_of(spec), 0);
  const absl::Status status = object->lend_file().status();
  INFO(status.ToString());
  CHECK(absl::IsFailedPrecondition(status));
}

TEST_CASE("nothing is taken out of a file that is lent") {
  constexpr uint64_t kBudget = uint64_t{6} << 20;
  Fixture fixture(kMemory, kBudget);
  const Remote lent(kLentSize, 1);
  {
    const ObjectRef object = lent.attach(fixture.store());
    CHECK(lent.read_all(fixture.store()) > 0);
    fixture.store().wait_cached();
    CHECK(is_lent_soon(*object));
    const LentFile file = object->lend_file().value();
    // Much more than there is room for goes by.
    for (uint8_t name = 2; name < 12; ++name) {
      const Remote other(8 * kExtentSize, name);
      CHECK(other.read_all(fixture.store()) > 0);
      fixture.store().wait_cached();
    }
    CHECK(fixture.store().stats().disk_evicted_bytes > 0);
    fixture.store().forget_cached(lent.key);
    CHECK(read_file(file) == lent.content());
    CHECK(can_be_lent(*object));
  }
  // Afterwards it goes as all do.
  fixture.store().forget_cached(lent.key);
  fixture.store().wait_cached();
  CHECK_FALSE(can_be_lent(*lent.attach(fixture.store())));
}

TEST_CASE("a process that takes over keeps what was lent from the first moment on") {
  constexpr uint64_t kBudget = uint64_t{6} << 20;
  Fixture fixture(kMemory, kBudget);
  const Remote lent(kLentSize, 1);
  const Remote other(kLentSize, 2);
  CHECK(lent.read_all(fixture.store()) > 0);
  CHECK(other.read_all(fixture.store()) > 0);
  fixture.store().wait_cached();
  // Nearly nothing fits any more.
  fixture.options().disk_bytes = uint64_t{1} << 20;
  fixture.options().lent = {{lent.key, kLentSize}};
  fixture.reopen();
  fixture.options().lent.clear();
  for (uint8_t name = 3; name < 8; ++name) {
    CHECK(Remote(kExtentSize, name).read_all(fixture.store()) > 0);
  }
  fixture.store().wait_cached();
  CHECK(fixture.store().stats().disk_evicted_bytes > 0);
  CHECK(data_of(fixture.cached_file_of(lent.key)) >= kLentSize);
  std::shared_ptr<const void> lease = fixture.store().take_lease(lent.key);
  CHECK(lease != nullptr);
  CHECK(fixture.store().take_lease(lent.key) == nullptr);
  CHECK(fixture.store().take_lease(other.key) == nullptr);
  fixture.store().drop_leases();
  fixture.store().forget_cached(lent.key);
  CHECK(data_of(fixture.cached_file_of(lent.key)) >= kLentSize);
  CHECK(lent.read_all(fixture.store()) == 0);
  lease.reset();
  fixture.store().forget_cached(lent.key);
  CHECK(lent.read_all(fixture.store()) > 0);
}

TEST_CASE("a file that is lent stays readable when its object is removed") {
  Fixture fixture;
  const std::vector<std::byte> content = random_bytes(kLentSize, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  fixture.reopen();
  ObjectRef object = fixture.store().attach(spec);
  CHECK(reads_whole(*object, content));
  const LentFile file = object->lend_file().value();
  object.reset();
  CHECK(fixture.store().remove(spec.key, spec.incarnation, Retention::kKept, 0).ok());
  CHECK(read_file(file) == content);
}

}  // namespace blobcache::page
