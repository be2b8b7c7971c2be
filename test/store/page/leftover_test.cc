// Files that belong to nobody: which they are, and that nobody's files are touched.

#include "store/page/leftover.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include "store/page/page_store.h"
#include "test/store/page/store_fixture.h"

namespace blobcache::page {
namespace {

using Known = std::function<bool(const ObjectKey&, const Incarnation&)>;

std::vector<Leftover> leftovers(PageStore& store, const Known& known) {
  std::vector<Leftover> found;
  REQUIRE(store
              .for_each_leftover(known,
                                 [&](const Leftover& leftover) {
                                   found.push_back(leftover);
                                   return absl::OkStatus();
                                 })
              .ok());
  return found;
}

std::set<std::string> names(const std::vector<Leftover>& found) {
  std::set<std::string> names;
  for (const Leftover& leftover : found) names.insert(leftover.file.filename().string());
  return names;
}

void make_file(const std::filesystem::path& path) { std::ofstream(path) << "something"; }

bool nobody(const ObjectKey& /*key*/, const Incarnation& /*incarnation*/) { return false; }

}  // namespace

TEST_CASE("files of unknown objects are leftovers, with their page maps; all else is not") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec kept = fixture.put(content, 1);
  const ObjectSpec lost = fixture.put(content, 2);
  const auto known = [&](const ObjectKey& key, const Incarnation&) { return key == kept.key; };
  const std::string name = fixture.file_of(lost).filename().string();
  make_file(fixture.file_of(lost).string() + ".names");
  make_file(fixture.file_of(kept).string() + ".names");
  make_file(fixture.file_of(lost).string() + ".damaged");
  make_file(fixture.file_of(lost).parent_path() / "notes.txt");
  const auto found = leftovers(fixture.store(), known);
  CHECK(names(found) == std::set<std::string>{name, name + ".map", name + ".names"});
  for (const Leftover& leftover : found) {
    CHECK(leftover.kind == Leftover::Kind::kOrphan);
    CHECK(leftover.key == lost.key);
    CHECK(leftover.disk_bytes > 0);
    CHECK(fixture.store().remove_leftover(leftover).value());
    CHECK(!fixture.store().remove_leftover(leftover).value());
  }
  CHECK(leftovers(fixture.store(), known).empty());
  CHECK(std::filesystem::exists(fixture.file_of(lost).string() + ".damaged"));
  CHECK(reads_whole(*fixture.store().attach(kept), content));
}

TEST_CASE("an orphan that somebody reads stays") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  const ObjectSpec spec = fixture.put(content, 1);
  const auto found = leftovers(fixture.store(), nobody);
  REQUIRE(found.size() == 2);
  const ObjectRef reader = fixture.store().attach(spec);
  for (const Leftover& leftover : found) CHECK(!fixture.store().remove_leftover(leftover).value());
  CHECK(reads_whole(*reader, content));
}

TEST_CASE("a put under way is no leftover before its end, nor after it") {
  Fixture fixture;
  const auto content = random_bytes(2U << 20, 1);
  auto writer = fixture.store().create(Retention::kKept, 0).value();
  REQUIRE(writer->append(content).ok());
  CHECK(leftovers(fixture.store(), nobody).empty());
  ObjectSpec spec;
  spec.key.bytes[0] = 1;
  const auto sealed = writer->seal(spec.key, {.text = "a test", .records = {}});
  REQUIRE(sealed.ok());
  CHECK(leftovers(fixture.store(), nobody).empty());
  writer->keep();
  writer = nullptr;
  CHECK(leftovers(fixture.store(), nobody).size() == 2);
}

TEST_CASE("temporary files that nobody writes are leftovers") {
  Fixture fixture;
  const std::filesystem::path tmp = fixture.path() / "tmp";
  const std::string stale = Incarnation::random().hex();
  make_file(tmp / stale);
  make_file(tmp / (stale + ".map"));
  make_file(tmp / (stale + ".names"));
  make_file(tmp / "notes.txt");
  std::filesystem::create_directory(tmp / Incarnation::random().hex());
  const auto writer = fixture.store().create(Retention::kKept, 0).value();
  const auto found = leftovers(fixture.store(), nobody);
  CHECK(names(found) == std::set<std::string>{stale, stale + ".map", stale + ".names"});
  for (const Leftover& leftover : found) {
    CHECK(leftover.kind == Leftover::Kind::kTemporary);
    CHECK(fixture.store().remove_leftover(leftover).value());
  }
  CHECK(std::filesystem::exists(tmp / "notes.txt"));
  CHECK(writer->append(random_bytes(100'000, 1)).ok());
}

}  // namespace blobcache::page
