// One tree under two mounts, and many threads: what is changed through one is seen through the
// other, though its kernel remembers for an hour.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "store/page/geometry.h"
#include "test/eventually.h"
#include "test/fusefs/mounted_tree.h"

namespace blobcache::fusefs {
namespace {

using page::kPageSize;

/// A second mount of the same tree.
struct TwoMounts {
  MountedTree first;
  TempDir dir;
  std::filesystem::path mountpoint = std::filesystem::canonical(dir.path());
  std::unique_ptr<Mount> second =
      Mount::start(MountedTree::options_for(mountpoint), first.tree(), nullptr).value();

  [[nodiscard]] std::filesystem::path here(std::string_view path) const { return first.at(path); }
  [[nodiscard]] std::filesystem::path there(std::string_view path) const {
    return mountpoint / path;
  }
};

base::UniqueFd shared_file(const std::filesystem::path& path) {
  base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  REQUIRE_MESSAGE(fd.valid(), path.string(), ": errno ", errno);
  return fd;
}

bool writes(int fd, uint64_t offset, std::string_view text) {
  return ::pwrite(fd, text.data(), text.size(), static_cast<off_t>(offset)) ==
         static_cast<ssize_t>(text.size());
}

int stat_error_of(const std::filesystem::path& path) {
  struct stat attributes = {};
  return error_of(::lstat(path.c_str(), &attributes));
}

TEST_CASE("fusefs two mounts: names that change through one change in the other") {
  if (!can_mount()) return;
  const TwoMounts mounts;
  const auto gone = [&](std::string_view path) {
    return test::eventually([&] { return stat_error_of(mounts.there(path)) == ENOENT; });
  };
  const auto is_there = [&](std::string_view path) {
    return test::eventually([&] { return stat_error_of(mounts.there(path)) == 0; });
  };
  for (int round = 0; round < 20; ++round) {
    CHECK(stat_error_of(mounts.there("files/d")) == ENOENT);
    REQUIRE(::mkdir(mounts.here("files/d").c_str(), 0755) == 0);
    CHECK(is_there("files/d"));
    CHECK(stat_error_of(mounts.there("files/d/f")) == ENOENT);
    shared_file(mounts.here("files/d/f"));
    CHECK(is_there("files/d/f"));
    REQUIRE(::rename(mounts.here("files/d/f").c_str(), mounts.here("files/d/g").c_str()) == 0);
    CHECK(gone("files/d/f"));
    CHECK(is_there("files/d/g"));
    REQUIRE(::unlink(mounts.here("files/d/g").c_str()) == 0);
    CHECK(gone("files/d/g"));
    REQUIRE(::rmdir(mounts.here("files/d").c_str()) == 0);
    CHECK(gone("files/d"));
  }
}

TEST_CASE("fusefs two mounts: bytes that change through one change in the other") {
  if (!can_mount()) return;
  TwoMounts mounts;
  SUBCASE("at once") {}
  SUBCASE("later") { mounts.first.tree().later().use(); }
  const uint64_t size = 20 * kPageSize;
  std::string model(size, 'a');
  const base::UniqueFd writer = shared_file(mounts.here("files/f"));
  REQUIRE(writes(writer.get(), 0, model));
  const base::UniqueFd reader = open_file(mounts.there("files/f"));
  void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, reader.get(), 0);
  REQUIRE(mapped != MAP_FAILED);
  REQUIRE(std::string_view(static_cast<char*>(mapped), size) == model);
  for (uint64_t round = 0; round < 50; ++round) {
    const uint64_t offset = round * 1117 % (size - 3000);
    const std::string text(3000, static_cast<char>('b' + round % 20));
    REQUIRE(writes(writer.get(), offset, text));
    model.replace(offset, text.size(), text);
    CHECK(test::eventually([&] { return read_at(reader.get(), 0, size) == model; }));
    CHECK(std::string_view(static_cast<char*>(mapped), size) == model);
  }
  ::munmap(mapped, size);
  REQUIRE(::ftruncate(writer.get(), 5000) == 0);
  const auto seen = [&] {
    struct stat attributes = {};
    REQUIRE(::fstat(reader.get(), &attributes) == 0);
    return attributes.st_size;
  };
  CHECK(test::eventually([&] { return seen() == 5000; }));
  REQUIRE(::ftruncate(writer.get(), static_cast<off_t>(size)) == 0);
  CHECK(test::eventually([&] { return seen() == static_cast<off_t>(size); }));
  CHECK(test::eventually([&] {
    return read_at(reader.get(), 0, size) == model.substr(0, 5000) + std::string(size - 5000, '\0');
  }));
}

TEST_CASE("fusefs two mounts: what one appends goes behind what the other appended") {
  if (!can_mount()) return;
  const TwoMounts mounts;
  shared_file(mounts.here("files/log"));
  const base::UniqueFd here = open_file(mounts.here("files/log"), O_RDWR | O_APPEND);
  const base::UniqueFd there = open_file(mounts.there("files/log"), O_RDWR | O_APPEND);
  std::string model;
  for (int i = 0; i < 100; ++i) {
    const std::string line = fmt::format("line {}\n", i);
    const int fd = i % 3 == 0 ? here.get() : there.get();
    REQUIRE(::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
    model += line;
  }
  CHECK(test::eventually([&] { return read_at(here.get(), 0, 10'000) == model; }));
  CHECK(test::eventually([&] { return read_at(there.get(), 0, 10'000) == model; }));
}

TEST_CASE("fusefs two mounts: what several append through both at once is all there, and whole") {
  if (!can_mount()) return;
  TwoMounts mounts;
  shared_file(mounts.here("files/log"));
  constexpr int kWriters = 4;
  constexpr int kRecords = 200;
  std::vector<std::thread> writers;
  std::atomic<int> failed{0};
  for (int writer = 0; writer < kWriters; ++writer) {
    const std::filesystem::path path =
        writer % 2 == 0 ? mounts.here("files/log") : mounts.there("files/log");
    writers.emplace_back([&failed, path, writer] {
      const base::UniqueFd file = open_file(path, O_WRONLY | O_APPEND);
      for (int i = 0; i < kRecords; ++i) {
        const std::string text(static_cast<size_t>(i * 37 % 9000), static_cast<char>('a' + writer));
        const std::string record = fmt::format("<{} {} {}>", writer, i, text);
        if (::write(file.get(), record.data(), record.size()) !=
            static_cast<ssize_t>(record.size())) {
          ++failed;
        }
      }
    });
  }
  for (std::thread& writer : writers) writer.join();
  CHECK(failed == 0);
  const std::string all = mounts.first.tree().written("files/log");
  size_t size = 0;
  for (int writer = 0; writer < kWriters; ++writer) {
    for (int i = 0; i < kRecords; ++i) {
      const std::string text(static_cast<size_t>(i * 37 % 9000), static_cast<char>('a' + writer));
      const std::string record = fmt::format("<{} {} {}>", writer, i, text);
      size += record.size();
      CHECK(all.find(record) != std::string::npos);
    }
  }
  CHECK(all.size() == size);
  // And both kernels come to see just that.
  for (const std::filesystem::path& path : {mounts.here("files/log"), mounts.there("files/log")}) {
    const base::UniqueFd reader = open_file(path);
    CHECK(test::eventually([&] { return read_at(reader.get(), 0, size + 1) == all; }));
  }
}

TEST_CASE("fusefs two mounts: no reader sees anything else where something was appended") {
  if (!can_mount()) return;
  TwoMounts mounts;
  shared_file(mounts.here("files/log"));
  const base::UniqueFd here = open_file(mounts.here("files/log"), O_WRONLY | O_APPEND);
  const base::UniqueFd there = open_file(mounts.there("files/log"), O_WRONLY | O_APPEND);
  const base::UniqueFd reader = open_file(mounts.here("files/log"));
  // Fills the cache with the last page as it is at that moment, over and over.
  std::atomic<bool> ended{false};
  std::thread fills([&] {
    const base::UniqueFd own = open_file(mounts.here("files/log"));
    while (!ended) {
      struct stat attributes = {};
      if (::fstat(own.get(), &attributes) != 0) return;
      const auto size = static_cast<uint64_t>(attributes.st_size);
      static_cast<void>(read_at(own.get(), size - std::min<uint64_t>(size, 100), 8192));
    }
  });
  std::string model;
  int wrong = 0;
  for (int i = 0; i < 1500; ++i) {
    const std::string line(static_cast<size_t>(1 + i % 700), static_cast<char>('a' + i % 26));
    const int fd = i % 3 == 0 ? there.get() : here.get();
    REQUIRE(::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
    model += line;
    if (i % 3 == 0) continue;
    // What this mount wrote, and where that is.
    const uint64_t at = model.size() - line.size();
    // (Told of the other's at that moment, a kernel may go by a former length once more.)
    if (!line.starts_with(read_at(reader.get(), at, line.size() + 100))) ++wrong;
    CHECK(test::eventually([&] { return read_at(reader.get(), at, line.size() + 100) == line; }));
  }
  ended = true;
  fills.join();
  CHECK(wrong == 0);
  CHECK(mounts.first.tree().written("files/log") == model);
}

TEST_CASE("fusefs two mounts: a name that both make is made by one") {
  if (!can_mount()) return;
  const TwoMounts mounts;
  for (int round = 0; round < 50; ++round) {
    const std::string name = fmt::format("files/{}", round);
    // Both kernels know that there is no such name.
    CHECK(stat_error_of(mounts.here(name)) == ENOENT);
    CHECK(stat_error_of(mounts.there(name)) == ENOENT);
    std::atomic<int> made{0};
    std::atomic<int> opened{0};
    const auto make = [&](const std::filesystem::path& path) {
      const base::UniqueFd fd(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0644));
      if (fd.valid()) ++made;
      const base::UniqueFd again(::open(path.c_str(), O_CREAT | O_WRONLY, 0644));
      if (again.valid()) ++opened;
    };
    std::thread other([&] { make(mounts.there(name)); });
    make(mounts.here(name));
    other.join();
    CHECK(made == 1);
    CHECK(opened == 2);
  }
}

/// What one of many threads does with a few files that all of them have: each writes whole pages of
/// one byte, and no page may ever be of two.
void mix(const TwoMounts& mounts, uint32_t seed, std::atomic<uint64_t>& wrong) {
  constexpr int kRounds = 60;
  std::mt19937 random(seed);
  std::string page(kPageSize, static_cast<char>('A' + seed % 26));
  std::string buffer(kPageSize, '\0');
  for (int i = 0; i < kRounds; ++i) {
    const std::string name = fmt::format("files/shared-{}", random() % 8);
    const auto path = random() % 2 == 0 ? mounts.here(name) : mounts.there(name);
    const base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!fd.valid()) {
      if (errno != ENOENT && errno != ESTALE && errno != EEXIST) ++wrong;
      continue;
    }
    const auto offset = static_cast<off_t>(random() % 16 * kPageSize);
    switch (random() % 8) {
      case 0:
        if (::ftruncate(fd.get(), offset) != 0) ++wrong;
        break;
      case 1:
        ::unlink(path.c_str());
        break;
      case 2:
        ::rename(path.c_str(), mounts.here("files/shared-0").c_str());
        break;
      case 3:
        if (::fsync(fd.get()) != 0) ++wrong;
        break;
      case 4:
      case 5:
        if (::pwrite(fd.get(), page.data(), kPageSize, offset) != kPageSize) ++wrong;
        break;
      default: {
        const ssize_t got = ::pread(fd.get(), buffer.data(), kPageSize, offset);
        if (got < 0 || got % static_cast<ssize_t>(kPageSize) != 0) ++wrong;
        if (got > 0 && buffer.find_first_not_of(buffer[0]) != std::string::npos) ++wrong;
      }
    }
  }
}

TEST_CASE("fusefs two mounts: many threads do everything at once") {
  if (!can_mount()) return;
  TwoMounts mounts;
  mounts.first.tree().later().use();
  std::atomic<uint64_t> wrong{0};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 64; ++i) {
    threads.emplace_back([&mounts, &wrong, i] { mix(mounts, i, wrong); });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong == 0);
  CHECK(test::eventually(
      [&] { return mounts.first.mount().stats().open == 0 && mounts.second->stats().open == 0; }));
  for (const auto& entry : std::filesystem::directory_iterator(mounts.here("files"))) {
    CHECK(std::filesystem::remove(entry.path()));
  }
}

}  // namespace
}  // namespace blobcache::fusefs
