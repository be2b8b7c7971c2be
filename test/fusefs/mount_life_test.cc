// How mounts begin and end.

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <thread>

#include "base/status.h"
#include "fusefs/impl/mountpoint.h"
#include "store/page/geometry.h"
#include "test/fusefs/mounted_tree.h"

namespace blobcache::fusefs {
namespace {

absl::Status start_error(MountedTree& mounted, const MountOptions& options) {
  return Mount::start(options, mounted.tree(), nullptr).status();
}

bool says(const absl::Status& status, std::string_view words) {
  return base::message(status).find(words) != std::string_view::npos;
}

TEST_CASE("fusefs mount: shows what it is") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto entry = mounted_at(mounted.mount().mountpoint());
  REQUIRE(entry.ok());
  REQUIRE(entry->has_value());
  CHECK((*entry)->type == "fuse.blobcache");
  CHECK((*entry)->source == "blobcache");
  std::ifstream readahead("/sys/class/bdi/" + (*entry)->device + "/read_ahead_kb");
  uint64_t kib = 0;
  readahead >> kib;
  CHECK(kib == 2048);  // two requests
}

TEST_CASE("fusefs mount: a mountpoint or options that cannot be used are refused") {
  if (!can_mount()) return;
  MountedTree mounted;
  MountOptions options = MountedTree::options_for(mounted.mount().mountpoint());
  CHECK(absl::IsFailedPrecondition(start_error(mounted, options)));
  CHECK(says(start_error(mounted, options), "mounted there already"));
  options.mountpoint = "relative";
  CHECK(absl::IsInvalidArgument(start_error(mounted, options)));
  options.mountpoint = mounted.at("missing");
  CHECK(absl::IsNotFound(start_error(mounted, options)));
  options.mountpoint = mounted.at("files");
  CHECK(absl::IsFailedPrecondition(start_error(mounted, options)));
  CHECK(says(start_error(mounted, options), "lies on a mount of blobcache"));

  const TempDir dir;
  options = MountedTree::options_for(dir.path());
  options.max_request_bytes = 5000;
  CHECK(absl::IsInvalidArgument(start_error(mounted, options)));
  options.max_request_bytes = uint64_t{2} << 20;
  CHECK(absl::IsInvalidArgument(start_error(mounted, options)));
  options = MountedTree::options_for(dir.path());
  options.max_background = 0;
  CHECK(absl::IsInvalidArgument(start_error(mounted, options)));
  options = MountedTree::options_for(dir.path());
  options.negative_timeout = -absl::Seconds(1);
  CHECK(absl::IsInvalidArgument(start_error(mounted, options)));
  CHECK_FALSE(mounted_at(dir.path())->has_value());
}

TEST_CASE("fusefs mount: small requests are as good as large ones") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_file("files/a", 300'000, 4);
  const TempDir dir;
  MountOptions options = MountedTree::options_for(std::filesystem::canonical(dir.path()));
  options.max_request_bytes = page::kPageSize;
  options.max_background = 1;
  auto second = Mount::start(options, mounted.tree(), nullptr);
  REQUIRE(second.ok());
  {
    const base::UniqueFd fd = open_file(options.mountpoint / "files/a");
    CHECK(read_at(fd.get(), 0, 300'000) == pattern(4, 0, 300'000));
  }
  (*second)->unmount();
  CHECK_FALSE(mounted_at(options.mountpoint)->has_value());
}

TEST_CASE("fusefs mount: unmounting is idempotent, and a new mount takes the place") {
  if (!can_mount()) return;
  MountedTree mounted;
  const auto mountpoint = mounted.mount().mountpoint();
  mounted.mount().unmount();
  CHECK_FALSE(mounted_at(mountpoint)->has_value());
  mounted.mount().unmount();
  CHECK_FALSE(mounted.ended());  // it did not end by itself
  for (int i = 0; i < 10; ++i) {
    auto again = Mount::start(MountedTree::options_for(mountpoint), mounted.tree(), nullptr);
    REQUIRE(again.ok());
    CHECK(std::filesystem::exists(mountpoint / "files"));
  }
}

TEST_CASE("fusefs mount: unmounting does not wait for who has a file open") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_file("files/a", 100'000, 1);
  const base::UniqueFd fd = open_file(mounted.at("files/a"));
  const base::UniqueFd directory = open_file(mounted.at("files"), O_RDONLY | O_DIRECTORY);
  mounted.mount().unmount();
  CHECK(mounted.mount().stats().open == 0);
  CHECK(read_at(fd.get(), 50'000, 10) == "errno " + std::to_string(ENOTCONN));
}

TEST_CASE("fusefs mount: unmounting ends reads that wait for a source that does not answer") {
  if (!can_mount()) return;
  MountedTree mounted;
  const tree::NodeId id = mounted.tree().add_file("files/slow", 8 * page::kExtentSize, 1);
  mounted.tree().source(id).close_gate();
  std::string direct;
  std::string cached;
  std::thread first([&] {
    const base::UniqueFd fd = open_file(mounted.at("files/slow"));
    cached = read_at(fd.get(), 0, 100);
  });
  mounted.tree().source(id).wait_for_waiting(1);
  std::thread second([&] {
    const base::UniqueFd fd = open_file(mounted.at("files/slow"), O_RDONLY | O_DIRECT);
    alignas(4096) static char buffer[page::kPageSize];
    direct = ::pread(fd.get(), buffer, sizeof(buffer), 4 * page::kExtentSize) < 0 ? "error" : "";
  });
  mounted.tree().source(id).wait_for_waiting(2);
  mounted.mount().unmount();
  first.join();
  second.join();
  CHECK(cached.starts_with("errno"));
  CHECK(direct == "error");
}

TEST_CASE("fusefs mount: what was written through a mapping is there after unmounting") {
  if (!can_mount()) return;
  for (int round = 0; round < 5; ++round) {
    MountedTree mounted;
    mounted.tree().later().use();
    const uint64_t size = 2000 * page::kPageSize;
    const base::UniqueFd fd(::open(mounted.at("files/a").c_str(), O_RDWR | O_CREAT, 0644));
    REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
    void* mapped = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    REQUIRE(mapped != MAP_FAILED);
    std::fill_n(static_cast<char*>(mapped), size, 'm');
    mounted.mount().unmount();
    const std::string written = mounted.tree().written("files/a");
    CHECK(std::count(written.begin(), written.end(), 'm') == static_cast<ptrdiff_t>(size));
    ::munmap(mapped, size);
  }
}

TEST_CASE("fusefs mount: an unmount from outside is noticed once") {
  if (!can_mount()) return;
  for (const int flags : {0, static_cast<int>(MNT_DETACH)}) {
    MountedTree mounted;
    CHECK_FALSE(mounted.ended());
    REQUIRE(::umount2(mounted.mount().mountpoint().c_str(), flags) == 0);
    mounted.wait_for_end();
    mounted.mount().unmount();
    mounted.mount().unmount();
  }
}

TEST_CASE("fusefs mount: a mount that was detached while files are open serves them to the end") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_file("files/a", 100'000, 2);
  base::UniqueFd fd = open_file(mounted.at("files/a"));
  REQUIRE(::umount2(mounted.mount().mountpoint().c_str(), MNT_DETACH) == 0);
  CHECK(read_at(fd.get(), 50'000, 1000) == pattern(2, 50'000, 1000));
  CHECK_FALSE(mounted.ended());
  SUBCASE("until they are closed") {
    fd.reset();
    mounted.wait_for_end();
  }
  SUBCASE("or the mount is ended, which leaves what has been mounted there since alone") {
    const auto mountpoint = mounted.mount().mountpoint();
    auto next = Mount::start(MountedTree::options_for(mountpoint), mounted.tree(), nullptr);
    REQUIRE(next.ok());
    mounted.mount().unmount();
    CHECK(mounted_at(mountpoint)->has_value());
    CHECK(std::filesystem::exists(mountpoint / "files/a"));
  }
}

TEST_CASE(
    "fusefs mount: a connection that somebody aborts is noticed, and the dead mount taken away") {
  if (!can_mount()) return;
  MountedTree mounted;
  mounted.tree().add_file("files/a", 100'000, 2);
  const base::UniqueFd fd = open_file(mounted.at("files/a"));
  const auto entry = mounted_at(mounted.mount().mountpoint());
  REQUIRE(entry->has_value());
  const TempDir control;
  REQUIRE(::mount("none", control.path().c_str(), "fusectl", 0, nullptr) == 0);
  std::ofstream(control.path() / (*entry)->device.substr(2) / "abort") << "1";
  CHECK(::umount2(control.path().c_str(), MNT_DETACH) == 0);
  mounted.wait_for_end();
  CHECK(mounted.mount().stats().open == 0);
  CHECK(is_dead_mount(mounted.mount().mountpoint()));
  mounted.mount().unmount();
  CHECK_FALSE(mounted_at(mounted.mount().mountpoint())->has_value());
}

TEST_CASE("fusefs mount: what a killed daemon left is taken away") {
  if (!can_mount()) return;
  const TempDir dir;
  const auto mountpoint = std::filesystem::canonical(dir.path()) / "mnt";
  std::filesystem::create_directory(mountpoint);
  MountedTree mounted;
  for (int dead = 0; dead < 2; ++dead) {
    // As a daemon that dies does: the connection is closed, and the mount stays.
    const base::UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    REQUIRE(device.valid());
    const std::string words =
        "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=0,group_id=0";
    REQUIRE(::mount("blobcache", mountpoint.c_str(), "fuse.blobcache", 0, words.c_str()) == 0);
  }
  struct stat attributes = {};
  REQUIRE(error_of(::stat(mountpoint.c_str(), &attributes)) == ENOTCONN);
  auto mount = Mount::start(MountedTree::options_for(mountpoint), mounted.tree(), nullptr);
  REQUIRE_MESSAGE(mount.ok(), base::message(mount.status()));
  CHECK(std::filesystem::exists(mountpoint / "files"));
  mount->reset();
  CHECK_FALSE(mounted_at(mountpoint)->has_value());
}

TEST_CASE("fusefs mount: a dead mount of somebody else is left alone") {
  if (!can_mount()) return;
  const TempDir dir;
  const auto mountpoint = std::filesystem::canonical(dir.path()) / "mnt";
  std::filesystem::create_directory(mountpoint);
  {
    const base::UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    const std::string words =
        "fd=" + std::to_string(device.get()) + ",rootmode=40000,user_id=0,group_id=0";
    REQUIRE(::mount("them", mountpoint.c_str(), "fuse.other", 0, words.c_str()) == 0);
  }
  const auto prepared = prepare_mountpoint(mountpoint);
  CHECK(absl::IsFailedPrecondition(prepared.status()));
  CHECK(says(prepared.status(), "not ours"));
  CHECK(mounted_at(mountpoint)->has_value());
  CHECK(::umount2(mountpoint.c_str(), MNT_DETACH) == 0);
}

}  // namespace
}  // namespace blobcache::fusefs
