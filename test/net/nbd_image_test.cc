// An NBD server's export as a writable image, over a real page store.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "net/impl/nbd_tree.h"
#include "net/nbd_origin.h"
#include "store/page/object.h"
#include "store/page/page_store.h"
#include "store/tree/origin.h"
#include "store/volume/image.h"
#include "test/net/fixture.h"
#include "test/net/nbd_fixture.h"

namespace blobcache::net {
namespace {

using absl::StatusCode;

/// A server of a file, a page store, and the file's content as it should be.
struct ImageWorld : NbdWorld {
  explicit ImageWorld(std::vector<std::string> filters = {}, uint64_t size = 2 * kMib + 512,
                      std::vector<std::string> settings = {})
      : content(random_bytes(size, 5)), path(file(content).string()) {
    command = std::move(filters);
    command.insert(command.end(), {"file", path});
    command.insert(command.end(), settings.begin(), settings.end());
    server.nbdkit(command);
    page::PageStoreOptions page_options;
    page_options.path = dir.path() / "store";
    std::filesystem::create_directory(page_options.path);
    page_options.memory_bytes = 64 * kMib;
    pages = value_of(page::PageStore::open(page_options));
    origin_options = options();
    origin_options.read_only = false;
    origin = NbdWorld::origin(origin_options);
  }
  [[nodiscard]] Bytes upstream() const {
    std::ifstream in(path, std::ios::binary);
    std::vector<char> raw((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    Bytes bytes(raw.size());
    std::transform(raw.begin(), raw.end(), bytes.begin(),
                   [](char c) { return static_cast<std::byte>(c); });
    return bytes;
  }
  void put(uint64_t offset, const Bytes& bytes) {
    std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<std::ptrdiff_t>(offset));
  }
  void clear(uint64_t offset, uint64_t length) { put(offset, Bytes(length)); }

  Bytes content;
  std::string path;
  std::vector<std::string> command;
  std::unique_ptr<page::PageStore> pages;
  NbdOriginOptions origin_options;
  std::shared_ptr<NbdTree> origin;
};

void write_and_compare(ImageWorld& world) {
  const OpenImage open(*world.origin, *world.pages);
  CHECK(value_of(open.read(0, world.content.size())) == world.content);
  uint64_t seed = 100;
  for (const auto& [offset, length] :
       std::vector<std::pair<uint64_t, uint64_t>>{{0, 4096},
                                                  {8192, 512},
                                                  {12288 + 7, 3},
                                                  {20000, 9000},
                                                  {world.content.size() - 700, 700},
                                                  {kMib - 100, 200},
                                                  {world.content.size() - 1, 1},
                                                  {65536, 65536}}) {
    CAPTURE(offset);
    const Bytes bytes = random_bytes(length, ++seed);
    CHECK(open.write(offset, bytes, seed % 2 == 0).ok());
    world.put(offset, bytes);
    CHECK(value_of(open.read(offset, length)) == bytes);
  }
  CHECK(open.zero(100001, 5).ok());
  world.clear(100001, 5);
  CHECK(open.zero(200000, 300000, {.fua = true, .no_hole = true}).ok());
  world.clear(200000, 300000);
  CHECK(open.flush().ok());
  CHECK(value_of(open.read(0, world.content.size())) == world.content);
  CHECK(world.upstream() == world.content);
}

TEST_CASE("writes go through, of any alignment, and are read as they were written") {
  NEEDS(kHaveNbdkit)
  ImageWorld world;
  write_and_compare(world);
}

TEST_CASE("so they do where the server has neither zeroes, trims nor FUA") {
  NEEDS(kHaveNbdkit)
  ImageWorld world({"--filter=nozero", "--filter=fua"}, 2 * kMib + 512, {"zeromode=none"});
  write_and_compare(world);
}

TEST_CASE("so they do where the server takes whole blocks alone, and small ones at most") {
  NEEDS(kHaveNbdkit)
  for (const char* least : {"512", "4096", "65536"}) {
    CAPTURE(least);
    ImageWorld world({"--filter=blocksize-policy"}, 2 * kMib,
                     {std::string("blocksize-minimum=") + least, "blocksize-preferred=65536",
                      "blocksize-maximum=131072", "blocksize-error-policy=error"});
    write_and_compare(world);
  }
}

TEST_CASE("what the page store has of a page that was written is not seen any more") {
  NEEDS(kHaveNbdkit)
  ImageWorld world;
  const OpenImage open(*world.origin, *world.pages);
  Bytes page(4096);
  CHECK(value_of(open.read(0, 65536)) ==
        Bytes(world.content.begin(), world.content.begin() + 65536));
  REQUIRE(open.image->try_read(4096, absl::MakeSpan(page)));
  const Bytes bytes = random_bytes(10, 77);
  REQUIRE(open.write(5000, bytes).ok());
  world.put(5000, bytes);
  CHECK_FALSE(open.image->try_read(4096, absl::MakeSpan(page)));  // it is at the server
  CHECK(value_of(open.read(0, 65536)) ==
        Bytes(world.content.begin(), world.content.begin() + 65536));
  REQUIRE(open.image->try_read(8192, absl::MakeSpan(page)));  // its neighbour is still here
  const uint64_t moved = world.origin->health().bytes_read;
  CHECK(open.read(8192, 4096).ok());
  CHECK(world.origin->health().bytes_read == moved);
}

TEST_CASE("writes to the same bytes at once are as one of them, in order, the last one last") {
  NEEDS(kHaveNbdkit)
  ImageWorld world;
  const OpenImage open(*world.origin, *world.pages);
  std::vector<Bytes> writes;
  std::vector<Answer> answers(300);
  for (size_t i = 0; i < answers.size(); ++i) {
    writes.emplace_back(3000, static_cast<std::byte>(i % 251 + 1));
    world.put(1000 + i * 10, writes.back());
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    open.image->write(1000 + i * 10, writes[i], false, answers[i].done());
  }
  for (const Answer& answer : answers) CHECK(answer.wait().ok());
  CHECK(world.upstream() == world.content);
}

TEST_CASE("a server killed in the middle of writes and back gets them all, in order") {
  NEEDS(kHaveNbdkit)
  ImageWorld world;
  const OpenImage open(*world.origin, *world.pages);
  REQUIRE(open.read(0, 4096).ok());
  world.server.stop();
  std::vector<Bytes> writes;
  std::vector<Answer> answers(100);
  for (size_t i = 0; i < answers.size(); ++i) {
    writes.push_back(random_bytes(5000, 1000 + i));
    const uint64_t offset = i * 2500;  // each overlaps the next
    world.put(offset, writes.back());
    open.image->write(offset, writes.back(), false, answers[i].done());
  }
  const Answer flushed;
  open.image->flush(Answer(flushed).done());
  world.server.kill();
  world.server.nbdkit(world.command);
  for (const Answer& answer : answers) CHECK(answer.wait().ok());
  CHECK(flushed.wait().ok());
  CHECK(value_of(open.read(0, 300000)) ==
        Bytes(world.content.begin(), world.content.begin() + 300000));
  CHECK(world.upstream() == world.content);
}

TEST_CASE("a read-only export is a file, whatever the origin may do") {
  NEEDS(kHaveNbdkit)
  ImageWorld world({"-r"});
  CHECK(value_of(world.origin->look_up("x")).kind == tree::OriginEntry::Kind::kFile);
  const tree::OriginFile file = value_of(world.origin->open("x"));
  CHECK_FALSE(file.make_image);
  CHECK(value_of(world.origin->look_up("x")).kind == tree::OriginEntry::Kind::kFile);
  CHECK(value_of(fetch(*file.version.source, 0, 100)) ==
        Bytes(world.content.begin(), world.content.begin() + 100));
}

TEST_CASE("errors of writes are the server's, and what is outside is refused") {
  NEEDS(kHaveNbdkit)
  ImageWorld world({"--filter=error"}, 2 * kMib, {"error-pwrite=ENOSPC", "error-pwrite-rate=100%"});
  const OpenImage open(*world.origin, *world.pages);
  CHECK(open.write(0, Bytes(512)).code() == StatusCode::kResourceExhausted);
  CHECK(value_of(open.read(0, 512)) == Bytes(world.content.begin(), world.content.begin() + 512));
  CHECK(open.write(2 * kMib - 1, Bytes(2)).code() == StatusCode::kOutOfRange);
  CHECK(open.read(2 * kMib, 1).status().code() == StatusCode::kOutOfRange);
  CHECK(open.zero(UINT64_MAX, 2).code() == StatusCode::kOutOfRange);
  CHECK(open.trim(1, UINT64_MAX).code() == StatusCode::kOutOfRange);
  Bytes buffer(2);
  CHECK_FALSE(open.image->try_read(2 * kMib - 1, absl::MakeSpan(buffer)));
}

TEST_CASE("the map tells the holes, and forgets them where something is written") {
  NEEDS(kHaveNbdkit)
  ImageWorld world({}, 4 * kMib);
  const OpenImage open(*world.origin, *world.pages);
  REQUIRE(open.trim(kMib, 2 * kMib).ok());
  const auto map = [&](uint64_t offset, uint64_t length, size_t most) {
    std::vector<volume::Run> out;
    const Answer answer;
    open.image->map(offset, length, most, [&out, done = Answer(answer).done()](auto runs) {
      if (runs.ok()) out = *runs;
      done(runs.status());
    });
    REQUIRE(answer.wait().ok());
    return out;
  };
  using Kind = volume::Run::Kind;
  const std::vector<volume::Run> whole = {
      {kMib, Kind::kData}, {2 * kMib, Kind::kZero}, {kMib, Kind::kData}};
  CHECK(map(0, 4 * kMib, 10) == whole);
  CHECK(map(0, 4 * kMib, 2).size() == 2);
  CHECK(map(kMib + 5, 100, 10) == std::vector<volume::Run>{{100, Kind::kZero}});
  REQUIRE(open.write(2 * kMib, random_bytes(4096, 8)).ok());
  CHECK(map(2 * kMib, 4096, 10) == std::vector<volume::Run>{{4096, Kind::kData}});
  CHECK(map(0, 0, 10).empty());
}

TEST_CASE("when the last holder closes it nothing of the session is left") {
  NEEDS(kHaveNbdkit)
  ImageWorld world;
  page::ObjectKey key;
  {
    const OpenImage open(*world.origin, *world.pages);
    key = open.object->key();
    REQUIRE(open.write(0, Bytes(4096)).ok());
  }
  world.clear(0, 4096);
  // The last operation holds the session for a moment after it was answered.
  for (int i = 0; i < 10000 && world.origin->health().connections > 0; ++i) {
    absl::SleepFor(absl::Milliseconds(1));
  }
  const OpenImage again(*world.origin, *world.pages);
  CHECK(again.object->key() != key);
  CHECK(value_of(again.read(0, 8192)) ==
        Bytes(world.content.begin(), world.content.begin() + 8192));
  Bytes page(4096);
  CHECK(again.image->try_read(0, absl::MakeSpan(page)));  // and is cached, as it was not written
}

}  // namespace
}  // namespace blobcache::net
