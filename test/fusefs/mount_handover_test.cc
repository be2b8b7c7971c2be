// A mount that another process takes over, which here is the same one: what has a mount, a tree and
// a store goes, and comes again, while the mount and what is open on it stay.

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/parcel.h"
#include "fusefs/mount.h"
#include "store/tree/garbage.h"
#include "test/eventually.h"
#include "test/fusefs/mounted_tree.h"
#include "test/fusefs/temp_dir.h"
#include "test/store/tree/fake_origin.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::fusefs {
namespace {

/// A mount of a real tree with an origin.
struct UpgradedTree : tree::TreeFixture {
  UpgradedTree() {
    origins = {hub};
    reopen();
    mountpoint = std::filesystem::canonical(dir.path()) / "mnt";
    std::filesystem::create_directory(mountpoint);
    auto started = Mount::start(MountedTree::options_for(mountpoint), names(), nullptr);
    REQUIRE_MESSAGE(started.ok(), started.status().ToString());
    mount = *std::move(started);
  }
  ~UpgradedTree() {
    mount = nullptr;
    close();
  }

  [[nodiscard]] std::filesystem::path at(std::string_view path) const { return mountpoint / path; }

  /// Leaves the mount, closes the tree and the store, and comes back.
  void upgrade() {
    hand_over();
    come_back();
  }
  void hand_over() {
    REQUIRE(mount->pause(absl::Now() + absl::Seconds(20)).ok());
    std::vector<tree::OpenNode> open = mount->open_objects();
    auto handed_mount = mount->hand_over();
    REQUIRE_MESSAGE(handed_mount.ok(), handed_mount.status().ToString());
    mount_parcel = *std::move(handed_mount);
    auto handed_tree = names().hand_over(open);
    REQUIRE_MESSAGE(handed_tree.ok(), handed_tree.status().ToString());
    tree_parcel = *std::move(handed_tree);
    open.clear();  // no object outlives the store
    mount = nullptr;
    close();
  }
  void come_back() {
    handed_over = &tree_parcel;
    TreeFixture::open();
    handed_over = nullptr;
    auto taken = Mount::take_over(mount_parcel, names(), nullptr);
    REQUIRE_MESSAGE(taken.ok(), taken.status().ToString());
    mount = *std::move(taken);
    mount->resume();
    names().end_take_over();
    mount_parcel = base::Parcel();
    tree_parcel = base::Parcel();
  }

  std::shared_ptr<tree::FakeOrigin> hub = std::make_shared<tree::FakeOrigin>("hub");
  TempDir dir;
  std::filesystem::path mountpoint;
  std::unique_ptr<Mount> mount;
  base::Parcel mount_parcel;
  base::Parcel tree_parcel;
};

ino_t inode_of_file(int fd) {
  struct stat attributes = {};
  REQUIRE(::fstat(fd, &attributes) == 0);
  return attributes.st_ino;
}

base::UniqueFd make_file(const std::filesystem::path& path, std::string_view text) {
  base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
  REQUIRE(fd.valid());
  REQUIRE(::pwrite(fd.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  return fd;
}

struct Everything final : tree::GarbageWatcher {
  bool wants_more() override { return true; }
  void on_garbage(const tree::Garbage& /*garbage*/) override {}
};

TEST_CASE("fusefs handover: open files are read and written on, with the same inodes") {
  if (!can_mount()) return;
  UpgradedTree tree;
  tree.put("content of a blob", "files/settled");
  const base::UniqueFd settled = open_file(tree.at("files/settled"));
  const base::UniqueFd written = make_file(tree.at("files/written"), "first ");
  const ino_t settled_inode = inode_of_file(settled.get());
  const ino_t written_inode = inode_of_file(written.get());
  REQUIRE(::flock(written.get(), LOCK_EX) == 0);
  void* const map = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, written.get(), 0);
  REQUIRE(map != MAP_FAILED);
  for (int round = 0; round < 3; ++round) {
    tree.upgrade();
    CHECK(read_at(settled.get(), 0, 100) == "content of a blob");
    CHECK(inode_of_file(settled.get()) == settled_inode);
    CHECK(inode_of_file(written.get()) == written_inode);
    const std::string more = "more" + std::to_string(round);
    CHECK(::pwrite(written.get(), more.data(), more.size(), 6) == 5);
    CHECK(read_at(written.get(), 0, 100) == "first " + more);
    static_cast<char*>(map)[0] = static_cast<char>('F' + round);
    REQUIRE(::msync(map, 4096, MS_SYNC) == 0);
    static_cast<char*>(map)[0] = 'f';
  }
  ::munmap(map, 4096);
  // Who else wants the lock does not get it: it is the kernel's, and was never let go of.
  const base::UniqueFd other = open_file(tree.at("files/written"), O_RDWR);
  CHECK(error_of(::flock(other.get(), LOCK_EX | LOCK_NB)) == EWOULDBLOCK);
  // A file made now gets a handle of its own.
  const base::UniqueFd fresh = make_file(tree.at("files/fresh"), "fresh");
  CHECK(read_at(fresh.get(), 0, 9) == "fresh");
  CHECK(read_at(settled.get(), 0, 7) == "content");
}

TEST_CASE("fusefs handover: what is open and has no name any more stays what it was") {
  if (!can_mount()) return;
  UpgradedTree tree;
  const std::string large = tree::content_of(3 * tree::kMiB, 5);
  const tree::CommittedBlob forgotten = tree.put(large, "files/large");
  tree.put("small one", "files/small");
  const base::UniqueFd large_file = open_file(tree.at("files/large"));
  const base::UniqueFd blob = open_file(tree.at(tree::blob_path(forgotten.key)));
  const base::UniqueFd small_file = open_file(tree.at("files/small"), O_RDWR);
  const base::UniqueFd scratch = make_file(tree.at("files/scratch"), "scratch");
  REQUIRE(::unlink(tree.at("files/large").c_str()) == 0);
  REQUIRE(::unlink(tree.at("files/small").c_str()) == 0);
  REQUIRE(::unlink(tree.at("files/scratch").c_str()) == 0);
  // The blobs are forgotten, too, and their files removed.
  Everything watcher;
  REQUIRE(tree.names().collect_garbage({.expire_now = true}, watcher).ok());
  CHECK(absl::IsNotFound(tree.names().resolve(tree::blob_path(forgotten.key)).status()));
  const ino_t inode = inode_of_file(scratch.get());
  for (int round = 0; round < 2; ++round) {
    tree.upgrade();
    CHECK(read_at(large_file.get(), 0, 4 * tree::kMiB) == large);
    CHECK(read_at(blob.get(), tree::kMiB, 100) == large.substr(tree::kMiB, 100));
    CHECK(read_at(small_file.get(), 0, 100) == (round == 0 ? "small one" : "SMALL one"));
    CHECK(::pwrite(small_file.get(), "SMALL", 5, 0) == 5);
    const std::string more = std::to_string(round);
    CHECK(::pwrite(scratch.get(), more.data(), more.size(), 7 + round) == 1);
    CHECK(read_at(scratch.get(), 0, 100) == (round == 0 ? "scratch0" : "scratch01"));
    CHECK(inode_of_file(scratch.get()) == inode);
    struct stat attributes = {};
    REQUIRE(::fstat(scratch.get(), &attributes) == 0);
    CHECK(attributes.st_nlink == 0);
    CHECK((attributes.st_mode & 07777) == 0640);
  }
}

TEST_CASE("fusefs handover: what has no name and is closed leaves nothing behind") {
  if (!can_mount()) return;
  UpgradedTree tree;
  {
    const base::UniqueFd scratch = make_file(tree.at("files/scratch"), "scratch");
    REQUIRE(::unlink(tree.at("files/scratch").c_str()) == 0);
    tree.upgrade();
    CHECK(read_at(scratch.get(), 0, 9) == "scratch");
  }
  // To close is asynchronous, and so is to remove; it is done by a later start at the latest.
  tree.upgrade();
  tree.upgrade();
  CHECK(test::eventually([&] { return std::filesystem::is_empty(tree.path() / "writing"); }));
}

TEST_CASE("fusefs handover: origins' files are opened again when they are used") {
  if (!can_mount()) return;
  UpgradedTree tree;
  tree.hub->put("dir/strong", "strong content");
  tree.hub->put("dir/weak", "weak content", /*lasting=*/false);
  tree.hub->put_image("disk", "0123456789");
  tree.hub->put("dir/changes", "before");
  const base::UniqueFd strong = open_file(tree.at("origins/hub/dir/strong"));
  const base::UniqueFd weak = open_file(tree.at("origins/hub/dir/weak"));
  const base::UniqueFd changes = open_file(tree.at("origins/hub/dir/changes"));
  const base::UniqueFd image = open_file(tree.at("origins/hub/disk"), O_RDWR);
  const ino_t weak_inode = inode_of_file(weak.get());
  const int opens = tree.hub->opens.load();
  tree.hand_over();
  tree.hub->put("dir/changes", "behind");
  tree.come_back();
  CHECK(tree.hub->opens.load() == opens);
  CHECK(inode_of_file(weak.get()) == weak_inode);
  CHECK(read_at(strong.get(), 0, 100) == "strong content");
  CHECK(read_at(weak.get(), 0, 100) == "weak content");
  CHECK(::pwrite(image.get(), "X", 1, 3) == 1);
  CHECK(read_at(image.get(), 0, 100) == "012X456789");
  CHECK(tree.hub->content("disk") == "012X456789");
  // Another version is never shown in its place.
  CHECK(read_at(changes.get(), 0, 100) == "errno " + std::to_string(ESTALE));
  CHECK(tree.hub->opens.load() > opens);
}

TEST_CASE("fusefs handover: who comes while the mount is paused waits, and is answered") {
  if (!can_mount()) return;
  UpgradedTree tree;
  tree.put("content", "files/a");
  tree.put("other", "files/b");
  tree.hand_over();
  std::atomic<int> done{0};
  std::string read;
  std::thread reader([&] {
    read = read_at(open_file(tree.at("files/b")).get(), 0, 100);
    ++done;
  });
  absl::SleepFor(absl::Milliseconds(50));
  CHECK(done.load() == 0);
  tree.come_back();
  reader.join();
  CHECK(read == "other");
}

TEST_CASE("fusefs handover: nothing is lost under load, however often") {
  if (!can_mount()) return;
  UpgradedTree tree;
  const std::string content = tree::content_of(2 * tree::kMiB, 9);
  tree.put(content, "files/large");
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0};
  std::atomic<uint64_t> rounds{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&, i] {
      const base::UniqueFd direct(
          ::open(tree.at("files/large").c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
      for (uint64_t round = 0; !stop.load(); ++round) {
        const uint64_t offset = (round * 7 + static_cast<uint64_t>(i)) % 500 * 4096;
        if (read_at(direct.get(), offset, 4096) != content.substr(offset, 4096)) ++wrong;
        struct stat attributes = {};
        if (::stat(tree.at("files/large").c_str(), &attributes) != 0) ++wrong;
        ++rounds;
      }
    });
  }
  threads.emplace_back([&] {
    for (int round = 0; !stop.load(); ++round) {
      const auto path = tree.at("files/w" + std::to_string(round % 5));
      const base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
      const std::string text = "round " + std::to_string(round);
      if (!fd.valid() || ::write(fd.get(), text.data(), text.size()) < 0) ++wrong;
      if (read_at(fd.get(), 0, 100) != text) ++wrong;
      if (round % 3 == 0 && ::unlink(path.c_str()) != 0) ++wrong;
      if (read_at(fd.get(), 0, 100) != text) ++wrong;
    }
  });
  for (int i = 0; i < 12; ++i) {
    const uint64_t before = rounds.load();
    CHECK(test::eventually([&] { return rounds.load() > before + 20; }));
    tree.upgrade();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  CHECK(wrong.load() == 0);
  CHECK(rounds.load() > 0);
}

TEST_CASE("fusefs handover: a walk of a directory goes on where it was") {
  if (!can_mount()) return;
  UpgradedTree tree;
  std::set<std::string> expected = {".", ".."};
  for (int i = 0; i < 3000; ++i) {
    const std::string name = "a_name_that_is_rather_long_" + std::to_string(i);
    tree.put("x", "files/d/" + name);
    expected.insert(name);
  }
  DIR* const directory = ::opendir(tree.at("files/d").c_str());
  REQUIRE(directory != nullptr);
  std::set<std::string> seen;
  size_t entries = 0;
  while (const dirent* entry = ::readdir(directory)) {
    seen.insert(entry->d_name);
    if (++entries == 700) tree.upgrade();
  }
  ::closedir(directory);
  CHECK(entries == expected.size());
  CHECK(seen == expected);
}

TEST_CASE("fusefs handover: a request that is not answered in time ends the pause") {
  if (!can_mount()) return;
  UpgradedTree tree;
  tree.hub->put("a", "content");
  tree.put("other", "files/b");
  tree.hub->hold();
  std::thread reader([&] { static_cast<void>(::access(tree.at("origins/hub/a").c_str(), R_OK)); });
  tree.hub->wait_held(1);
  CHECK(absl::IsDeadlineExceeded(tree.mount->pause(absl::Now() + absl::Milliseconds(100))));
  // Everything goes on.
  CHECK(read_at(open_file(tree.at("files/b")).get(), 0, 100) == "other");
  tree.hub->release();
  reader.join();
  tree.upgrade();
  CHECK(read_at(open_file(tree.at("files/b")).get(), 0, 100) == "other");
}

TEST_CASE("fusefs handover: a parcel that is damaged is refused, and as good as before") {
  if (!can_mount()) return;
  UpgradedTree tree;
  const base::UniqueFd file = make_file(tree.at("files/a"), "content");
  tree.hand_over();
  tree.handed_over = &tree.tree_parcel;
  tree.TreeFixture::open();
  for (size_t size = 0; size < tree.mount_parcel.bytes.size(); size += 13) {
    base::Parcel cut;
    cut.bytes = tree.mount_parcel.bytes.substr(0, size);
    for (const base::UniqueFd& each : tree.mount_parcel.descriptors) {
      cut.descriptors.emplace_back(::fcntl(each.get(), F_DUPFD_CLOEXEC, 0));
    }
    CHECK_FALSE(Mount::take_over(cut, tree.names(), nullptr).ok());
  }
  tree.close();
  tree.come_back();
  CHECK(read_at(file.get(), 0, 100) == "content");
}

}  // namespace
}  // namespace blobcache::fusefs
