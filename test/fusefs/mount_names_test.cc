// Names that change under a mount whose timeouts are an hour, and all that a read-only mount
// refuses. What is changed through the mount: mount_edit_test.cc.

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "test/eventually.h"
#include "test/fusefs/mounted_tree.h"

namespace blobcache::fusefs {
namespace {

bool is_there(const std::filesystem::path& path) {
  struct stat attributes = {};
  return ::stat(path.c_str(), &attributes) == 0;
}

TEST_CASE("fusefs mount: a name bound anew opens at once with the new bytes") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_file("files/a", 5000, 1);
  const auto path = mounted.at("files/a");
  for (uint64_t seed = 1; seed < 50; ++seed) {
    const base::UniqueFd old = open_file(path);
    CHECK(read_at(old.get(), 0, 5000) == pattern(seed, 0, 5000));
    mounted.tree().add_file("files/a", 5000 + seed, seed + 1);
    // No waiting: an entry that the kernel has still is refused as stale, and it looks again.
    const base::UniqueFd fresh = open_file(path);
    CHECK(read_at(fresh.get(), 0, 9000) == pattern(seed + 1, 0, 5000 + seed));
    CHECK(read_at(old.get(), 4000, 1000) == pattern(seed, 4000, 1000));
  }
}

TEST_CASE(
    "fusefs mount: a removed name vanishes, a new name appears, though the kernel knew better") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_directory("files/d");
  CHECK_FALSE(is_there(mounted.at("files/d/a")));  // remembered for an hour
  mounted.tree().add_file("files/d/a", 10, 1);
  CHECK(test::eventually([&] { return is_there(mounted.at("files/d/a")); }));
  REQUIRE(mounted.tree().remove("files/d/a").ok());
  CHECK(test::eventually([&] { return !is_there(mounted.at("files/d/a")); }));
  mounted.tree().add_file("blobs/b", 10, 1);
  CHECK(test::eventually([&] { return is_there(mounted.at("blobs/b")); }));
  REQUIRE(mounted.tree().remove("blobs/b").ok());
  CHECK(test::eventually([&] { return !is_there(mounted.at("blobs/b")); }));
  REQUIRE(mounted.tree().remove("files/d").ok());
  CHECK(test::eventually([&] { return !is_there(mounted.at("files/d")); }));
}

TEST_CASE("fusefs mount: more changes than the queue holds leave nothing stale") {
  if (!can_mount()) return;
  MountedTree mounted;
  constexpr int kNames = 200;
  mounted.tree().add_directory("files/d");
  for (int i = 0; i < kNames; ++i) {
    mounted.tree().add_file(fmt::format("files/d/{}", i), 10, 1);
    REQUIRE(is_there(mounted.at(fmt::format("files/d/{}", i))));
  }
  for (int round = 0; round < 100; ++round) {
    for (int i = 0; i < kNames; ++i) {
      mounted.tree().add_file(fmt::format("files/d/{}", i), 11 + static_cast<uint64_t>(round), 1);
    }
  }
  for (int i = 0; i < kNames; ++i) {
    CHECK(test::eventually([&] {
      return std::filesystem::file_size(mounted.at(fmt::format("files/d/{}", i))) == 110;
    }));
  }
}

TEST_CASE("fusefs mount: an open file outlives its name") {
  if (!can_mount()) return;
  MountedTree mounted;
  const tree::NodeId id = mounted.tree().add_stored_file("files/a", 100'000, 8);
  const base::UniqueFd fd = open_file(mounted.at("files/a"));
  CHECK(mounted.mount().stats().open == 1);
  REQUIRE(mounted.tree().remove("files/a").ok());
  REQUIRE(test::eventually([&] { return !is_there(mounted.at("files/a")); }));
  CHECK(read_at(fd.get(), 0, 100'000) == pattern(8, 0, 100'000));
  struct stat attributes = {};
  REQUIRE(::fstat(fd.get(), &attributes) == 0);
  CHECK(attributes.st_ino == id);
  CHECK(attributes.st_size == 100'000);
  char value[128];
  CHECK(::fgetxattr(fd.get(), "user.blobcache.tier", value, sizeof(value)) > 0);
}

TEST_CASE("fusefs mount: names that cannot be") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_file("files/a", 1, 1);
  struct stat attributes = {};
  const auto stat_error = [&](const std::string& path) {
    return error_of(::stat(mounted.at(path).c_str(), &attributes));
  };
  CHECK(stat_error("files/" + std::string(255, 'x')) == ENOENT);
  CHECK(stat_error("files/" + std::string(256, 'x')) == ENAMETOOLONG);
  CHECK(stat_error("files/a/beneath") == ENOTDIR);
  CHECK(stat_error("nowhere/at/all") == ENOENT);
  CHECK(error_of(::open(mounted.at("files/a").c_str(), O_RDONLY | O_DIRECTORY)) == ENOTDIR);
}

void refuses_all_writes(MountedTree& mounted) {
  const std::string file = mounted.at("files/a").string();
  const std::string fresh = mounted.at("files/new").string();
  const std::string directory = mounted.at("files").string();
  const timeval times[2] = {};
  struct statvfs system = {};
  REQUIRE(::statvfs(file.c_str(), &system) == 0);
  CHECK(system.f_bavail == 0);
  CHECK(error_of(::open(file.c_str(), O_WRONLY)) == EROFS);
  CHECK(error_of(::open(file.c_str(), O_RDWR)) == EROFS);
  CHECK(error_of(::open(file.c_str(), O_RDONLY | O_TRUNC)) == EROFS);
  CHECK(error_of(::open(fresh.c_str(), O_CREAT | O_WRONLY, 0644)) == EROFS);
  CHECK(error_of(::truncate(file.c_str(), 0)) == EROFS);
  CHECK(error_of(::chmod(file.c_str(), 0600)) == EROFS);
  CHECK(error_of(::chown(file.c_str(), 1, 1)) == EROFS);
  CHECK(error_of(::utimes(file.c_str(), times)) == EROFS);
  CHECK(error_of(::mkdir(fresh.c_str(), 0755)) == EROFS);
  CHECK(error_of(::rmdir(directory.c_str())) == EROFS);
  CHECK(error_of(::unlink(file.c_str())) == EROFS);
  CHECK(error_of(::rename(file.c_str(), fresh.c_str())) == EROFS);
  CHECK(error_of(::link(file.c_str(), fresh.c_str())) == EROFS);
  CHECK(error_of(::symlink("a", fresh.c_str())) == EROFS);
  CHECK(error_of(::mknod(fresh.c_str(), S_IFREG | 0644, 0)) == EROFS);
  CHECK(error_of(::setxattr(file.c_str(), "user.x", "1", 1, 0)) == EROFS);
  CHECK(error_of(::removexattr(file.c_str(), "user.blobcache.digest")) == EROFS);
  CHECK(is_there(file));
  CHECK_FALSE(is_there(fresh));
}

TEST_CASE("fusefs mount: nothing can be written through one that is read-only") {
  if (!can_mount()) return;
  MountedTree mounted([](MountOptions& options) { options.read_only = true; });
  mounted.tree().add_file("files/a", 1, 1);
  refuses_all_writes(mounted);
}

TEST_CASE("fusefs mount: nor when somebody makes the mount writable") {
  if (!can_mount()) return;
  MountedTree mounted([](MountOptions& options) { options.read_only = true; });
  mounted.tree().add_file("files/a", 1, 1);
  if (::mount(nullptr, mounted.at("").c_str(), nullptr, MS_REMOUNT | MS_NOSUID | MS_NODEV,
              nullptr) != 0) {
    MESSAGE("the kernel does not let it be made writable");
    return;
  }
  refuses_all_writes(mounted);
}

}  // namespace
}  // namespace blobcache::fusefs
