// Origins under a real mount: what they have, and that one which does not answer is in nobody's
// way.

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "fusefs/mount.h"
#include "test/fusefs/mounted_tree.h"
#include "test/fusefs/temp_dir.h"
#include "test/store/tree/fake_origin.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::fusefs {
namespace {

/// A mount of a real tree with two origins.
struct MountedOrigins : tree::TreeFixture {
  explicit MountedOrigins(absl::Duration timeout = absl::ZeroDuration()) {
    origins = {hub, slow};
    reopen();
    hub->put("dir/a", "content");
    hub->put("weak", "weak", /*lasting=*/false);
    hub->put_image("disk", "0123456789");
    slow->put("x", "slow");
    put("named", "files/x");
    mountpoint = std::filesystem::canonical(dir.path()) / "mnt";
    std::filesystem::create_directory(mountpoint);
    MountOptions options = MountedTree::options_for(mountpoint);
    options.entry_timeout = timeout;
    options.negative_timeout = timeout;
    auto started = Mount::start(options, names(), nullptr);
    REQUIRE_MESSAGE(started.ok(), started.status().ToString());
    mount = *std::move(started);
  }
  ~MountedOrigins() {
    slow->stop();
    mount = nullptr;
    close();
  }

  [[nodiscard]] std::filesystem::path at(std::string_view path) const { return mountpoint / path; }
  [[nodiscard]] std::string read(std::string_view path) const {
    return read_at(open_file(at(path)).get(), 0, 4096);
  }
  [[nodiscard]] std::vector<std::string> listed(std::string_view path) const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(at(path))) {
      found.push_back(entry.path().filename());
    }
    return found;
  }

  std::shared_ptr<tree::FakeOrigin> hub = std::make_shared<tree::FakeOrigin>("hub");
  std::shared_ptr<tree::FakeOrigin> slow = std::make_shared<tree::FakeOrigin>("slow");
  TempDir dir;
  std::filesystem::path mountpoint;
  std::unique_ptr<Mount> mount;
};

int stat_error(const std::filesystem::path& path) {
  struct stat attributes = {};
  return error_of(::stat(path.c_str(), &attributes));
}

using Names = std::vector<std::string>;

TEST_CASE("fusefs origins: one of them, or a directory of it, can be the root of a mount") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  for (const auto& [subtree, file] :
       {std::pair("origins/hub", "dir/a"), std::pair("origins/hub/dir", "a")}) {
    const TempDir other;
    MountOptions options = MountedTree::options_for(std::filesystem::canonical(other.path()));
    options.subtree = subtree;
    const auto part = Mount::start(options, mounted.names(), nullptr);
    REQUIRE_MESSAGE(part.ok(), part.status().ToString());
    CHECK(read_at(open_file(options.mountpoint / file).get(), 0, 4096) == "content");
    CHECK(stat_error(options.mountpoint / "nothing") == ENOENT);
    CHECK(stat_error(options.mountpoint) == 0);
    const std::filesystem::directory_iterator entries(options.mountpoint);
    CHECK(std::distance(begin(entries), end(entries)) ==
          (subtree == std::string("origins/hub") ? 3 : 1));
  }
  const TempDir other;
  MountOptions options = MountedTree::options_for(std::filesystem::canonical(other.path()));
  options.subtree = "origins/hub/none";
  CHECK(absl::IsNotFound(Mount::start(options, mounted.names(), nullptr).status()));
}

TEST_CASE("fusefs origins: are listed, looked up and read") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  CHECK(mounted.listed("origins") == Names{"hub", "slow"});
  CHECK(mounted.listed("origins/hub") == Names{"dir", "disk", "weak"});
  CHECK(mounted.read("origins/hub/dir/a") == "content");
  CHECK(mounted.read("origins/hub/weak") == "weak");
  CHECK(stat_error(mounted.at("origins/hub/nothing")) == ENOENT);
  CHECK(stat_error(mounted.at("origins/nobody")) == ENOENT);
  CHECK(stat_error(mounted.at("origins/hub/dir/a/b")) == ENOTDIR);
  struct stat attributes = {};
  REQUIRE(::stat(mounted.at("origins/hub/dir/a").c_str(), &attributes) == 0);
  CHECK(attributes.st_mode == (S_IFREG | 0444));
  CHECK(attributes.st_size == 7);
  CHECK(attributes.st_mtim.tv_sec == 1'600'000'000);
  REQUIRE(::stat(mounted.at("origins/hub").c_str(), &attributes) == 0);
  CHECK(attributes.st_mode == (S_IFDIR | 0555));
  REQUIRE(::stat(mounted.at("origins/hub/disk").c_str(), &attributes) == 0);
  CHECK(attributes.st_mode == (S_IFREG | 0600));
  std::array<char, 64> tier{};
  CHECK(::getxattr(mounted.at("origins/hub/dir/a").c_str(), "user.blobcache.tier", tier.data(),
                   tier.size()) > 0);
  CHECK(error_of(::open(mounted.at("origins/hub/dir/a").c_str(), O_RDWR)) == EROFS);
}

/// Of a file; "errno N" when it has none.
std::string origin_attribute(const std::filesystem::path& path) {
  std::array<char, 256> value{};
  const ssize_t size =
      ::getxattr(path.c_str(), "user.blobcache.origin", value.data(), value.size());
  if (size < 0) return "errno " + std::to_string(errno);
  return {value.data(), static_cast<size_t>(size)};
}

TEST_CASE("fusefs origins: files and images tell where they come from, also while that is away") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  CHECK(origin_attribute(mounted.at("origins/hub/dir/a")) == "hub fake fake://hub/dir/a");
  CHECK(origin_attribute(mounted.at("origins/hub/disk")) == "hub fake fake://hub/disk");
  const std::string none = "errno " + std::to_string(ENODATA);
  for (const char* other : {"origins", "origins/hub", "origins/hub/dir", "files/x", "files"}) {
    CHECK(origin_attribute(mounted.at(other)) == none);
  }
  std::array<char, 256> names{};
  const auto listed = [&](const char* path) {
    const ssize_t size = ::listxattr(mounted.at(path).c_str(), names.data(), names.size());
    return std::string(names.data(), static_cast<size_t>(std::max<ssize_t>(size, 0)));
  };
  using std::string_literals::operator""s;
  CHECK(listed("origins/hub/dir/a") == "user.blobcache.origin\0user.blobcache.tier\0"s);
  CHECK(listed("origins/hub/disk") == "user.blobcache.origin\0"s);
  CHECK(listed("origins/hub").empty());
  CHECK(listed("files/x").find("origin") == std::string::npos);
  const char* const path = "origins/hub/dir/a";
  CHECK(error_of(::setxattr(mounted.at(path).c_str(), "user.blobcache.origin", "x", 1, 0)) ==
        EOPNOTSUPP);
  CHECK(error_of(::removexattr(mounted.at(path).c_str(), "user.blobcache.origin")) == EOPNOTSUPP);
  const base::UniqueFd open = open_file(mounted.at(path));
  mounted.hub->set_error(absl::UnavailableError("no route"));
  mounted.clock().advance(absl::Seconds(2));
  std::array<char, 256> value{};
  const ssize_t size = ::fgetxattr(open.get(), "user.blobcache.origin", value.data(), value.size());
  CHECK(std::string(value.data(), static_cast<size_t>(std::max<ssize_t>(size, 0))) ==
        "hub fake fake://hub/dir/a");
}

/// What readlink(2) says; "errno N" when it fails.
std::string read_link(const std::filesystem::path& path) {
  std::array<char, 8192> text{};
  const ssize_t size = ::readlink(path.c_str(), text.data(), text.size());
  if (size < 0) return "errno " + std::to_string(errno);
  return {text.data(), static_cast<size_t>(size)};
}

TEST_CASE("fusefs origins: symbolic links say what the origin has them say") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  tree::FakeOrigin& hub = *mounted.hub;
  hub.put_link("link", "dir/a");
  hub.put_link("up", "../../files/x");
  hub.put_link("dangling", "nowhere");
  hub.put_link("odd", "\x01 \n\xff");
  hub.put_link("long", std::string(4095, 't'));
  hub.put_link("too-long", std::string(4096, 't'));
  CHECK(mounted.listed("origins/hub") ==
        Names{"dangling", "dir", "disk", "link", "long", "odd", "up", "weak"});
  struct stat attributes = {};
  REQUIRE(::lstat(mounted.at("origins/hub/link").c_str(), &attributes) == 0);
  CHECK(attributes.st_mode == (S_IFLNK | 0777));
  CHECK(attributes.st_size == 5);
  CHECK(read_link(mounted.at("origins/hub/link")) == "dir/a");
  CHECK(read_link(mounted.at("origins/hub/dangling")) == "nowhere");
  CHECK(read_link(mounted.at("origins/hub/odd")) == "\x01 \n\xff");
  CHECK(read_link(mounted.at("origins/hub/long")) == std::string(4095, 't'));
  CHECK(read_link(mounted.at("origins/hub/too-long")) == "errno " + std::to_string(ENOENT));
  CHECK(read_link(mounted.at("origins/hub/weak")) == "errno " + std::to_string(EINVAL));
  // A process that follows one does so by its own means, as in any file system.
  CHECK(mounted.read("origins/hub/link") == "content");
  CHECK(mounted.read("origins/hub/up") == "named");
  CHECK(stat_error(mounted.at("origins/hub/dangling")) == ENOENT);
  CHECK(stat_error(mounted.at("origins/hub/long")) == ENAMETOOLONG);
  CHECK(error_of(::unlink(mounted.at("origins/hub/link").c_str())) == EPERM);
}

TEST_CASE("fusefs origins: a link that became another one, a file or a directory is that") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  tree::FakeOrigin& hub = *mounted.hub;
  const std::filesystem::path path = mounted.at("origins/hub/x");
  const auto kind = [&path] {
    struct stat attributes = {};
    REQUIRE(::lstat(path.c_str(), &attributes) == 0);
    return attributes.st_mode & S_IFMT;
  };
  hub.put_link("x", "weak");
  CHECK(read_link(path) == "weak");
  CHECK(mounted.read("origins/hub/x") == "weak");
  hub.put_link("x", "disk");
  CHECK(read_link(path) == "disk");
  hub.put("x", "a file");
  CHECK(kind() == S_IFREG);
  CHECK(mounted.read("origins/hub/x") == "a file");
  const base::UniqueFd open = open_file(path);
  hub.remove("x");
  hub.put("x/y", "beneath");
  CHECK(kind() == S_IFDIR);
  CHECK(mounted.read("origins/hub/x/y") == "beneath");
  CHECK(read_at(open.get(), 0, 100) == "a file");
  hub.remove("x/y");
  hub.put_link("x", "dir");
  CHECK(kind() == S_IFLNK);
  CHECK(mounted.read("origins/hub/x/a") == "content");
}

TEST_CASE("fusefs origins: an image shows what was written to it") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  const base::UniqueFd file = open_file(mounted.at("origins/hub/disk"));
  CHECK(read_at(file.get(), 0, 100) == "0123456789");
  mounted.hub->write("disk", 2, "ab");
  CHECK(read_at(file.get(), 0, 100) == "01ab456789");
}

TEST_CASE("fusefs origins: another version opens at once, and is never mixed with the old one") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  for (const char* path : {"dir/a", "weak"}) {
    const std::string name = std::string("origins/hub/") + path;
    mounted.hub->put(path, "old", path != std::string_view("weak"));
    const base::UniqueFd old = open_file(mounted.at(name));
    CHECK(read_at(old.get(), 0, 100) == "old");
    mounted.hub->put(path, "new!", path != std::string_view("weak"));
    CHECK(mounted.read(name) == "new!");
    CHECK(read_at(old.get(), 0, 100) == "old");
  }
}

TEST_CASE("fusefs origins: what the kernel has of a file without validator goes with the open") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  CHECK(mounted.read("origins/hub/weak") == "weak");
  // The same size and time: nothing but a new open can tell.
  mounted.hub->put("weak", "WEAK", /*lasting=*/false);
  CHECK(mounted.read("origins/hub/weak") == "WEAK");
}

TEST_CASE("fusefs origins: one that is away is an error, and an open file can still be looked at") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  const base::UniqueFd file = open_file(mounted.at("origins/hub/dir/a"));
  CHECK(read_at(file.get(), 0, 100) == "content");
  mounted.hub->set_error(absl::UnavailableError("no route"));
  mounted.clock().advance(absl::Seconds(2));
  CHECK(stat_error(mounted.at("origins/hub/weak")) == EIO);
  struct stat attributes = {};
  CHECK(::fstat(file.get(), &attributes) == 0);
  CHECK(attributes.st_size == 7);
  CHECK(attributes.st_nlink == 1);
  CHECK(mounted.listed("origins") == Names{"hub", "slow"});
  CHECK(mounted.read("files/x") == "named");
}

TEST_CASE("fusefs origins: one that does not answer keeps nobody else waiting") {
  if (!can_mount()) return;
  MountedOrigins mounted(absl::Hours(1));
  // More than libfuse has workers, each in a directory of its own that the kernel knows: it may let
  // one look-up in a directory through at a time.
  constexpr int kWaiting = 40;
  for (int i = 0; i < kWaiting; ++i) {
    const std::string directory = "d" + std::to_string(i);
    mounted.slow->put(directory + "/x", "");
    CHECK(stat_error(mounted.at("origins/slow/" + directory)) == 0);
  }
  mounted.slow->hold();
  std::vector<std::thread> waiting;
  std::vector<int> errors(kWaiting, -1);
  for (int i = 0; i < kWaiting; ++i) {
    waiting.emplace_back([&, i] {
      errors[static_cast<size_t>(i)] =
          stat_error(mounted.at("origins/slow/d" + std::to_string(i) + "/none"));
    });
  }
  mounted.slow->wait_held(8);
  CHECK(mounted.read("files/x") == "named");
  CHECK(mounted.read("origins/hub/dir/a") == "content");
  CHECK(mounted.listed("origins/hub").size() == 3);
  mounted.slow->release();
  for (std::thread& each : waiting) each.join();
  for (const int error : errors) CHECK(error == ENOENT);
}

TEST_CASE("fusefs origins: a mount ends though an origin does not answer") {
  if (!can_mount()) return;
  MountedOrigins mounted;
  mounted.slow->hold();
  int error = 0;
  std::thread waits([&] { error = stat_error(mounted.at("origins/slow/x")); });
  mounted.slow->wait_held(1);
  mounted.slow->stop();
  mounted.mount = nullptr;
  waits.join();
  CHECK(error != 0);
}

}  // namespace
}  // namespace blobcache::fusefs
