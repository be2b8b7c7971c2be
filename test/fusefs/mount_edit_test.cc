// Names and attributes that are changed through a mount.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "test/fusefs/mounted_tree.h"

namespace blobcache::fusefs {
namespace {

struct stat attributes_at(const std::filesystem::path& path) {
  struct stat out = {};
  REQUIRE_MESSAGE(::lstat(path.c_str(), &out) == 0, path.string(), ": errno ", errno);
  return out;
}

int lstat_error(const std::filesystem::path& path) {
  struct stat out = {};
  return error_of(::lstat(path.c_str(), &out));
}

void make_file(const std::filesystem::path& path, std::string_view text) {
  const base::UniqueFd fd(::open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
  REQUIRE(fd.valid());
  REQUIRE(::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

std::string text_at(const std::filesystem::path& path) {
  return read_at(open_file(path).get(), 0, 4096);
}

TEST_CASE("fusefs edit: directories are made and removed") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto directory = mounted.at("files/d");
  CHECK(::mkdir(directory.c_str(), 0750) == 0);
  CHECK(attributes_at(directory).st_mode == (S_IFDIR | 0750));
  CHECK(error_of(::mkdir(directory.c_str(), 0750)) == EEXIST);
  CHECK(::mkdir((directory / "e").c_str(), 0755) == 0);
  CHECK(error_of(::rmdir(directory.c_str())) == ENOTEMPTY);
  CHECK(error_of(::unlink(directory.c_str())) == EISDIR);
  CHECK(::rmdir((directory / "e").c_str()) == 0);
  CHECK(::rmdir(directory.c_str()) == 0);
  CHECK(lstat_error(directory) == ENOENT);
  CHECK(error_of(::rmdir(directory.c_str())) == ENOENT);
  CHECK_FALSE(mounted.tree().resolve("files/d").ok());
}

TEST_CASE("fusefs edit: what is made belongs to who makes it, or to the directory's group") {
  if (!can_mount()) return;
  MountedTree mounted([](MountOptions& options) { options.allow_other = true; });
  const auto open_to_all = mounted.at("files/all");
  const auto shared = mounted.at("files/shared");
  REQUIRE(::mkdir(open_to_all.c_str(), 0755) == 0);
  REQUIRE(::chmod(open_to_all.c_str(), 0777) == 0);
  REQUIRE(::mkdir(shared.c_str(), 0755) == 0);
  REQUIRE(::chown(shared.c_str(), 0, 77) == 0);
  REQUIRE(::chmod(shared.c_str(), 02777) == 0);
  std::filesystem::permissions(mounted.mount().mountpoint().parent_path(),
                               std::filesystem::perms(0755));
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::setgid(55) != 0 || ::setuid(44) != 0) ::_exit(1);
    ::umask(027);
    const int fd = ::open((open_to_all / "f").c_str(), O_CREAT | O_WRONLY, 0666);
    if (fd < 0 || ::mkdir((open_to_all / "d").c_str(), 0777) != 0) ::_exit(2);
    if (::mkdir((shared / "d").c_str(), 0777) != 0) ::_exit(3);
    // Where he may not write nothing is made, and what is another's stays as it is.
    if (::mkdir(mounted.at("files/no").c_str(), 0777) == 0 || errno != EACCES) ::_exit(4);
    if (::chmod(open_to_all.c_str(), 0700) == 0 || errno != EPERM) ::_exit(5);
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(attributes_at(open_to_all / "f").st_mode == (S_IFREG | 0640));
  CHECK(attributes_at(open_to_all / "f").st_uid == 44);
  CHECK(attributes_at(open_to_all / "f").st_gid == 55);
  CHECK(attributes_at(open_to_all / "d").st_mode == (S_IFDIR | 0750));
  CHECK(attributes_at(shared / "d").st_gid == 77);
  CHECK(attributes_at(shared / "d").st_mode == (S_IFDIR | S_ISGID | 0750));
}

TEST_CASE("fusefs edit: symbolic links say what they were told, and lead there") {
  if (!can_mount()) return;
  MountedTree mounted;
  make_file(mounted.at("files/a"), "text");
  const std::string far(4000, 'x');
  CHECK(::symlink("a", mounted.at("files/near").c_str()) == 0);
  CHECK(::symlink(far.c_str(), mounted.at("files/far").c_str()) == 0);
  CHECK(attributes_at(mounted.at("files/near")).st_mode == (S_IFLNK | 0777));
  CHECK(attributes_at(mounted.at("files/far")).st_size == 4000);
  CHECK(std::filesystem::read_symlink(mounted.at("files/near")) == "a");
  CHECK(std::filesystem::read_symlink(mounted.at("files/far")).string() == far);
  CHECK(text_at(mounted.at("files/near")) == "text");
  CHECK(error_of(::symlink("b", mounted.at("files/near").c_str())) == EEXIST);
  CHECK(::unlink(mounted.at("files/near").c_str()) == 0);
  CHECK(text_at(mounted.at("files/a")) == "text");
}

TEST_CASE("fusefs edit: hard links are one file") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto first = mounted.at("files/a");
  const auto second = mounted.at("files/b");
  make_file(first, "text");
  CHECK(::link(first.c_str(), second.c_str()) == 0);
  CHECK(attributes_at(first).st_nlink == 2);
  CHECK(attributes_at(first).st_ino == attributes_at(second).st_ino);
  REQUIRE(::truncate(second.c_str(), 2) == 0);
  CHECK(text_at(first) == "te");
  CHECK(::unlink(first.c_str()) == 0);
  CHECK(attributes_at(second).st_nlink == 1);
  CHECK(text_at(second) == "te");
  CHECK(error_of(::link(mounted.at("files").c_str(), first.c_str())) == EPERM);
}

TEST_CASE("fusefs edit: renaming replaces, refuses or exchanges") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto a = mounted.at("files/a");
  const auto b = mounted.at("files/b");
  const auto d = mounted.at("files/d");
  make_file(a, "a");
  make_file(b, "b");
  REQUIRE(::mkdir(d.c_str(), 0755) == 0);
  const auto rename_error = [](const auto& from, const auto& to, unsigned flags) {
    return error_of(::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags));
  };
  CHECK(rename_error(a, b, RENAME_NOREPLACE) == EEXIST);
  CHECK(rename_error(a, b, RENAME_EXCHANGE) == 0);
  CHECK(text_at(a) == "b");
  CHECK(text_at(b) == "a");
  CHECK(rename_error(a, d, 0) == EISDIR);
  CHECK(rename_error(d, a, 0) == ENOTDIR);
  CHECK(rename_error(a, d, RENAME_EXCHANGE) == 0);
  CHECK(S_ISDIR(attributes_at(a).st_mode));
  CHECK(rename_error(a, a / "beneath", 0) == EINVAL);
  CHECK(rename_error(d, b, 0) == 0);
  CHECK(text_at(b) == "b");
  CHECK(lstat_error(d) == ENOENT);
  CHECK(rename_error(b, a / "moved", 0) == 0);
  CHECK(text_at(a / "moved") == "b");
  CHECK(rename_error(mounted.at("files/none"), b, 0) == ENOENT);
  CHECK(rename_error(a / "moved", mounted.at("files/") / std::string(256, 'x'), 0) == ENAMETOOLONG);
}

TEST_CASE("fusefs edit: a directory moves with all that is in it") {
  if (!can_mount()) return;
  MountedTree mounted;
  std::filesystem::create_directories(mounted.at("files/a/b/c"));
  make_file(mounted.at("files/a/b/c/f"), "deep");
  REQUIRE(::rename(mounted.at("files/a/b").c_str(), mounted.at("files/z").c_str()) == 0);
  CHECK(text_at(mounted.at("files/z/c/f")) == "deep");
  CHECK(lstat_error(mounted.at("files/a/b")) == ENOENT);
  CHECK(std::filesystem::remove_all(mounted.at("files/z")) == 3);
}

TEST_CASE("fusefs edit: modes, owners and times are set") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto path = mounted.at("files/a");
  make_file(path, "text");
  CHECK(::chmod(path.c_str(), 04751) == 0);
  CHECK(attributes_at(path).st_mode == (S_IFREG | 04751));
  CHECK(::chown(path.c_str(), 12, 34) == 0);
  CHECK(attributes_at(path).st_uid == 12);
  CHECK(attributes_at(path).st_gid == 34);
  CHECK(attributes_at(path).st_mode == (S_IFREG | 0751));  // who is given a file gets no rights
  const std::array<timespec, 2> times = {timespec{5, 6}, timespec{1'000'000'007, 8}};
  CHECK(::utimensat(AT_FDCWD, path.c_str(), times.data(), 0) == 0);
  CHECK(attributes_at(path).st_mtim.tv_sec == 1'000'000'007);
  CHECK(attributes_at(path).st_mtim.tv_nsec == 8);
  const std::array<timespec, 2> now = {timespec{0, UTIME_OMIT}, timespec{0, UTIME_NOW}};
  CHECK(::utimensat(AT_FDCWD, path.c_str(), now.data(), 0) == 0);
  CHECK(absl::AbsDuration(absl::TimeFromTimespec(attributes_at(path).st_mtim) - absl::Now()) <
        absl::Minutes(1));
  const base::UniqueFd fd = open_file(path, O_RDWR);
  CHECK(::fchmod(fd.get(), 0600) == 0);
  struct stat open_attributes = {};
  REQUIRE(::fstat(fd.get(), &open_attributes) == 0);
  CHECK(open_attributes.st_mode == (S_IFREG | 0600));
  CHECK(::chmod(mounted.at("files").c_str(), 0700) == 0);
  CHECK(attributes_at(mounted.at("files")).st_mode == (S_IFDIR | 0700));
}

TEST_CASE("fusefs edit: a write by somebody else takes the set-user-ID away") {
  if (!can_mount()) return;
  MountedTree mounted([](MountOptions& options) { options.allow_other = true; });
  std::filesystem::permissions(mounted.mount().mountpoint().parent_path(),
                               std::filesystem::perms(0755));
  const auto path = mounted.at("files/a");
  make_file(path, "text");
  for (const int flags : {O_WRONLY, O_WRONLY | O_APPEND}) {
    REQUIRE(::chmod(path.c_str(), 04777) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      if (::setuid(44) != 0) ::_exit(1);
      const int fd = ::open(path.c_str(), flags);
      ::_exit(::write(fd, "T", 1) == 1 ? 0 : 2);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WEXITSTATUS(status) == 0);
    CHECK(text_at(path) == (flags == O_WRONLY ? "Text" : "TextT"));
    CHECK(attributes_at(path).st_mode == (S_IFREG | 0777));
  }
}

TEST_CASE("fusefs edit: nodes that are no files are made nowhere, empty files are") {
  if (!can_mount()) return;
  MountedTree mounted;
  CHECK(::mknod(mounted.at("files/a").c_str(), S_IFREG | 0640, 0) == 0);
  CHECK(attributes_at(mounted.at("files/a")).st_mode == (S_IFREG | 0640));
  CHECK(error_of(::mkfifo(mounted.at("files/p").c_str(), 0640)) == EPERM);
  CHECK(error_of(::mknod(mounted.at("files/c").c_str(), S_IFCHR | 0640, 0x103)) == EPERM);
}

TEST_CASE("fusefs edit: outside files/ nothing is made, moved, removed or given away") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_file("blobs/b", 10, 1);
  make_file(mounted.at("files/a"), "text");
  for (const char* directory : {"", "blobs", "volumes"}) {
    const auto fresh = mounted.at(directory) / "fresh";
    CHECK(error_of(::open(fresh.c_str(), O_CREAT | O_WRONLY, 0644)) == EPERM);
    CHECK(error_of(::mkdir(fresh.c_str(), 0755)) == EPERM);
    CHECK(error_of(::symlink("x", fresh.c_str())) == EPERM);
    CHECK(error_of(::mknod(fresh.c_str(), S_IFREG | 0644, 0)) == EPERM);
    CHECK(error_of(::rename(mounted.at("files/a").c_str(), fresh.c_str())) == EXDEV);
    CHECK(error_of(::link(mounted.at("files/a").c_str(), fresh.c_str())) == EXDEV);
    CHECK(error_of(::chmod(mounted.at(directory).c_str(), 0700)) == EPERM);
  }
  const auto blob = mounted.at("blobs/b");
  CHECK(error_of(::unlink(blob.c_str())) == EPERM);
  CHECK(error_of(::rename(blob.c_str(), mounted.at("files/b").c_str())) == EXDEV);
  CHECK(error_of(::rmdir(mounted.at("blobs").c_str())) == EPERM);
  CHECK(error_of(::chmod(blob.c_str(), 0600)) == EPERM);
  CHECK(error_of(::chown(blob.c_str(), 1, 1)) == EPERM);
  CHECK(error_of(::truncate(blob.c_str(), 1)) == EROFS);
  CHECK(error_of(::open(blob.c_str(), O_WRONLY)) == EROFS);
  CHECK(error_of(::open(blob.c_str(), O_RDONLY | O_TRUNC)) == EROFS);
  CHECK(text_at(blob) == pattern(1, 0, 10));
  CHECK(text_at(mounted.at("files/a")) == "text");
}

TEST_CASE("fusefs edit: a directory is synced") {
  if (!can_mount()) return;
  MountedTree mounted;
  const base::UniqueFd directory = open_file(mounted.at("files"), O_RDONLY | O_DIRECTORY);
  REQUIRE(::mkdir(mounted.at("files/d").c_str(), 0755) == 0);
  CHECK(mounted.tree().name_syncs() == 0);
  CHECK(::fsync(directory.get()) == 0);
  CHECK(mounted.tree().name_syncs() == 1);
}

std::string attribute_at(const std::filesystem::path& path, const char* name) {
  std::array<char, 100> value{};
  const ssize_t length = ::getxattr(path.c_str(), name, value.data(), value.size());
  return length < 0 ? fmt::format("errno {}", errno)
                    : std::string(value.data(), static_cast<size_t>(length));
}

TEST_CASE("fusefs edit: a pin is an extended attribute; others are refused softly") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_file("files/a", 10, 1);
  make_file(mounted.at("files/fresh"), "text");
  const std::string path = mounted.at("files/a").string();
  const std::string fresh = mounted.at("files/fresh").string();
  constexpr const char* kPinned = "user.blobcache.pinned";
  CHECK(attribute_at(path, kPinned) == "0");
  CHECK(::setxattr(path.c_str(), kPinned, "1", 1, 0) == 0);
  CHECK(attribute_at(path, kPinned) == "1");
  CHECK(::setxattr(path.c_str(), kPinned, "0", 1, XATTR_REPLACE) == 0);
  CHECK(attribute_at(path, kPinned) == "0");
  CHECK(error_of(::setxattr(path.c_str(), kPinned, "2", 1, 0)) == EINVAL);
  CHECK(error_of(::setxattr(path.c_str(), kPinned, "1", 1, XATTR_CREATE)) == EEXIST);
  CHECK(error_of(::setxattr(fresh.c_str(), kPinned, "1", 1, 0)) == EBUSY);
  CHECK(attribute_at(fresh, "user.blobcache.settled") == "0");
  CHECK(attribute_at(fresh, "user.blobcache.digest") == fmt::format("errno {}", ENODATA));
  CHECK(error_of(::setxattr(path.c_str(), "user.other", "1", 1, 0)) == EOPNOTSUPP);
  CHECK(error_of(::setxattr(path.c_str(), "user.blobcache.digest", "1", 1, 0)) == EOPNOTSUPP);
  CHECK(error_of(::removexattr(path.c_str(), kPinned)) == EOPNOTSUPP);
}

}  // namespace
}  // namespace blobcache::fusefs
