// Mounts that show a part of the tree, or show it to be read alone.

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/status.h"
#include "test/eventually.h"
#include "test/fusefs/mounted_tree.h"

namespace blobcache::fusefs {
namespace {

/// A mount of files/part, beside one of all. files/part has the file "a" and the directory "d".
struct PartMount {
  explicit PartMount(const std::function<void(MountOptions&)>& adjust = [](MountOptions&) {}) {
    part = all.tree().add_directory("files/part");
    all.tree().add_file("files/part/a", 5000, 3);
    all.tree().add_directory("files/part/d");
    all.tree().add_file("files/outside", 10, 4);
    MountOptions options = MountedTree::options_for(mountpoint);
    options.subtree = "files/part";
    adjust(options);
    mount = Mount::start(options, all.tree(), nullptr).value();
  }

  [[nodiscard]] std::filesystem::path at(std::string_view path) const { return mountpoint / path; }

  MountedTree all;
  tree::NodeId part = 0;
  TempDir dir;
  std::filesystem::path mountpoint = std::filesystem::canonical(dir.path());
  std::unique_ptr<Mount> mount;
};

struct stat part_stat(const std::filesystem::path& path) {
  struct stat out = {};
  REQUIRE_MESSAGE(::lstat(path.c_str(), &out) == 0, path.string(), ": errno ", errno);
  return out;
}

int part_error(const std::filesystem::path& path) {
  struct stat out = {};
  return error_of(::lstat(path.c_str(), &out));
}

void make_empty(const std::filesystem::path& path) {
  const base::UniqueFd fd(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
  REQUIRE_MESSAGE(fd.valid(), path.string(), ": errno ", errno);
}

/// What a listing says: names, and the inode numbers that go with them.
std::map<std::string, ino_t> part_entries(const std::filesystem::path& path) {
  std::map<std::string, ino_t> out;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), &::closedir);
  REQUIRE(directory != nullptr);
  while (const dirent* entry = ::readdir(directory.get())) out[entry->d_name] = entry->d_ino;
  return out;
}

/// Whether an open directory has no names to show, not even when it is asked anew.
bool read_nothing(int fd) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::fdopendir(::dup(fd)), &::closedir);
  if (directory == nullptr) return false;
  while (const dirent* entry = ::readdir(directory.get())) {
    if (entry->d_name[0] != '.') return false;
  }
  return true;
}

tree::NodeId id_of(PartMount& mounts, std::string_view path) {
  return mounts.all.tree().resolve(path).value().id;
}

TEST_CASE("fusefs subtree: a directory is the root, and nothing is above it") {
  if (!can_mount()) return;
  PartMount mounts;
  const auto entries = part_entries(mounts.mountpoint);
  CHECK(entries.size() == 4);  // ".", "..", "a", "d"
  CHECK(entries.at(".") == 1);
  CHECK(entries.at("a") == id_of(mounts, "files/part/a"));
  CHECK(entries.at("d") == id_of(mounts, "files/part/d"));
  CHECK(part_entries(mounts.at("d")).at(".") == id_of(mounts, "files/part/d"));
  const struct stat root = part_stat(mounts.mountpoint);
  CHECK(root.st_ino == 1);
  CHECK(S_ISDIR(root.st_mode));
  CHECK(part_stat(mounts.at("a")).st_ino == id_of(mounts, "files/part/a"));
  for (const char* above : {"files", "blobs", "outside", "part"}) {
    CHECK(part_error(mounts.at(above)) == ENOENT);
  }
  CHECK(part_stat(mounts.at("..")).st_dev != root.st_dev);
  CHECK(read_at(open_file(mounts.at("a")).get(), 0, 5000) == pattern(3, 0, 5000));
  struct statvfs space = {};
  CHECK(::statvfs(mounts.at("d").c_str(), &space) == 0);
}

TEST_CASE("fusefs subtree: names are changed in its root as anywhere") {
  if (!can_mount()) return;
  PartMount mounts;
  const auto in_tree = [&](std::string_view path) { return mounts.all.tree().resolve(path).ok(); };
  make_empty(mounts.at("new"));
  CHECK(::mkdir(mounts.at("e").c_str(), 0755) == 0);
  CHECK(::symlink("a", mounts.at("s").c_str()) == 0);
  CHECK(::link(mounts.at("new").c_str(), mounts.at("hard").c_str()) == 0);
  CHECK(::mknod(mounts.at("node").c_str(), S_IFREG | 0644, 0) == 0);
  for (const char* name : {"new", "e", "s", "hard", "node"}) {
    CAPTURE(name);
    CHECK(in_tree(std::string("files/part/") + name));
    CHECK(part_error(mounts.at(name)) == 0);
  }
  CHECK(::rename(mounts.at("new").c_str(), mounts.at("d/moved").c_str()) == 0);
  CHECK(::rename(mounts.at("d/moved").c_str(), mounts.at("back").c_str()) == 0);
  CHECK(::rename(mounts.at("back").c_str(), mounts.at("again").c_str()) == 0);
  CHECK(in_tree("files/part/again"));
  CHECK_FALSE(in_tree("files/part/d/moved"));
  CHECK(::unlink(mounts.at("s").c_str()) == 0);
  CHECK(::rmdir(mounts.at("e").c_str()) == 0);
  CHECK_FALSE(in_tree("files/part/s"));
  CHECK_FALSE(in_tree("files/part/e"));
  const base::UniqueFd root = open_file(mounts.mountpoint, O_RDONLY | O_DIRECTORY);
  CHECK(::fsync(root.get()) == 0);
  CHECK(mounts.all.tree().name_syncs() == 1);
}

TEST_CASE("fusefs subtree: its root has attributes of its own") {
  if (!can_mount()) return;
  PartMount mounts;
  CHECK(::chmod(mounts.mountpoint.c_str(), 0711) == 0);
  CHECK(part_stat(mounts.mountpoint).st_mode == (S_IFDIR | 0711));
  CHECK(part_stat(mounts.mountpoint).st_ino == 1);
  CHECK(mounts.all.tree().stat(mounts.part)->mode == 0711);
  CHECK(mounts.all.tree().stat(tree::kRootNode)->mode == 0755);
  CHECK(error_of(::getxattr(mounts.mountpoint.c_str(), "user.blobcache.digest", nullptr, 0)) ==
        ENODATA);
  CHECK(::listxattr(mounts.mountpoint.c_str(), nullptr, 0) == 0);
}

TEST_CASE("fusefs subtree: the kernel is told of names in its root that others change") {
  if (!can_mount()) return;
  PartMount mounts;
  const auto comes_to = [&](std::string_view name, int error) {
    return test::eventually([&] { return part_error(mounts.at(name)) == error; });
  };
  CHECK(part_error(mounts.at("later")) == ENOENT);
  const absl::Time before = absl::TimeFromTimespec(part_stat(mounts.mountpoint).st_mtim);
  make_empty(mounts.all.at("files/part/later"));
  CHECK(comes_to("later", 0));
  CHECK(test::eventually(
      [&] { return absl::TimeFromTimespec(part_stat(mounts.mountpoint).st_mtim) > before; }));
  REQUIRE(mounts.all.tree().remove("files/part/later").ok());
  CHECK(comes_to("later", ENOENT));
  // Of what lies elsewhere the kernel knows nothing, and it does no harm to tell it.
  REQUIRE(::mkdir(mounts.all.at("files/elsewhere").c_str(), 0755) == 0);
  CHECK(part_error(mounts.at("elsewhere")) == ENOENT);
}

TEST_CASE("fusefs subtree: more changes than can be told one by one hide none in its root") {
  if (!can_mount()) return;
  PartMount mounts;
  CHECK(part_error(mounts.at("late")) == ENOENT);
  CHECK(part_error(mounts.at("d/late")) == ENOENT);
  CHECK(read_at(open_file(mounts.at("a")).get(), 0, 5000) == pattern(3, 0, 5000));
  constexpr int kMany = 60'000;
  for (int i = 0; i < kMany; ++i) {
    mounts.all.tree().add_directory(std::string("volumes/") + std::to_string(i % 100));
    if (i != kMany / 2) continue;
    mounts.all.tree().add_directory("files/part/late");
    mounts.all.tree().add_directory("files/part/d/late");
    mounts.all.tree().add_file("files/part/a", 5000, 8);
  }
  CHECK(test::eventually([&] { return part_error(mounts.at("late")) == 0; }));
  CHECK(test::eventually([&] { return part_error(mounts.at("d/late")) == 0; }));
  CHECK(test::eventually(
      [&] { return read_at(open_file(mounts.at("a")).get(), 0, 5000) == pattern(8, 0, 5000); }));
}

TEST_CASE("fusefs subtree: the mount follows its directory, and is empty when that is removed") {
  if (!can_mount()) return;
  PartMount mounts;
  REQUIRE(::rename(mounts.all.at("files/part").c_str(), mounts.all.at("files/other").c_str()) == 0);
  REQUIRE(::mkdir(mounts.all.at("files/part").c_str(), 0755) == 0);
  CHECK(part_error(mounts.at("a")) == 0);
  REQUIRE(::mkdir(mounts.at("made").c_str(), 0755) == 0);
  CHECK(mounts.all.tree().resolve("files/other/made").ok());

  for (const char* name : {"made", "d"}) REQUIRE(::rmdir(mounts.at(name).c_str()) == 0);
  REQUIRE(::unlink(mounts.at("a").c_str()) == 0);
  const base::UniqueFd root = open_file(mounts.mountpoint, O_RDONLY | O_DIRECTORY);
  REQUIRE(::rmdir(mounts.all.at("files/other").c_str()) == 0);
  CHECK(part_error(mounts.at("a")) == ENOENT);
  CHECK(error_of(::mkdir(mounts.at("more").c_str(), 0755)) == ENOENT);
  CHECK(error_of(::open(mounts.mountpoint.c_str(), O_RDONLY | O_DIRECTORY)) == ESTALE);
  CHECK(read_nothing(root.get()));
  mounts.mount->unmount();
  CHECK(part_entries(mounts.mountpoint).size() == 2);
}

TEST_CASE("fusefs subtree: what is no directory of the tree is refused") {
  if (!can_mount()) return;
  PartMount mounts;
  REQUIRE(::symlink("part", mounts.all.at("files/link").c_str()) == 0);
  const TempDir other;
  MountOptions options = MountedTree::options_for(std::filesystem::canonical(other.path()));
  const auto refused = [&](const std::string& subtree) {
    options.subtree = subtree;
    return Mount::start(options, mounts.all.tree(), nullptr).status();
  };
  CHECK(refused("files/missing") ==
        absl::NotFoundError("subtree files/missing: there is no such directory in the tree"));
  CHECK(refused("files/outside") ==
        absl::FailedPreconditionError("subtree files/outside: it is not a directory"));
  CHECK(refused("files/link") ==
        absl::FailedPreconditionError(
            "subtree files/link: it is a symbolic link, which is not followed"));
  CHECK(part_entries(options.mountpoint).size() == 2);
}

TEST_CASE("fusefs subtree: it can be read-only, and without programs") {
  if (!can_mount()) return;
  const PartMount mounts([](MountOptions& options) {
    options.read_only = true;
    options.no_exec = true;
  });
  CHECK(error_of(::mkdir(mounts.at("e").c_str(), 0755)) == EROFS);
  CHECK(error_of(::open(mounts.at("a").c_str(), O_WRONLY | O_CLOEXEC)) == EROFS);
  struct statvfs flags = {};
  REQUIRE(::statvfs(mounts.mountpoint.c_str(), &flags) == 0);
  CHECK((flags.f_flag & ST_RDONLY) != 0);
  CHECK((flags.f_flag & ST_NOEXEC) != 0);
  REQUIRE(::statvfs(mounts.all.at("files").c_str(), &flags) == 0);
  CHECK((flags.f_flag & (ST_RDONLY | ST_NOEXEC)) == 0);
}

}  // namespace
}  // namespace blobcache::fusefs
