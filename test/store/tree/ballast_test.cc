#include "store/tree/impl/ballast.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <fstream>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

/// What the file holds of the file system, in bytes.
uint64_t allocated(const std::filesystem::path& file) {
  struct stat info{};
  if (::stat(file.c_str(), &info) != 0) return 0;
  return static_cast<uint64_t>(info.st_blocks) * 512;
}

TEST_CASE("ballast: it is allocated, goes and comes back") {
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory.path() / "ballast";
  Ballast ballast(file);
  CHECK_FALSE(std::filesystem::exists(file));
  CHECK(ballast.make());
  CHECK(std::filesystem::file_size(file) == Ballast::kBytes);
  CHECK(allocated(file) >= Ballast::kBytes);
  CHECK(ballast.make());
  ballast.give_up();
  CHECK_FALSE(std::filesystem::exists(file));
  ballast.give_up();  // nothing there is no error
  CHECK(ballast.make());
}

TEST_CASE("ballast: a short file that a kill left is made whole, and no room leaves no file") {
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory.path() / "ballast";
  std::ofstream(file) << "short";
  Ballast ballast(file);
  CHECK(ballast.make());
  CHECK(allocated(file) >= Ballast::kBytes);
  CHECK_FALSE(Ballast(directory.path() / "missing" / "ballast").make());
}

TEST_CASE("ballast: a change for which there is no room gets its room, once") {
  const TemporaryDirectory directory;
  const std::filesystem::path file = directory.path() / "ballast";
  Ballast ballast(file);
  ballast.make();
  int runs = 0;
  const absl::Status full = absl::ResourceExhaustedError("the disk is full");

  CHECK(ballast
            .with_room([&] {
              ++runs;
              return std::filesystem::exists(file) ? full : absl::OkStatus();
            })
            .ok());
  CHECK(runs == 2);
  CHECK(std::filesystem::exists(file));

  runs = 0;
  CHECK(ballast.with_room([&] { return ++runs, full; }) == full);
  CHECK(runs == 2);

  // Whatever else is wrong is not for want of room.
  runs = 0;
  const absl::Status missing = absl::NotFoundError("no such file");
  CHECK(ballast.with_room([&] { return ++runs, missing; }) == missing);
  CHECK(runs == 1);
  CHECK(std::filesystem::exists(file));
}

TEST_CASE("ballast: a store that is open holds one") {
  TreeFixture tree;
  CHECK(allocated(tree.path() / "ballast") >= Ballast::kBytes);
  std::filesystem::remove(tree.path() / "ballast");
  tree.reopen();
  CHECK(allocated(tree.path() / "ballast") >= Ballast::kBytes);
}

}  // namespace
}  // namespace blobcache::tree
