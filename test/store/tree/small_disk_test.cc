// A real file system that is small: puts and fills leave its reserve alone, and what is kept
// survives when it gets full.

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "base/unique_fd.h"
#include "test/store/page/content_source.h"
#include "test/store/tree/pressure.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
/// What the catalog, its log and its ballast may take of the reserve, which is for objects.
constexpr uint64_t kCatalog = 2 * kMiB;

/// A file system of so many bytes, in memory, for as long as this lives.
class SmallFileSystem {
 public:
  explicit SmallFileSystem(uint64_t bytes) {
    const std::string size = fmt::format("size={}", bytes);
    mounted_ = ::mount("tmpfs", path().c_str(), "tmpfs", 0, size.c_str()) == 0;
    if (!mounted_) MESSAGE("SKIP: cannot mount here: ", errno);
  }
  ~SmallFileSystem() {
    if (mounted_) CHECK(::umount2(path().c_str(), 0) == 0);
  }
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;

  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] const std::filesystem::path& path() const { return directory_.path(); }
  [[nodiscard]] uint64_t free_bytes() const {
    struct statvfs info{};
    REQUIRE(::statvfs(path().c_str(), &info) == 0);
    return uint64_t{info.f_bavail} * info.f_frsize;
  }
  /// Another program's file takes all but `left` bytes of it, as far as it is quick enough.
  void hog_all_but(uint64_t left) const {
    const uint64_t free = free_bytes();
    const base::UniqueFd file(::open(hog().c_str(), O_RDWR | O_CREAT, 0600));
    if (free > left) (void)::posix_fallocate(file.get(), 0, static_cast<off_t>(free - left));
  }
  void give_back() const { std::filesystem::remove(hog()); }

 private:
  [[nodiscard]] std::filesystem::path hog() const { return path() / "hog"; }

  TemporaryDirectory directory_;
  bool mounted_ = false;
};

/// Puts named blobs until one is refused; how many went.
int put_until_full(TreeFixture& tree) {
  for (uint32_t i = 0; i < 100; ++i) {
    const auto blob = tree.try_put(content_of(kMiB, i), "files/" + std::to_string(i));
    if (blob.ok()) continue;
    CHECK(absl::IsResourceExhausted(blob.status()));
    CHECK(says(blob.status(), "reserve"));
    return static_cast<int>(i);
  }
  return 100;
}

TEST_CASE("small disk: puts and fills stop at the reserve") {
  constexpr uint64_t kReserve = 10 * kMiB;
  const SmallFileSystem disk(32 * kMiB);
  if (!disk.mounted()) return;
  TreeFixture tree(uint64_t{1} << 30, {.reserve_bytes = kReserve, .parent = disk.path()});
  const int puts = put_until_full(tree);
  CHECK(puts > 10);
  CHECK(disk.free_bytes() >= kReserve - kCatalog);
  CHECK(disk.free_bytes() < kReserve + 3 * kMiB);

  // Half of it is given back, for a source that has more than that.
  for (int i = 0; i < puts; i += 2) {
    const std::string path = "files/" + std::to_string(i);
    const page::ObjectKey key = *tree.names().resolve(path).value().digest;
    REQUIRE(tree.names().remove(path).ok());
    REQUIRE(tree.names().remove(blob_path(key)).ok());
  }
  const std::string content = content_of(24 * kMiB, 1000);
  const absl::Span<const std::byte> bytes = bytes_of(content);
  const auto source =
      std::make_shared<page::ContentSource>(std::vector<std::byte>(bytes.begin(), bytes.end()));
  {
    const page::ObjectRef object =
        tree.store().attach_cached({page::ObjectKey(), content.size(), source});
    for (int round = 0; round < 2; ++round) {
      for (uint64_t at = 0; at < content.size(); at += kMiB) {
        REQUIRE(object->read_wait(at, kMiB).ok());
        tree.store().wait_cached();
        CHECK(disk.free_bytes() >= kReserve - kCatalog);
      }
    }
  }
  CHECK(tree.store().stats().disk_filled_bytes > 2 * kMiB);
  CHECK(disk.free_bytes() < kReserve + 6 * kMiB);

  // What is put takes the room of what can be had again.
  const absl::Status put = tree.try_put(content_of(3 * kMiB, 2000), "files/new").status();
  CHECK_MESSAGE(put.ok(), put.ToString());
  CHECK(disk.free_bytes() >= kReserve - kCatalog);
  CHECK(tree.read("files/1") == content_of(kMiB, 1));
  CHECK(tree.read("files/new") == content_of(3 * kMiB, 2000));
}

TEST_CASE("small disk: what is kept survives a file system that gets full") {
  constexpr uint64_t kReserve = 4 * kMiB;
  const SmallFileSystem disk(20 * kMiB);
  if (!disk.mounted()) return;
  TreeFixture tree(uint64_t{1} << 30, {.reserve_bytes = kReserve, .parent = disk.path()});
  Pressure pressure(tree, 2);
  uint64_t looks = 0;
  // Another program writes up to two megabytes before the end, and takes its file away again.
  pressure.run(250, [&] {
    ++looks;
    if (looks % 64 == 0) disk.give_back();
    if (looks % 64 == 32) disk.hog_all_but(2 * kMiB);
    return true;
  });
  disk.give_back();
  CHECK(pressure.failures() == "");
  CHECK(pressure.refused() > 0);
  CHECK(pressure.stored() > 0);
  CHECK(tree.store().stats().fill_bytes > 0);
  pressure.verify();
  tree.reopen();
  pressure.verify();
}

}  // namespace
}  // namespace blobcache::tree
