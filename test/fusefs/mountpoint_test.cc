#include "fusefs/impl/mountpoint.h"

#include <doctest/doctest.h>

#include <fstream>

#include "base/status.h"
#include "test/fusefs/temp_dir.h"

namespace blobcache::fusefs {
namespace {

TEST_CASE("fusefs mountpoint: the mount table is read field by field") {
  const auto entries = parse_mountinfo(
      "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
      "90 22 0:45 / /mnt/a\\040b\\134c rw,nosuid,nodev - fuse.blobcache blobcache ro,user_id=0\n"
      "91 22 0:46 / /mnt/many rw shared:5 master:7 propagate_from:2 - tmpfs tmpfs rw\n"
      "nonsense\n"
      "92 22 0:47 / /mnt/cut rw -\n"
      "\n");
  REQUIRE(entries.size() == 3);
  CHECK(entries[0].mountpoint == "/");
  CHECK(entries[0].type == "ext4");
  CHECK(entries[0].source == "/dev/vda");
  CHECK(entries[1].device == "0:45");
  CHECK(entries[1].mountpoint == "/mnt/a b\\c");
  CHECK(entries[1].type == kMountType);
  CHECK(entries[2].mountpoint == "/mnt/many");
}

TEST_CASE("fusefs mountpoint: what is mounted where") {
  const auto proc = mounted_at("/proc");
  REQUIRE(proc.ok());
  REQUIRE(proc->has_value());
  CHECK((*proc)->type == "proc");
  const TempDir dir;
  const auto nothing = mounted_at(dir.path());
  REQUIRE(nothing.ok());
  CHECK_FALSE(nothing->has_value());
}

TEST_CASE("fusefs mountpoint: what lies in the place of the device is named") {
  const TempDir dir;
  const auto file = dir.path() / "fuse";
  const auto why = [&](const std::filesystem::path& device) {
    const absl::Status status = check_fuse_device(device);
    CHECK(absl::IsUnavailable(status));
    return std::string(base::message(status));
  };
  CHECK(why(file).starts_with("there is no " + file.string()));
  std::ofstream(file) << "x";
  const std::string not_it = " is not the FUSE device (character device 10:229), but ";
  CHECK(why(file).starts_with(file.string() + not_it + "a regular file; "));
  CHECK(why("/dev/null").starts_with("/dev/null" + not_it + "character device 1:3; "));
  CHECK(why(dir.path()).starts_with(dir.path().string() + not_it + "a directory; "));
}

absl::Status refusal(const std::filesystem::path& path) {
  return prepare_mountpoint(path).status();
}

bool says(const absl::Status& status, std::string_view words) {
  return base::message(status).find(words) != std::string_view::npos;
}

TEST_CASE("fusefs mountpoint: bad ones are refused with a sentence") {
  const TempDir dir;
  const auto file = dir.path() / "file";
  std::ofstream(file) << "x";

  CHECK(absl::IsInvalidArgument(refusal("relative/path")));
  CHECK(says(refusal("relative/path"), "absolute"));
  CHECK(absl::IsInvalidArgument(refusal("")));

  CHECK(absl::IsNotFound(refusal(dir.path() / "missing")));
  CHECK(says(refusal(dir.path() / "missing"), "does not exist"));

  std::filesystem::create_symlink(dir.path() / "missing", dir.path() / "dangling");
  CHECK(absl::IsNotFound(refusal(dir.path() / "dangling")));
  CHECK(says(refusal(dir.path() / "dangling"), "symbolic link to what does not exist"));

  CHECK(absl::IsFailedPrecondition(refusal(file)));
  CHECK(says(refusal(file), "not a directory"));
  CHECK_FALSE(refusal(file / "beneath").ok());

  CHECK(absl::IsFailedPrecondition(refusal(dir.path())));
  CHECK(says(refusal(dir.path()), "not empty"));

  CHECK(absl::IsFailedPrecondition(refusal("/proc")));
  CHECK(says(refusal("/proc"), "mounted there already"));
  CHECK(absl::IsFailedPrecondition(refusal("/")));
}

TEST_CASE("fusefs mountpoint: links and slashes are resolved") {
  const TempDir dir;
  const auto real = std::filesystem::canonical(dir.path()) / "real";
  std::filesystem::create_directory(real);
  std::filesystem::create_directory_symlink(real, dir.path() / "link");
  for (const char* name : {"real", "real/", "link", "./link/", "real/../real"}) {
    const auto prepared = prepare_mountpoint(dir.path() / name);
    REQUIRE(prepared.ok());
    CHECK(*prepared == real);
  }
}

}  // namespace
}  // namespace blobcache::fusefs
