// Files that are written through a mount.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "store/page/geometry.h"
#include "store/tree/files.h"
#include "test/eventually.h"
#include "test/fusefs/fake_image.h"
#include "test/fusefs/mounted_tree.h"

namespace blobcache::fusefs {
namespace {

using page::kPageSize;

base::UniqueFd create(const std::filesystem::path& path, int flags = O_RDWR) {
  base::UniqueFd fd(::open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0644));
  REQUIRE_MESSAGE(fd.valid(), path.string(), ": errno ", errno);
  return fd;
}

void put(int fd, uint64_t offset, std::string_view text) {
  REQUIRE(::pwrite(fd, text.data(), text.size(), static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(text.size()));
}

uint64_t size_of_file(int fd) {
  struct stat attributes = {};
  REQUIRE(::fstat(fd, &attributes) == 0);
  return static_cast<uint64_t>(attributes.st_size);
}

TEST_CASE("fusefs write: a file is made, written and read back") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto path = mounted.at("files/new");
  const std::string text = pattern(3, 0, 5'000'000);
  {
    const base::UniqueFd fd = create(path, O_WRONLY | O_EXCL);
    put(fd.get(), 0, text);
    CHECK(size_of_file(fd.get()) == text.size());
  }
  CHECK(mounted.tree().written("files/new") == text);
  CHECK(std::filesystem::file_size(path) == text.size());
  CHECK(read_at(open_file(path).get(), 0, 6'000'000) == text);
  CHECK(error_of(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644)) == EEXIST);
  const base::UniqueFd direct = open_file(path, O_RDONLY | O_DIRECT);
  CHECK(read_at(direct.get(), 4096, 100'000) == text.substr(4096, 100'000));
}

TEST_CASE("fusefs write: large writes come in requests of 1 MiB") {
  if (!can_mount()) return;
  MountedTree mounted;
  const base::UniqueFd fd = create(mounted.at("files/new"));
  const std::string text(8 << 20, 'x');
  const uint64_t before = mounted.mount().stats().requests;
  put(fd.get(), 0, text);
  // One each, and what the kernel asks once: whether a write would take capabilities away.
  CHECK(mounted.mount().stats().requests - before <= 9);
  CHECK(mounted.mount().stats().bytes_in == text.size());
}

TEST_CASE("fusefs write: what a mount itself changed its kernel keeps") {
  if (!can_mount()) return;
  MountedTree mounted;
  SUBCASE("at once") {}
  SUBCASE("later") { mounted.tree().later().use(); }
  const auto requests = [&] { return mounted.mount().stats().requests; };
  const base::UniqueFd fd = create(mounted.at("files/f"));
  const std::string text = pattern(3, 0, 20 * kPageSize);
  put(fd.get(), 0, text);
  REQUIRE(::fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, 20 * kPageSize, kPageSize) == 0);
  put(fd.get(), 20 * kPageSize, text.substr(0, kPageSize));
  // A change that the kernel is told of comes behind all that it was not.
  REQUIRE_FALSE(std::filesystem::exists(mounted.at("files/told")));
  mounted.tree().add_file("files/told", 1, 1);
  REQUIRE(test::eventually([&] { return std::filesystem::exists(mounted.at("files/told")); }));
  const uint64_t before = requests();
  CHECK(read_at(fd.get(), 0, 20 * kPageSize) == text);
  CHECK(requests() == before);
}

TEST_CASE("fusefs write: a blob's bytes are there under what is written") {
  if (!can_mount()) return;
  MountedTree mounted;
  const uint64_t size = 3 * page::kExtentSize + 100;
  mounted.tree().add_stored_file("files/a", size, 7);
  std::string model = pattern(7, 0, size);
  const base::UniqueFd reader = open_file(mounted.at("files/a"));
  CHECK(read_at(reader.get(), 0, 5000) == model.substr(0, 5000));
  const base::UniqueFd writer = open_file(mounted.at("files/a"), O_WRONLY);
  CHECK(mounted.tree().written("files/a") == "nothing written");  // only a write begins it
  put(writer.get(), 1000, "something else");
  model.replace(1000, 14, "something else");
  CHECK(read_at(reader.get(), 0, 5000) == model.substr(0, 5000));
  CHECK(mounted.tree().written("files/a") == model);
  // It settles, and is written to again, while both have it open.
  mounted.tree().settle("files/a");
  CHECK(::posix_fadvise(reader.get(), 0, 0, POSIX_FADV_DONTNEED) == 0);
  CHECK(read_at(reader.get(), 0, 5000) == model.substr(0, 5000));
  put(writer.get(), size, "more");
  CHECK(mounted.tree().written("files/a") == model + "more");
}

TEST_CASE("fusefs write: O_TRUNC empties, truncate cuts and grows with zeros") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_stored_file("files/a", 10'000, 7);
  const std::string path = mounted.at("files/a").string();
  const base::UniqueFd fd = open_file(path, O_RDWR);
  CHECK(::ftruncate(fd.get(), 5000) == 0);
  CHECK(size_of_file(fd.get()) == 5000);
  CHECK(::truncate(path.c_str(), 9000) == 0);
  CHECK(size_of_file(fd.get()) == 9000);
  CHECK(read_at(fd.get(), 4990, 100) == pattern(7, 4990, 10) + std::string(90, '\0'));
  CHECK(read_at(fd.get(), 8999, 100) == std::string(1, '\0'));
  const base::UniqueFd emptied = open_file(path, O_WRONLY | O_TRUNC);
  CHECK(size_of_file(fd.get()) == 0);
  CHECK(read_at(fd.get(), 0, 100).empty());
  put(emptied.get(), 3, "x");
  CHECK(read_at(fd.get(), 0, 100) == std::string("\0\0\0x", 4));
  CHECK(error_of(::ftruncate(fd.get(), (off_t{1} << 43) + 1)) == EFBIG);
}

TEST_CASE("fusefs write: the times of a file that is written move on") {
  if (!can_mount()) return;
  MountedTree mounted;
  const base::UniqueFd fd = create(mounted.at("files/a"));
  struct stat before = {};
  REQUIRE(::fstat(fd.get(), &before) == 0);
  CHECK(test::eventually([&] {  // the clock may be coarse
    put(fd.get(), 0, "x");
    struct stat after = {};
    REQUIRE(::fstat(fd.get(), &after) == 0);
    return absl::TimeFromTimespec(after.st_mtim) > absl::TimeFromTimespec(before.st_mtim);
  }));
}

TEST_CASE("fusefs write: an open file is written and read when its names are gone") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto path = mounted.at("files/a");
  const base::UniqueFd fd = create(path);
  put(fd.get(), 0, "before");
  REQUIRE(::unlink(path.c_str()) == 0);
  put(fd.get(), 6, " and after");
  CHECK(read_at(fd.get(), 0, 100) == "before and after");
  struct stat attributes = {};
  REQUIRE(::fstat(fd.get(), &attributes) == 0);
  CHECK(attributes.st_nlink == 0);
  CHECK(attributes.st_size == 16);
  CHECK(::ftruncate(fd.get(), 6) == 0);
  CHECK(read_at(fd.get(), 0, 100) == "before");
  CHECK(::fsync(fd.get()) == 0);
}

TEST_CASE("fusefs write: a file that another one is renamed over stays what it is to who has it") {
  if (!can_mount()) return;
  MountedTree mounted;
  const base::UniqueFd old = create(mounted.at("files/a"));
  put(old.get(), 0, "old");
  const base::UniqueFd fresh = create(mounted.at("files/b"));
  put(fresh.get(), 0, "fresh");
  REQUIRE(::rename(mounted.at("files/b").c_str(), mounted.at("files/a").c_str()) == 0);
  put(old.get(), 3, "er");
  put(fresh.get(), 5, "er");
  CHECK(read_at(old.get(), 0, 100) == "older");
  CHECK(read_at(open_file(mounted.at("files/a")).get(), 0, 100) == "fresher");
}

TEST_CASE("fusefs write: what two processes append is all there, each piece whole") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto path = mounted.at("files/log");
  create(path);
  constexpr int kLines = 300;
  std::vector<pid_t> writers;
  for (const char* who : {"one", "two"}) {
    const pid_t writer = ::fork();
    REQUIRE(writer >= 0);
    if (writer == 0) {
      const int fd = ::open(path.c_str(), O_WRONLY | O_APPEND);
      bool all = fd >= 0;
      for (int i = 0; all && i < kLines; ++i) {
        const std::string line =
            std::string(who) + std::string(static_cast<size_t>(i % 50), '.') + "\n";
        all = ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size());
      }
      ::_exit(all ? 0 : 1);
    }
    writers.push_back(writer);
  }
  for (const pid_t writer : writers) {
    int status = 0;
    REQUIRE(::waitpid(writer, &status, 0) == writer);
    CHECK(WEXITSTATUS(status) == 0);
  }
  std::istringstream lines(mounted.tree().written("files/log"));
  std::multiset<std::string> seen;
  for (std::string line; std::getline(lines, line);) seen.insert(line);
  CHECK(seen.size() == 2 * kLines);
  for (int i = 0; i < 50; ++i) {
    const std::string dots(static_cast<size_t>(i), '.');
    CHECK(seen.count("one" + dots) == kLines / 50);
    CHECK(seen.count("two" + dots) == kLines / 50);
  }
}

TEST_CASE("fusefs write: what is appended with O_DSYNC is synced; flags may change") {
  if (!can_mount()) return;
  MountedTree mounted;
  const base::UniqueFd log = create(mounted.at("files/log"), O_WRONLY | O_APPEND | O_DSYNC);
  const tree::NodeId node = mounted.tree().resolve("files/log")->id;
  const tree::FileRef file = mounted.tree().files().open(node).value();
  const auto& image = dynamic_cast<FakeImage&>(*file->content().image);
  REQUIRE(::write(log.get(), "one", 3) == 3);
  CHECK(image.syncs() == 1);
  REQUIRE(::write(log.get(), "two", 3) == 3);
  CHECK(image.syncs() == 2);
  // It is a handle for direct I/O all the same.
  REQUIRE(::fcntl(log.get(), F_SETFL, 0) == 0);
  const base::UniqueFd reader = open_file(mounted.at("files/log"));
  CHECK(read_at(reader.get(), 0, 100) == "onetwo");
  put(log.get(), 2, "ET");
  CHECK(read_at(reader.get(), 0, 100) == "onETwo");
  CHECK(mounted.tree().written("files/log") == "onETwo");
  const base::UniqueFd plain = create(mounted.at("files/log"), O_WRONLY | O_APPEND);
  const uint64_t before = image.syncs();
  REQUIRE(::write(plain.get(), "three", 5) == 5);
  CHECK(image.syncs() == before);
  REQUIRE(::fsync(plain.get()) == 0);
  CHECK(image.syncs() == before + 1);
  CHECK(read_at(reader.get(), 0, 100) == "onETwothree");
}

TEST_CASE("fusefs write: a shared mapping and the file are one") {
  if (!can_mount()) return;
  MountedTree mounted;
  const uint64_t size = 5 * kPageSize + 10;
  mounted.tree().add_stored_file("files/a", size, 9);
  std::string model = pattern(9, 0, size);
  const base::UniqueFd fd = open_file(mounted.at("files/a"), O_RDWR);
  void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  REQUIRE(mapped != MAP_FAILED);
  char* bytes = static_cast<char*>(mapped);
  CHECK(std::string_view(bytes, size) == model);
  std::fill_n(bytes + 2 * kPageSize - 5, 10, 'm');
  model.replace(2 * kPageSize - 5, 10, std::string(10, 'm'));
  CHECK(read_at(fd.get(), 0, size) == model);
  CHECK(::msync(mapped, size, MS_SYNC) == 0);
  CHECK(mounted.tree().written("files/a") == model);
  put(fd.get(), 100, "through the call");
  CHECK(std::string_view(bytes + 100, 16) == "through the call");
  bytes[0] = 'u';  // written when it is unmapped
  ::munmap(mapped, size);
  model.replace(100, 16, "through the call");
  model[0] = 'u';
  CHECK(mounted.tree().written("files/a") == model);
}

TEST_CASE("fusefs write: a truncation under a reader shows him the end") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().later().use();
  const uint64_t size = 64 * kPageSize;
  const base::UniqueFd writer = create(mounted.at("files/a"));
  const base::UniqueFd reader = open_file(mounted.at("files/a"), O_RDONLY | O_DIRECT);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> wrong{0};
  std::thread reading([&] {
    alignas(4096) static char buffer[64 * kPageSize];
    while (!stop) {
      const ssize_t got = ::pread(reader.get(), buffer, sizeof(buffer), 0);
      if (got < 0) ++wrong;
      if (std::any_of(buffer, buffer + std::max<ssize_t>(got, 0),
                      [](char byte) { return byte != 'x' && byte != '\0'; })) {
        ++wrong;
      }
    }
  });
  for (uint64_t i = 0; i < 200; ++i) {
    put(writer.get(), 0, std::string(size, 'x'));
    CHECK(::ftruncate(writer.get(), static_cast<off_t>(i * 317 % size)) == 0);
  }
  stop = true;
  reading.join();
  CHECK(wrong == 0);
}

TEST_CASE("fusefs write: holes are punched, zeros made and space taken") {
  if (!can_mount()) return;
  MountedTree mounted;
  const base::UniqueFd fd = create(mounted.at("files/a"));
  const auto page = [](uint64_t number) { return static_cast<off_t>(number * kPageSize); };
  std::string model(20 * kPageSize, 'x');
  put(fd.get(), 0, model);
  CHECK(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page(4), page(2)) == 0);
  model.replace(4 * kPageSize, 2 * kPageSize, 2 * kPageSize, '\0');
  CHECK(::fallocate(fd.get(), FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, page(19) + 1, page(9)) ==
        0);
  model.replace(19 * kPageSize + 1, kPageSize - 1, kPageSize - 1, '\0');
  CHECK(size_of_file(fd.get()) == model.size());
  CHECK(read_at(fd.get(), 0, 1 << 20) == model);
  CHECK(::lseek(fd.get(), 0, SEEK_HOLE) == page(4));
  CHECK(::lseek(fd.get(), page(4), SEEK_DATA) == page(6));
  CHECK(::fallocate(fd.get(), 0, page(18), page(4)) == 0);  // what is there stays
  model.resize(22 * kPageSize, '\0');
  CHECK(read_at(fd.get(), 0, 1 << 20) == model);
  CHECK(::posix_fallocate(fd.get(), 0, page(23)) == 0);
  CHECK(size_of_file(fd.get()) == 23 * kPageSize);
  CHECK(::fallocate(fd.get(), FALLOC_FL_ZERO_RANGE, page(22), page(2)) == 0);
  CHECK(size_of_file(fd.get()) == 24 * kPageSize);
  CHECK(error_of(::fallocate(fd.get(), FALLOC_FL_KEEP_SIZE, page(30), page(1))) == EOPNOTSUPP);
  CHECK(error_of(::fallocate(fd.get(), FALLOC_FL_COLLAPSE_RANGE, 0, page(1))) == EOPNOTSUPP);
}

TEST_CASE("fusefs write: a range is copied, locks hold, unknown controls are refused") {
  if (!can_mount()) return;
  MountedTree mounted;
  const base::UniqueFd from = create(mounted.at("files/a"));
  const base::UniqueFd to = create(mounted.at("files/b"));
  const std::string text = pattern(5, 0, 100'000);
  put(from.get(), 0, text);
  off_t source = 0;
  off_t target = 0;
  while (::copy_file_range(from.get(), &source, to.get(), &target, text.size(), 0) > 0) {
  }
  CHECK(mounted.tree().written("files/b") == text);
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  CHECK(::fcntl(from.get(), F_SETLK, &lock) == 0);
}

TEST_CASE("fusefs write: random operations leave what the same ones leave in memory") {
  if (!can_mount()) return;
  for (const uint32_t seed : {1U, 2U, 3U}) {
    MountedTree mounted;
    if (seed != 1) mounted.tree().later().use();
    std::mt19937 random(seed);
    constexpr uint64_t kMost = 300'000;
    const auto below = [&random](uint64_t limit) { return random() % limit; };
    mounted.tree().add_stored_file("files/a", 70'000, seed);
    std::string model = pattern(seed, 0, 70'000);
    const base::UniqueFd fd = open_file(mounted.at("files/a"), O_RDWR);
    const base::UniqueFd direct = open_file(mounted.at("files/a"), O_RDWR | O_DIRECT);
    for (int i = 0; i < 400; ++i) {
      const uint64_t offset = below(kMost);
      const uint64_t length = 1 + below(20'000);
      const auto grow = [&model](uint64_t size) {
        if (model.size() < size) model.resize(size, '\0');
      };
      switch (below(6)) {
        case 0:
        case 1: {
          const std::string text = pattern(random(), 0, length);
          put(fd.get(), offset, text);
          grow(offset + length);
          model.replace(offset, length, text);
          break;
        }
        case 2:
          REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(offset)) == 0);
          model.resize(offset, '\0');
          break;
        case 3:
          REQUIRE(::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                              static_cast<off_t>(offset), static_cast<off_t>(length)) == 0);
          if (offset < model.size()) {
            const uint64_t cut = std::min(length, model.size() - offset);
            model.replace(offset, cut, cut, '\0');
          }
          break;
        case 4: {
          alignas(4096) static char buffer[4 * kPageSize];
          const uint64_t page = offset / kPageSize * kPageSize;
          std::fill_n(buffer, sizeof(buffer), static_cast<char>('a' + i % 26));
          REQUIRE(::pwrite(direct.get(), buffer, sizeof(buffer), static_cast<off_t>(page)) ==
                  sizeof(buffer));
          grow(page + sizeof(buffer));
          model.replace(page, sizeof(buffer), buffer, sizeof(buffer));
          break;
        }
        default:
          REQUIRE(read_at(fd.get(), offset, length) ==
                  (offset < model.size() ? model.substr(offset, length) : std::string()));
      }
      if (below(50) == 0 && mounted.tree().written("files/a") == model) {
        mounted.tree().settle("files/a");
      }
    }
    CHECK(size_of_file(fd.get()) == model.size());
    CHECK(read_at(fd.get(), 0, 2 * kMost) == model);
  }
}

}  // namespace
}  // namespace blobcache::fusefs
