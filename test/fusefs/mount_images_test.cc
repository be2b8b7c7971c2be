// Volumes and other images as they are written through a mount.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <thread>

#include "store/page/geometry.h"
#include "test/fusefs/mounted_tree.h"

namespace blobcache::fusefs {
namespace {

using page::kPageSize;

std::string zeros_of(uint64_t length) { return std::string(length, '\0'); }

TEST_CASE("fusefs images: are written and read in place, at any offset") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto image = mounted.tree().add_image("volumes/v", zeros_of(3 << 20), 0600);
  std::string model = image->bytes();
  const base::UniqueFd fd = open_file(mounted.at("volumes/v"), O_RDWR);
  for (const uint64_t offset : {uint64_t{0}, uint64_t{1}, uint64_t{4095}, uint64_t{1} << 20}) {
    for (const uint64_t length : {uint64_t{1}, uint64_t{5000}, uint64_t{1} << 20}) {
      const std::string text = pattern(offset + length, offset, length);
      CHECK(::pwrite(fd.get(), text.data(), length, static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(length));
      model.replace(offset, length, text);
    }
  }
  CHECK(image->bytes() == model);
  CHECK(read_at(fd.get(), 4000, 1 << 20) == model.substr(4000, 1 << 20));
  CHECK(mounted.mount().stats().bytes_in > 0);
}

TEST_CASE("fusefs images: end where they end") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto image = mounted.tree().add_image("volumes/v", zeros_of(10000), 0600);
  const base::UniqueFd fd = open_file(mounted.at("volumes/v"), O_RDWR);
  CHECK(::pwrite(fd.get(), "0123456789", 10, 9995) == 5);
  CHECK(error_of(::pwrite(fd.get(), "0", 1, 10000)) == ENOSPC);
  CHECK(error_of(::pwrite(fd.get(), "0", 1, 20000)) == ENOSPC);
  CHECK(image->bytes().substr(9995) == "01234");
  CHECK(image->size_bytes() == 10000);
}

TEST_CASE("fusefs images: have their own size and attributes") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto image = mounted.tree().add_image("volumes/v", std::string(10000, 'x'), 0600);
  const std::string path = mounted.at("volumes/v").string();
  CHECK(::truncate(path.c_str(), 10000) == 0);
  CHECK(error_of(::truncate(path.c_str(), 9999)) == EPERM);
  CHECK(error_of(::truncate(path.c_str(), 10001)) == EPERM);
  CHECK(error_of(::chmod(path.c_str(), 0644)) == EPERM);
  CHECK(error_of(::chown(path.c_str(), 1, 1)) == EPERM);
  CHECK(error_of(::utimensat(AT_FDCWD, path.c_str(), nullptr, 0)) == EPERM);
  CHECK(error_of(::unlink(path.c_str())) == EPERM);
  {
    // As a block device has it: nothing is cut off.
    const base::UniqueFd fd = open_file(path, O_WRONLY | O_TRUNC);
    CHECK(::pwrite(fd.get(), "y", 1, 0) == 1);
    struct stat attributes = {};
    REQUIRE(::fstat(fd.get(), &attributes) == 0);
    CHECK(attributes.st_size == 10000);
    CHECK(::lseek(fd.get(), 0, SEEK_END) == 10000);
  }
  CHECK(image->bytes() == "y" + std::string(9999, 'x'));
}

TEST_CASE("fusefs images: are flushed when that is asked for") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto image = mounted.tree().add_image("volumes/v", zeros_of(10000), 0600);
  const base::UniqueFd fd = open_file(mounted.at("volumes/v"), O_RDWR);
  REQUIRE(::pwrite(fd.get(), "x", 1, 0) == 1);
  CHECK(image->syncs() == 0);
  CHECK(::fdatasync(fd.get()) == 0);
  CHECK(image->syncs() == 1);
  CHECK(::fsync(fd.get()) == 0);
  CHECK(image->syncs() == 2);
  const base::UniqueFd through = open_file(mounted.at("volumes/v"), O_RDWR | O_DSYNC);
  REQUIRE(::pwrite(through.get(), "x", 1, 0) == 1);
  CHECK(image->syncs() >= 3);
}

TEST_CASE("fusefs images: holes are punched and found") {
  if (!can_mount()) return;
  MountedTree mounted;
  const uint64_t size = 100 * kPageSize;
  const auto image = mounted.tree().add_image("volumes/v", std::string(size, 'x'), 0600);
  const base::UniqueFd fd = open_file(mounted.at("volumes/v"), O_RDWR);
  const auto page = [](uint64_t number) { return static_cast<off_t>(number * kPageSize); };
  CHECK(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page(10), page(5)) == 0);
  CHECK(::fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, page(98), page(2)) == 0);
  CHECK(image->bytes().substr(10 * kPageSize, 5 * kPageSize) == zeros_of(5 * kPageSize));
  CHECK(::lseek(fd.get(), 0, SEEK_HOLE) == page(10));
  CHECK(::lseek(fd.get(), page(11) + 1, SEEK_HOLE) == page(11) + 1);
  CHECK(::lseek(fd.get(), page(10), SEEK_DATA) == page(15));
  CHECK(::lseek(fd.get(), page(50), SEEK_HOLE) == page(98));
  CHECK(error_of(::lseek(fd.get(), page(98), SEEK_DATA)) == ENXIO);
  CHECK(error_of(::lseek(fd.get(), page(100), SEEK_HOLE)) == ENXIO);
  CHECK(error_of(::fallocate(fd.get(), 0, 0, page(1))) == EOPNOTSUPP);
  CHECK(error_of(::fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, page(99), page(2))) == EINVAL);
  CHECK(image->size_bytes() == size);
}

TEST_CASE("fusefs images: one that is not to be written is not, by root either") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto image = mounted.tree().add_image("volumes/snapshot", std::string(100, 'x'), 0400);
  const std::string path = mounted.at("volumes/snapshot").string();
  CHECK(error_of(::open(path.c_str(), O_WRONLY)) == EROFS);
  CHECK(error_of(::open(path.c_str(), O_RDWR)) == EROFS);
  CHECK(error_of(::open(path.c_str(), O_RDONLY | O_TRUNC)) == EROFS);
  CHECK(error_of(::truncate(path.c_str(), 1)) == EPERM);
  CHECK(read_at(open_file(path).get(), 0, 200) == std::string(100, 'x'));
}

TEST_CASE(
    "fusefs images: a write that ends later has its bytes until then, and holds up no other") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto image = mounted.tree().add_image("volumes/v", zeros_of(2 << 20), 0600);
  const auto other = mounted.tree().add_image("volumes/w", std::string(100, 'w'), 0600);
  const std::string text = pattern(1, 0, 1 << 20);
  mounted.tree().later().hold();
  ssize_t written = 0;
  std::thread writer([&] {
    const base::UniqueFd fd = open_file(mounted.at("volumes/v"), O_RDWR);
    written = ::pwrite(fd.get(), text.data(), text.size(), 4096);
  });
  mounted.tree().later().wait_for_held(1);
  // libfuse's memory has been used for others by the time it ends.
  for (int i = 0; i < 100; ++i) {
    struct stat attributes = {};
    const std::string none = "files/" + std::string(200, static_cast<char>('a' + i % 26));
    CHECK(error_of(::stat(mounted.at(none).c_str(), &attributes)) == ENOENT);
  }
  mounted.tree().later().let_go();
  writer.join();
  CHECK(written == static_cast<ssize_t>(text.size()));
  CHECK(image->bytes().substr(4096, text.size()) == text);
}

TEST_CASE("fusefs images: more writes at once than are copied are made all the same") {
  if (!can_mount()) return;
  MountedTree mounted;
  constexpr size_t kWriters = 100;  // of 1 MiB each: more than 64 MiB
  for (size_t i = 0; i < kWriters; ++i) {
    mounted.tree().add_image("volumes/" + std::to_string(i), zeros_of(1 << 20), 0600);
  }
  mounted.tree().later().hold();
  std::atomic<size_t> right{0};
  std::vector<std::thread> writers;
  for (size_t i = 0; i < kWriters; ++i) {
    writers.emplace_back([&mounted, &right, i] {
      const std::string text = pattern(i, 0, 1 << 20);
      const base::UniqueFd fd = open_file(mounted.at("volumes/" + std::to_string(i)), O_RDWR);
      if (::pwrite(fd.get(), text.data(), text.size(), 0) == 1 << 20) ++right;
    });
  }
  mounted.tree().later().wait_for_held(65);
  mounted.tree().later().let_go();
  for (std::thread& writer : writers) writer.join();
  CHECK(right == kWriters);
  for (size_t i = 0; i < kWriters; ++i) {
    CHECK(mounted.tree().written("volumes/" + std::to_string(i)) == pattern(i, 0, 1 << 20));
  }
}

TEST_CASE("fusefs images: what fails is told, and counted") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto image = mounted.tree().add_image("volumes/v", zeros_of(10000), 0600);
  const base::UniqueFd fd = open_file(mounted.at("volumes/v"), O_RDWR);
  image->fail_with(absl::ResourceExhaustedError("full"));
  CHECK(error_of(::pwrite(fd.get(), "x", 1, 0)) == ENOSPC);
  image->fail_with(absl::DataLossError("damaged"));
  CHECK(error_of(::pwrite(fd.get(), "x", 1, 0)) == EIO);
  image->fail_with(absl::OkStatus());
  CHECK(::pwrite(fd.get(), "x", 1, 0) == 1);
  CHECK(mounted.mount().stats().errors >= 2);
}

TEST_CASE("fusefs images: unmounting waits for a write that is under way") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto image = mounted.tree().add_image("volumes/v", zeros_of(10000), 0600);
  mounted.tree().later().hold();
  std::thread writer([&] {
    const base::UniqueFd fd = open_file(mounted.at("volumes/v"), O_RDWR);
    static_cast<void>(::pwrite(fd.get(), "x", 1, 0));
  });
  mounted.tree().later().wait_for_held(1);
  std::thread unmounter([&] { mounted.mount().unmount(); });
  mounted.tree().later().let_go();
  unmounter.join();
  writer.join();
  CHECK(image->bytes()[0] == 'x');
}

}  // namespace
}  // namespace blobcache::fusefs
