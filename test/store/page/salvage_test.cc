// What a store's files tell without its catalog, and what is made of those that tell nothing.

#include "store/page/salvage.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

namespace fs = std::filesystem;

ObjectKey key_of_content(absl::Span<const std::byte> content) {
  SumHash hash;
  hash.update(content);
  return hash.finish();
}

std::vector<StoredFile> stored_files(const fs::path& store) {
  std::vector<StoredFile> files;
  const absl::Status status = for_each_stored_file(store, [&](const StoredFile& file) {
    files.push_back(file);
    return absl::OkStatus();
  });
  REQUIRE_MESSAGE(status.ok(), status.ToString());
  return files;
}

/// The one file that the store has.
StoredFile only_file(const Fixture& fixture) {
  const std::vector<StoredFile> files = stored_files(fixture.path());
  REQUIRE(files.size() == 1);
  return files.front();
}

std::vector<std::string> names_told(const StoredFile& file) {
  std::vector<std::string> told;
  CHECK(read_names(file, [&](std::string_view record) { told.emplace_back(record); }).ok());
  return told;
}

void make_file(const fs::path& path) { std::ofstream(path) << "something"; }

/// A store of one object of `size` random bytes.
struct Stored {
  explicit Stored(size_t size)
      : content(random_bytes(size, 1)), spec(fixture.put(content, key_of_content(content))) {}
  Fixture fixture;
  std::vector<std::byte> content;
  ObjectSpec spec;
};

}  // namespace

TEST_CASE("salvage: objects' data files are found, and nothing else is") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec first = fixture.put(content, 1);
  const ObjectSpec second = fixture.put(content, 2);
  const fs::path name = fixture.file_of(first);
  make_file(name.parent_path() / "notes");
  make_file(name.string() + ".bak");
  make_file(fixture.file_of(second).parent_path() / name.filename());  // another's folder
  std::string upper = name.filename().string();
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (upper != name.filename().string()) make_file(name.parent_path() / upper);
  std::set<fs::path> found;
  for (const StoredFile& file : stored_files(fixture.path())) {
    found.insert(file.path);
    CHECK_FALSE(file.set_aside);
    CHECK((file.key == first.key || file.key == second.key));
  }
  CHECK(found == std::set<fs::path>{fixture.file_of(first), fixture.file_of(second)});
}

TEST_CASE("salvage: a folder that is missing is passed over; without objects/ there is no store") {
  Stored object(5'000);
  fs::remove(object.fixture.path() / "objects" / "00");
  CHECK(stored_files(object.fixture.path()).size() == 1);
  const absl::Status none = for_each_stored_file(
      object.fixture.path() / "tmp", [](const StoredFile& /*file*/) { return absl::OkStatus(); });
  CHECK(absl::IsFailedPrecondition(none));
  const absl::Status ended = for_each_stored_file(
      object.fixture.path(),
      [](const StoredFile& /*file*/) { return absl::CancelledError("enough"); });
  CHECK(absl::IsCancelled(ended));
}

TEST_CASE("salvage: a whole file tells all that its row did") {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{300'001}, size_t{9'000'000}}) {
    CAPTURE(size);
    Stored object(size);
    const auto salvaged = salvage(only_file(object.fixture), sum_hash());
    REQUIRE(salvaged.ok());
    CHECK(salvaged->size_bytes == size);
    CHECK(salvaged->disk_bytes == object.fixture.disk_bytes);
    CHECK(salvaged->inline_map == object.spec.inline_map);
    // Where the file system has no extended attributes there is none.
    if (salvaged->description) CHECK(*salvaged->description == "a test");
  }
}

TEST_CASE("salvage: a damaged page map is of no account") {
  Stored object(9'000'000);
  flip_byte(object.fixture.map_of(object.spec), 4096 + 50);
  CHECK(salvage(only_file(object.fixture), sum_hash()).ok());
  fs::remove(object.fixture.map_of(object.spec));
  CHECK(salvage(only_file(object.fixture), sum_hash()).ok());
}

TEST_CASE("salvage: half a file, a longer one and one that changed are DATA_LOSS") {
  for (const size_t size : {size_t{300'001}, size_t{9'000'000}}) {
    CAPTURE(size);
    Stored object(size);
    const StoredFile file = only_file(object.fixture);
    fs::resize_file(file.path, size / 2);
    CHECK(absl::IsDataLoss(salvage(file, sum_hash()).status()));
    fs::resize_file(file.path, size + 1);  // the second half is zeros now
    CHECK(absl::IsDataLoss(salvage(file, sum_hash()).status()));
  }
  Stored object(300'001);
  const StoredFile file = only_file(object.fixture);
  flip_byte(file.path, 300'000);
  CHECK(absl::IsDataLoss(salvage(file, sum_hash()).status()));
}

TEST_CASE("salvage: what is no regular file is refused, and nobody waits for it") {
  Stored object(300'001);
  const StoredFile file = only_file(object.fixture);
  fs::remove(file.path);
  CHECK(absl::IsNotFound(salvage(file, sum_hash()).status()));
  REQUIRE(::mkfifo(file.path.c_str(), 0600) == 0);
  CHECK(absl::IsDataLoss(salvage(file, sum_hash()).status()));
  fs::remove(file.path);
  fs::create_directory(file.path);
  CHECK(absl::IsDataLoss(salvage(file, sum_hash()).status()));
  fs::remove(file.path);
  make_file(object.fixture.path() / "elsewhere");
  fs::create_symlink(object.fixture.path() / "elsewhere", file.path);
  CHECK_FALSE(salvage(file, sum_hash()).ok());
}

TEST_CASE("salvage: a description is handed out as it stands; one that is too long is none") {
  Stored object(300'001);
  const StoredFile file = only_file(object.fixture);
  const auto describe = [&](const std::string& text) {
    return ::setxattr(file.path.c_str(), "user.blobcache", text.data(), text.size(), 0) == 0;
  };
  const std::string garbled("\x01\xff\0 not ours", 12);
  if (!describe(garbled)) {
    MESSAGE("the file system has no extended attributes");
    return;
  }
  CHECK(salvage(file, sum_hash())->description == garbled);
  REQUIRE(describe(""));
  CHECK(salvage(file, sum_hash())->description.value_or("").empty());
  if (describe(std::string(60'000, 'x'))) {
    CHECK_FALSE(salvage(file, sum_hash())->description.has_value());
  }
  REQUIRE(::removexattr(file.path.c_str(), "user.blobcache") == 0);
  const auto salvaged = salvage(file, sum_hash());
  REQUIRE(salvaged.ok());
  CHECK_FALSE(salvaged->description.has_value());
}

TEST_CASE(
    "salvage: a damaged file is set aside with its other files, and brought back, again and "
    "again") {
  for (const size_t size : {size_t{300'001}, size_t{9'000'000}}) {
    CAPTURE(size);
    Stored object(size);
    const bool has_map = object.spec.inline_map.empty();
    const fs::path map = object.fixture.map_of(object.spec);
    const fs::path names = object.fixture.file_of(object.spec).string() + ".names";
    REQUIRE(object.fixture.store()
                .descriptions()
                .write_file(object.spec.key, object.spec.incarnation,
                            [](Descriptions::AddRecord add) { return add("a name"); })
                .ok());
    for (int round = 0; round < 2; ++round) {
      const StoredFile file = only_file(object.fixture);
      CHECK_FALSE(file.set_aside);
      REQUIRE(bring_back(file).ok());
      CHECK(names_told(file) == std::vector<std::string>{"a name"});
      REQUIRE(set_aside(file).ok());
      CHECK_FALSE(fs::exists(names));
      // As after a kill between the renames.
      CHECK(names_told(file) == std::vector<std::string>{"a name"});
      CHECK(fs::exists(file.path.string() + ".damaged"));
      CHECK_FALSE(fs::exists(file.path));
      CHECK_FALSE(fs::exists(map));
      CHECK(fs::exists(map.string() + ".damaged") == has_map);
      const StoredFile aside = only_file(object.fixture);
      CHECK(aside.set_aside);
      CHECK(aside.key == object.spec.key);
      CHECK(aside.incarnation == object.spec.incarnation);
      CHECK(salvage(aside, sum_hash()).ok());
      CHECK(names_told(aside) == std::vector<std::string>{"a name"});
      REQUIRE(set_aside(aside).ok());
      REQUIRE(bring_back(aside).ok());
    }
    CHECK(fs::exists(map) == has_map);
    CHECK(fs::exists(names));
    CHECK(reads_whole(*object.fixture.store().attach(object.spec), object.content));
  }
}

}  // namespace blobcache::page
