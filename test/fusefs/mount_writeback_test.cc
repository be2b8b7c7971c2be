// Mounts whose kernel holds back what is written.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "store/tree/files.h"
#include "test/eventually.h"
#include "test/fusefs/fake_image.h"
#include "test/fusefs/mounted_tree.h"

namespace blobcache::fusefs {
namespace {

/// A mount of files/ with a writeback cache, beside one of everything.
struct WritebackMount {
  MountedTree all;
  TempDir dir;
  std::filesystem::path mountpoint = std::filesystem::canonical(dir.path());
  std::unique_ptr<Mount> mount;

  WritebackMount() {
    MountOptions options = MountedTree::options_for(mountpoint);
    options.subtree = "files";
    options.writeback_cache = true;
    auto started = Mount::start(options, all.tree(), nullptr);
    REQUIRE_MESSAGE(started.ok(), started.status().ToString());
    mount = *std::move(started);
  }

  [[nodiscard]] std::filesystem::path at(std::string_view path) const { return mountpoint / path; }
  [[nodiscard]] std::string arrived(const std::string& path) {
    return all.tree().written("files/" + path);
  }
};

base::UniqueFd open_new(const std::filesystem::path& path, int flags = O_RDWR) {
  base::UniqueFd fd(::open(path.c_str(), flags | O_CREAT | O_CLOEXEC, 0644));
  REQUIRE_MESSAGE(fd.valid(), path.string(), ": errno ", errno);
  return fd;
}

bool put_text(int fd, uint64_t offset, std::string_view text) {
  return ::pwrite(fd, text.data(), text.size(), static_cast<off_t>(offset)) ==
         static_cast<ssize_t>(text.size());
}

TEST_CASE("fusefs writeback: what is written is here when it is synced, or closed") {
  if (!can_mount()) return;
  WritebackMount mounted;
  base::UniqueFd fd = open_new(mounted.at("a"));
  REQUIRE(put_text(fd.get(), 0, "x"));
  const base::DoorStats before = mounted.mount->stats();
  std::string model;
  for (int i = 0; i < 1000; ++i) {
    const std::string line = "line " + std::to_string(i) + "\n";
    REQUIRE(put_text(fd.get(), model.size(), line));
    model += line;
  }
  CHECK(read_at(fd.get(), 0, 100'000) == model);
  CHECK(std::filesystem::file_size(mounted.at("a")) == model.size());
  REQUIRE(::fsync(fd.get()) == 0);
  CHECK(mounted.arrived("a") == model);
  // Whole pages, and few requests: none for each line.
  const base::DoorStats after = mounted.mount->stats();
  CHECK(after.bytes_in - before.bytes_in < 4 * model.size());
  CHECK(after.requests - before.requests < 100);
  REQUIRE(put_text(fd.get(), 3, "changed"));
  model.replace(3, 7, "changed");
  fd.reset();
  CHECK(mounted.arrived("a") == model);
  const base::UniqueFd other = open_file(mounted.all.at("files/a"));
  CHECK(read_at(other.get(), 0, 100'000) == model);
}

TEST_CASE("fusefs writeback: a handle that only writes changes parts of pages of what is here") {
  if (!can_mount()) return;
  WritebackMount mounted;
  std::string model = pattern(7, 0, 300'000);
  mounted.all.tree().add_file("files/a", model.size(), 7);
  {
    const base::UniqueFd fd = open_file(mounted.at("a"), O_WRONLY);
    for (const uint64_t offset : {uint64_t{5}, uint64_t{4090}, uint64_t{200'001}}) {
      REQUIRE(put_text(fd.get(), offset, "0123456789"));
      model.replace(offset, 10, "0123456789");
    }
  }
  CHECK(mounted.arrived("a") == model);
  {
    const base::UniqueFd fd = open_file(mounted.at("a"), O_WRONLY | O_APPEND);
    REQUIRE(::write(fd.get(), "end", 3) == 3);
    REQUIRE(::write(fd.get(), "!", 1) == 1);
  }
  CHECK(mounted.arrived("a") == model + "end!");
  CHECK(error_of(::truncate(mounted.at("a").c_str(), 10)) == 0);
  CHECK(mounted.arrived("a") == model.substr(0, 10));
  {
    const base::UniqueFd fd = open_file(mounted.at("a"), O_WRONLY | O_TRUNC);
  }
  CHECK(mounted.arrived("a").empty());
  CHECK(std::filesystem::file_size(mounted.at("a")) == 0);
}

TEST_CASE("fusefs writeback: what the kernel holds back is no hole, and is not without blocks") {
  if (!can_mount()) return;
  WritebackMount mounted;
  const base::UniqueFd fd = open_new(mounted.at("a"));
  REQUIRE(put_text(fd.get(), 1'000'000, "data"));
  CHECK(::lseek(fd.get(), 0, SEEK_DATA) <= 1'000'000);
  CHECK(::lseek(fd.get(), 1'000'000, SEEK_DATA) == 1'000'000);
  CHECK(::lseek(fd.get(), 1'000'000, SEEK_HOLE) == 1'000'004);
  CHECK(error_of(::lseek(fd.get(), 2'000'000, SEEK_DATA)) == ENXIO);
  struct stat attributes = {};
  REQUIRE(::fstat(fd.get(), &attributes) == 0);
  CHECK(attributes.st_blocks > 0);
  REQUIRE(::stat(mounted.at("a").c_str(), &attributes) == 0);
  CHECK(attributes.st_blocks > 0);
  CHECK(attributes.st_size == 1'000'004);
}

TEST_CASE(
    "fusefs writeback: an error is told by who syncs or closes, and nothing is lost silently") {
  if (!can_mount()) return;
  WritebackMount mounted;
  base::UniqueFd fd = open_new(mounted.at("a"));
  REQUIRE(::fsync(fd.get()) == 0);
  REQUIRE(put_text(fd.get(), 0, "text"));
  const tree::File::Content content =
      mounted.all.tree().files().open(mounted.all.tree().resolve("files/a")->id).value()->content();
  auto& image = dynamic_cast<FakeImage&>(*content.image);
  image.fail_with(absl::ResourceExhaustedError("full"));
  CHECK(error_of(::fsync(fd.get())) == ENOSPC);
  image.fail_with(absl::OkStatus());
  REQUIRE(put_text(fd.get(), 0, "again"));
  CHECK(::fsync(fd.get()) == 0);
  CHECK(mounted.arrived("a") == "again");
  REQUIRE(put_text(fd.get(), 0, "AGAIN"));
  image.fail_with(absl::ResourceExhaustedError("full"));
  CHECK(error_of(::close(fd.release())) == ENOSPC);
  image.fail_with(absl::OkStatus());
}

TEST_CASE("fusefs writeback: another mount takes away no page that is held back") {
  if (!can_mount()) return;
  WritebackMount mounted;
  const std::string old = pattern(9, 0, 100'000);
  mounted.all.tree().add_file("files/a", old.size(), 9);
  const base::UniqueFd here = open_file(mounted.at("a"), O_RDWR);
  const base::UniqueFd there = open_file(mounted.all.at("files/a"), O_RDWR);
  REQUIRE(put_text(here.get(), 50'000, "held back"));
  // Another page: the kernel is told of it, and writes what it holds before it forgets.
  REQUIRE(put_text(there.get(), 10, "told of"));
  std::string model = old;
  model.replace(50'000, 9, "held back");
  model.replace(10, 7, "told of");
  CHECK(test::eventually([&] { return read_at(here.get(), 10, 7) == "told of"; }));
  REQUIRE(::fsync(here.get()) == 0);
  CHECK(mounted.arrived("a") == model);
  CHECK(test::eventually([&] { return read_at(there.get(), 0, 200'000) == model; }));
}

TEST_CASE("fusefs writeback: unmounting takes what is held back, of open files, too") {
  if (!can_mount()) return;
  WritebackMount mounted;
  const base::UniqueFd fd = open_new(mounted.at("a"));
  const std::string text = pattern(2, 0, 200'000);
  REQUIRE(put_text(fd.get(), 0, text));
  mounted.mount->unmount();
  CHECK(mounted.arrived("a") == text);
}

TEST_CASE("fusefs writeback: a mapping, a rename and a removed name are as without it") {
  if (!can_mount()) return;
  WritebackMount mounted;
  const base::UniqueFd fd = open_new(mounted.at("a"));
  REQUIRE(::ftruncate(fd.get(), 10'000) == 0);
  void* const map = ::mmap(nullptr, 10'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  REQUIRE(map != MAP_FAILED);
  auto* const bytes = static_cast<char*>(map);
  bytes[9'999] = 'm';
  REQUIRE(put_text(fd.get(), 5000, "written"));
  CHECK(std::string(bytes + 5000, 7) == "written");
  REQUIRE(::rename(mounted.at("a").c_str(), mounted.at("b").c_str()) == 0);
  REQUIRE(::msync(map, 10'000, MS_SYNC) == 0);
  ::munmap(map, 10'000);
  std::string model(10'000, '\0');
  model[9'999] = 'm';
  model.replace(5000, 7, "written");
  CHECK(mounted.arrived("b") == model);
  REQUIRE(::fsync(fd.get()) == 0);
  REQUIRE(::unlink(mounted.at("b").c_str()) == 0);
  CHECK(read_at(fd.get(), 5000, 7) == "written");
}

TEST_CASE("fusefs writeback: there are no extended attributes") {
  if (!can_mount()) return;
  WritebackMount mounted;
  {
    const base::UniqueFd fd = open_new(mounted.at("a"));
  }
  const std::string path = mounted.at("a").string();
  char value[64];
  CHECK(error_of(::getxattr(path.c_str(), "user.blobcache.settled", value, sizeof(value))) ==
        EOPNOTSUPP);
  CHECK(error_of(::setxattr(path.c_str(), "user.blobcache.pinned", "1", 1, 0)) == EOPNOTSUPP);
  CHECK(::listxattr(path.c_str(), value, sizeof(value)) == 0);
  const std::string other = mounted.all.at("files/a").string();
  CHECK(::getxattr(other.c_str(), "user.blobcache.settled", value, sizeof(value)) == 1);
}

TEST_CASE("fusefs writeback: times are the program's") {
  if (!can_mount()) return;
  WritebackMount mounted;
  {
    const base::UniqueFd fd = open_new(mounted.at("a"));
    REQUIRE(put_text(fd.get(), 0, "text"));
    const timespec times[2] = {{1'000'000'000, 5}, {1'000'000'000, 5}};
    REQUIRE(::futimens(fd.get(), times) == 0);
  }
  struct stat attributes = {};
  REQUIRE(::stat(mounted.at("a").c_str(), &attributes) == 0);
  CHECK(attributes.st_mtim.tv_sec == 1'000'000'000);
  REQUIRE(::stat(mounted.all.at("files/a").c_str(), &attributes) == 0);
  CHECK(attributes.st_mtim.tv_sec == 1'000'000'000);
  CHECK(attributes.st_mtim.tv_nsec == 5);
}

TEST_CASE("fusefs writeback: only within files/, and where something can be written") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_directory("files/part");
  const TempDir other;
  MountOptions options = MountedTree::options_for(std::filesystem::canonical(other.path()));
  options.writeback_cache = true;
  for (const char* subtree : {"", "volumes", "blobs", "filesystem"}) {
    options.subtree = subtree;
    const absl::Status refused = Mount::start(options, mounted.tree(), nullptr).status();
    CHECK(absl::IsInvalidArgument(refused));
    CHECK(refused.message().find("only for a subtree of files/") != absl::string_view::npos);
  }
  options.subtree = "files/part";
  options.read_only = true;
  CHECK(absl::IsInvalidArgument(Mount::start(options, mounted.tree(), nullptr).status()));
  options.read_only = false;
  CHECK(Mount::start(options, mounted.tree(), nullptr).ok());
}

}  // namespace
}  // namespace blobcache::fusefs
