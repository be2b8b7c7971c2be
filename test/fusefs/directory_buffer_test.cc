#include "fusefs/impl/directory_buffer.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <linux/fuse.h>

#include <cstring>
#include <limits>
#include <vector>

namespace blobcache::fusefs {
namespace {

struct Packed {
  std::string name;
  uint64_t node;
  uint64_t next;
  uint32_t type;
};

/// Reads a listing as the kernel does.
std::vector<Packed> unpack(Listing listing, absl::Span<const char> bytes) {
  const size_t before = listing == Listing::kAttributes ? sizeof(fuse_entry_out) : 0;
  std::vector<Packed> out;
  for (size_t at = 0; at < bytes.size();) {
    fuse_dirent header;
    std::memcpy(&header, bytes.data() + at + before, sizeof(header));
    const char* name = bytes.data() + at + before + FUSE_NAME_OFFSET;
    out.push_back({std::string(name, header.namelen), header.ino, header.off, header.type});
    at += FUSE_DIRENT_ALIGN(before + FUSE_NAME_OFFSET + header.namelen);
  }
  return out;
}

fuse_entry_param file(uint64_t node) {
  fuse_entry_param out = {};
  out.ino = node;
  out.attr.st_ino = node;
  out.attr.st_mode = S_IFREG | 0444;
  return out;
}

TEST_CASE("fusefs directory buffer: entries come out as they went in") {
  for (const Listing listing : {Listing::kNames, Listing::kAttributes}) {
    DirectoryBuffer buffer(listing, 4096);
    CHECK(buffer.empty());
    REQUIRE(buffer.add("a", file(10), 3));
    REQUIRE(buffer.add("a longer name", file(11), 4));
    REQUIRE(buffer.add(std::string(255, 'x'), file(12), 5));
    CHECK_FALSE(buffer.empty());
    const std::vector<Packed> entries = unpack(listing, buffer.bytes());
    REQUIRE(entries.size() == 3);
    CHECK(entries[0].name == "a");
    CHECK(entries[0].node == 10);
    CHECK(entries[1].name == "a longer name");
    CHECK(entries[1].next == 4);
    CHECK(entries[2].name == std::string(255, 'x'));
    CHECK(entries[2].type == S_IFREG >> 12);
  }
}

TEST_CASE("fusefs directory buffer: an entry that does not fit changes nothing") {
  for (const Listing listing : {Listing::kNames, Listing::kAttributes}) {
    DirectoryBuffer buffer(listing, 512);
    size_t added = 0;
    while (buffer.add(fmt::format("{:08}", added), file(added + 1), 1)) ++added;
    CHECK(added > 1);
    CHECK(unpack(listing, buffer.bytes()).size() == added);
    CHECK(buffer.room_for() == 0);
    const size_t used = buffer.bytes().size();
    CHECK_FALSE(buffer.add("again too long", file(1), 1));
    CHECK(buffer.bytes().size() == used);
  }
}

TEST_CASE("fusefs directory buffer: room_for is what fits of short names") {
  for (const Listing listing : {Listing::kNames, Listing::kAttributes}) {
    DirectoryBuffer buffer(listing, 4096);
    const size_t room = buffer.room_for();
    for (size_t i = 0; i < room; ++i) REQUIRE(buffer.add("12345678", file(1), 1));
    CHECK_FALSE(buffer.add("12345678", file(1), 1));
  }
}

TEST_CASE("fusefs directory buffer: offsets and cookies are each other's reverse") {
  for (const uint64_t cookie : {uint64_t{1}, uint64_t{4096}, uint64_t{1} << 62}) {
    const auto offset = offset_of_cookie(cookie);
    REQUIRE(offset.has_value());
    CHECK(*offset > kAfterDotDot);
    CHECK(cookie_of_offset(*offset) == cookie);
  }
  CHECK(cookie_of_offset(kAfterDotDot) == 0);  // from the start
  CHECK_FALSE(offset_of_cookie(std::numeric_limits<uint64_t>::max()).has_value());
  CHECK_FALSE(offset_of_cookie(std::numeric_limits<int64_t>::max()).has_value());
}

}  // namespace
}  // namespace blobcache::fusefs
