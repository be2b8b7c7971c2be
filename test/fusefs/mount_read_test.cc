// What a process reads through a mount: bytes, attributes, listings.

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "store/page/geometry.h"
#include "store/tree/digest.h"
#include "test/eventually.h"
#include "test/fusefs/mounted_tree.h"

namespace blobcache::fusefs {
namespace {

using page::kExtentSize;
using page::kPageSize;

TEST_CASE("fusefs mount: bytes at many offsets and lengths are the file's") {
  if (!can_mount()) return;
  MountedTree mounted;
  const uint64_t size = 5 * kExtentSize + 1234;
  mounted.tree().add_file("files/odd", size, 42);
  const base::UniqueFd cached = open_file(mounted.at("files/odd"));
  const uint64_t offsets[] = {
      0,        1,        4095,       4096, kExtentSize - 1, kExtentSize, 3 * 4096 + 7,
      size - 1, size - 5, size - 4097};
  const uint64_t lengths[] = {1, 2, 4095, 4096, 4097, kExtentSize, kExtentSize + 3, 1U << 20};
  for (const uint64_t offset : offsets) {
    for (const uint64_t length : lengths) {
      const std::string want = pattern(42, offset, std::min(length, size - offset));
      CHECK(read_at(cached.get(), offset, length) == want);
    }
  }
  // Whole pages only, and no page cache between.
  const base::UniqueFd direct = open_file(mounted.at("files/odd"), O_RDONLY | O_DIRECT);
  alignas(4096) static char buffer[1U << 20];
  for (uint64_t offset = 0; offset < size; offset += 13 * kPageSize) {
    const ssize_t got = ::pread(direct.get(), buffer, sizeof(buffer), static_cast<off_t>(offset));
    const std::string want = pattern(42, offset, std::min(sizeof(buffer), size - offset));
    REQUIRE(got == static_cast<ssize_t>(want.size()));
    CHECK(want.compare(0, want.size(), buffer, static_cast<size_t>(got)) == 0);
  }
}

TEST_CASE("fusefs mount: bytes come from the disk as they went there") {
  if (!can_mount()) return;
  MountedTree mounted;
  const uint64_t size = 40 * kExtentSize + 77;
  mounted.tree().add_stored_file("files/stored", size, 43);
  const base::UniqueFd fd = open_file(mounted.at("files/stored"));
  for (const uint64_t step : {uint64_t{100'000}, uint64_t{1} << 20}) {
    uint64_t wrong = 0;
    for (uint64_t offset = 0; offset < size; offset += step) {
      const uint64_t length = std::min(step, size - offset);
      wrong += read_at(fd.get(), offset, length) == pattern(43, offset, length) ? 0 : 1;
    }
    CHECK(wrong == 0);
    CHECK(::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);  // the page cache, not L0
  }
}

TEST_CASE("fusefs mount: reading ends where the file ends") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_file("files/ten", 10, 1);
  mounted.tree().add_file("files/none", 0, 1);
  mounted.tree().add_file("files/page", kPageSize, 1);
  for (const int flags : {O_RDONLY, O_RDONLY | O_DIRECT}) {
    alignas(4096) char buffer[2 * kPageSize];
    const base::UniqueFd ten = open_file(mounted.at("files/ten"), flags);
    CHECK(::pread(ten.get(), buffer, sizeof(buffer), 0) == 10);
    CHECK(::pread(ten.get(), buffer, kPageSize, kPageSize) == 0);
    const base::UniqueFd none = open_file(mounted.at("files/none"), flags);
    CHECK(::pread(none.get(), buffer, sizeof(buffer), 0) == 0);
    const base::UniqueFd page = open_file(mounted.at("files/page"), flags);
    CHECK(::pread(page.get(), buffer, sizeof(buffer), 0) == kPageSize);
    CHECK(::pread(page.get(), buffer, sizeof(buffer), kPageSize) == 0);
  }
}

TEST_CASE(
    "fusefs mount: a file can be mapped, locked, sought in, and read directly at odd places") {
  if (!can_mount()) return;
  MountedTree mounted;
  const uint64_t size = 3 * kExtentSize + 99;
  mounted.tree().add_file("files/a", size, 11);
  const base::UniqueFd fd = open_file(mounted.at("files/a"));
  for (const int kind : {MAP_PRIVATE, MAP_SHARED}) {
    void* mapped = ::mmap(nullptr, size, PROT_READ, kind, fd.get(), 0);
    REQUIRE(mapped != MAP_FAILED);
    CHECK(std::string_view(static_cast<const char*>(mapped), size) == pattern(11, 0, size));
    ::munmap(mapped, size);
  }
  CHECK(::flock(fd.get(), LOCK_SH | LOCK_NB) == 0);
  CHECK(::lseek(fd.get(), 5, SEEK_HOLE) == static_cast<off_t>(size));
  CHECK(::lseek(fd.get(), 5, SEEK_DATA) == 5);
  const base::UniqueFd direct = open_file(mounted.at("files/a"), O_RDONLY | O_DIRECT);
  CHECK(read_at(direct.get(), 4097, 100'001) == pattern(11, 4097, 100'001));
  CHECK(read_at(direct.get(), size - 3, 100) == pattern(11, size - 3, 3));
}

TEST_CASE("fusefs mount: two readers of one cold file see its bytes") {
  if (!can_mount()) return;
  MountedTree mounted;
  const uint64_t size = 16 * kExtentSize;
  mounted.tree().add_file("files/big", size, 7);
  const auto read_all = [&](uint64_t step, std::atomic<uint64_t>& wrong) {
    const base::UniqueFd fd = open_file(mounted.at("files/big"));
    for (uint64_t offset = 0; offset < size; offset += step) {
      const uint64_t length = std::min(step, size - offset);
      if (read_at(fd.get(), offset, length) != pattern(7, offset, length)) ++wrong;
    }
  };
  std::atomic<uint64_t> wrong{0};
  std::thread other([&] { read_all(64 << 10, wrong); });
  read_all(100'000, wrong);
  other.join();
  CHECK(wrong == 0);
  // A reply is counted just after it has gone out.
  CHECK(test::eventually([&] { return mounted.mount().stats().bytes_out >= size; }));
}

TEST_CASE("fusefs mount: stat, statfs and extended attributes tell the truth") {
  if (!can_mount()) return;
  MountedTree mounted;
  const tree::NodeId id = mounted.tree().add_stored_file("files/a", 3 * kPageSize + 1, 3);
  const tree::Node node = mounted.tree().stat(id).value();
  struct stat attributes = {};
  REQUIRE(::stat(mounted.at("files/a").c_str(), &attributes) == 0);
  CHECK(attributes.st_ino == id);
  CHECK(attributes.st_mode == (S_IFREG | 0444));
  CHECK(attributes.st_size == 3 * kPageSize + 1);
  CHECK(attributes.st_mtim.tv_sec == absl::ToTimespec(node.modified).tv_sec);
  CHECK(attributes.st_mtim.tv_nsec == absl::ToTimespec(node.modified).tv_nsec);
  REQUIRE(::stat(mounted.at("").c_str(), &attributes) == 0);
  CHECK(attributes.st_ino == tree::kRootNode);
  CHECK(S_ISDIR(attributes.st_mode));

  mounted.tree().set_space({.total_bytes = 100 * kPageSize,
                            .used_bytes = 40 * kPageSize - 1,
                            .free_bytes = 50 * kPageSize + 7});
  struct statvfs system = {};
  REQUIRE(::statvfs(mounted.at("").c_str(), &system) == 0);
  CHECK(system.f_frsize == kPageSize);
  CHECK(system.f_blocks == 100);
  CHECK(system.f_bfree == 50);
  CHECK(system.f_bavail == 50);
  CHECK(system.f_files == 51);
  CHECK(system.f_ffree == 50);
  CHECK(system.f_namemax == 255);
  CHECK((system.f_flag & ST_RDONLY) == 0);

  char value[256];
  const std::string path = mounted.at("files/a").string();
  ssize_t length = ::getxattr(path.c_str(), "user.blobcache.digest", value, sizeof(value));
  REQUIRE(length > 0);
  CHECK(std::string(value, static_cast<size_t>(length)) == tree::format_digest(*node.digest));
  CHECK(::getxattr(path.c_str(), "user.blobcache.digest", nullptr, 0) == length);
  CHECK(error_of(::getxattr(path.c_str(), "user.blobcache.digest", value, 10)) == ERANGE);
  const base::UniqueFd fd = open_file(path);
  REQUIRE(read_at(fd.get(), 0, 1).size() == 1);
  length = ::getxattr(path.c_str(), "user.blobcache.tier", value, sizeof(value));
  REQUIRE(length > 0);
  CHECK(std::string(value, static_cast<size_t>(length)) == "memory=4 disk=4 pages=4");
  CHECK(::getxattr(path.c_str(), "user.blobcache.pinned", value, sizeof(value)) == 1);
  CHECK(value[0] == '0');
  CHECK(::getxattr(path.c_str(), "user.blobcache.settled", value, sizeof(value)) == 1);
  CHECK(value[0] == '1');
  CHECK(error_of(::getxattr(path.c_str(), "user.other", value, sizeof(value))) == ENODATA);
  // Or ls -l would ask for each file.
  CHECK(error_of(::getxattr(path.c_str(), "security.selinux", value, sizeof(value))) == EOPNOTSUPP);
  CHECK(error_of(::getxattr(mounted.at("files").c_str(), "user.blobcache.digest", value,
                            sizeof(value))) == ENODATA);
  CHECK(::listxattr(path.c_str(), value, sizeof(value)) == 42);
  CHECK(::listxattr(mounted.at("files").c_str(), value, sizeof(value)) == 0);
}

TEST_CASE("fusefs mount: each of thousands of names is listed once") {
  if (!can_mount()) return;
  MountedTree mounted;
  constexpr size_t kNames = 5000;
  mounted.tree().add_directory("files/many");
  std::set<std::string> want = {};
  for (size_t i = 0; i < kNames; ++i) {
    const std::string name = fmt::format("{}-{}", i, std::string(i % 200, 'n'));
    mounted.tree().add_file("files/many/" + name, i, i);
    want.insert(name);
  }
  for (int round = 0; round < 2; ++round) {
    std::set<std::string> seen;
    size_t entries = 0;
    for (const auto& entry : std::filesystem::directory_iterator(mounted.at("files/many"))) {
      seen.insert(entry.path().filename().string());
      if (round == 1) CHECK(entry.is_regular_file());
      ++entries;
    }
    CHECK(entries == kNames);
    CHECK(seen == want);
  }
}

TEST_CASE("fusefs mount: a failing source is EIO now, and no longer when it works again") {
  if (!can_mount()) return;
  MountedTree mounted;
  const tree::NodeId id = mounted.tree().add_file("files/a", 100, 5);
  mounted.tree().source(id).answer_with(absl::StatusCode::kUnavailable);
  const base::UniqueFd fd = open_file(mounted.at("files/a"));
  CHECK(read_at(fd.get(), 0, 100) == fmt::format("errno {}", EIO));
  CHECK(mounted.mount().stats().errors > 0);
  mounted.tree().source(id).answer_with(absl::StatusCode::kOk);
  CHECK(read_at(fd.get(), 0, 100) == pattern(5, 0, 100));
}

TEST_CASE("fusefs mount: a signal ends a read that waits, and only that one") {
  if (!can_mount()) return;
  MountedTree mounted([](MountOptions& options) { options.async_direct = false; });
  const tree::NodeId id = mounted.tree().add_file("files/slow", kExtentSize, 6);
  TestSource& source = mounted.tree().source(id);
  source.close_gate();
  struct sigaction quiet = {};
  quiet.sa_handler = [](int) {};  // without SA_RESTART
  struct sigaction before = {};
  REQUIRE(::sigaction(SIGUSR1, &quiet, &before) == 0);

  const base::UniqueFd fd = open_file(mounted.at("files/slow"), O_RDONLY | O_DIRECT);
  const auto read_page = [&fd](ssize_t& result, int& error) {
    alignas(4096) char buffer[kPageSize];
    result = ::pread(fd.get(), buffer, sizeof(buffer), 0);
    error = errno;
  };
  ssize_t interrupted = 0;
  ssize_t patient = 0;
  int error = 0;
  int no_error = 0;
  std::thread first([&] { read_page(interrupted, error); });
  source.wait_for_waiting(1);
  std::thread second([&] { read_page(patient, no_error); });
  const uint64_t both = 2;
  REQUIRE(test::eventually([&] { return mounted.mount().stats().requests >= both; }));
  ::pthread_kill(first.native_handle(), SIGUSR1);
  first.join();
  CHECK(interrupted == -1);
  CHECK(error == EINTR);
  source.open_gate();
  second.join();
  CHECK(patient == kPageSize);
  ::sigaction(SIGUSR1, &before, nullptr);
}

TEST_CASE("fusefs mount: readers that are killed leave nothing pinned") {
  if (!can_mount()) return;
  MountedTree mounted([](MountOptions& options) { options.async_direct = false; });
  constexpr uint64_t kSize = 4 * kExtentSize;
  const tree::NodeId id = mounted.tree().add_file("files/slow", kSize, 8);
  TestSource& source = mounted.tree().source(id);
  const base::UniqueFd fd = open_file(mounted.at("files/slow"), O_RDONLY | O_DIRECT);
  REQUIRE(read_at(fd.get(), 0, kPageSize) == pattern(8, 0, kPageSize));
  const auto pinned = [&] { return mounted.store().stats().memory_pinned_frames; };
  REQUIRE(test::eventually([&] { return pinned() == 0; }));
  // Large enough for every extent, and made before the fork.
  const std::unique_ptr<char, decltype(&std::free)> buffer(
      static_cast<char*>(std::aligned_alloc(kPageSize, kSize)), &std::free);
  source.close_gate();
  const uint64_t requests = mounted.mount().stats().requests;
  std::vector<pid_t> readers;
  for (int i = 0; i < 3; ++i) {
    const pid_t reader = ::fork();
    REQUIRE(reader >= 0);
    if (reader == 0) {
      while (::pread(fd.get(), buffer.get(), kSize, 0) < 0) {
      }
      ::_exit(0);
    }
    readers.push_back(reader);
  }
  // Each of them has what is here pinned and waits for the rest.
  source.wait_for_waiting(1);
  REQUIRE(test::eventually([&] { return mounted.mount().stats().requests >= requests + 3; }));
  REQUIRE(pinned() > 0);
  SUBCASE("while the source does not answer") {}
  SUBCASE("as the answers come") { source.open_gate(); }
  for (const pid_t reader : readers) {
    CHECK(::kill(reader, SIGKILL) == 0);
    CHECK(::waitpid(reader, nullptr, 0) == reader);
  }
  CHECK(test::eventually([&] { return pinned() == 0; }));
  CHECK(test::eventually([&] { return mounted.store().stats().flights == 0; }));
  source.open_gate();
  CHECK(read_at(fd.get(), 0, kSize) == pattern(8, 0, kSize));
}

}  // namespace
}  // namespace blobcache::fusefs
