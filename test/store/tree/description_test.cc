// What a blob's file says of itself: written, read back, and never trusted.

#include "store/tree/impl/description.h"

#include <doctest/doctest.h>
#include <fmt/format.h>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

const std::string kHead =
    "blobcache 2\n"
    "digest sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73\n"
    "size 7\n";

Description plain() { return {.key = digest_of("content"), .size_bytes = 7, .names = {}}; }

DescribedName named(std::string path) {
  return {.path = std::move(path),
          .mode = 0640,
          .uid = 1000,
          .gid = 4294967294,
          .modified = absl::FromUnixNanos(1'700'000'000'123'456'789)};
}

TEST_CASE("description: what is written is read back") {
  Description description = plain();
  CHECK(format_description(description).value() == kHead);
  CHECK(parse_description(kHead).value() == description);
  description.names = {named("files/a b%\n\xff"), named("files/dir/caf\xc3\xa9")};
  const std::string text = format_description(description).value();
  CHECK(text == kHead +
                    "name 640 1000 4294967294 1700000000123456789 files/a%20b%25%0A%FF\n"
                    "name 640 1000 4294967294 1700000000123456789 files/dir/caf%C3%A9\n");
  CHECK(parse_description(text).value() == description);
  description.more_names = true;
  CHECK(format_description(description).value() == text + "more names\n");
  CHECK(parse_description(text + "more names\n").value() == description);
}

TEST_CASE("description: a pin is told before the names, and never left out for want of room") {
  Description description = plain();
  description.pinned = true;
  CHECK(format_description(description) == kHead + "pinned\n");
  CHECK(parse_description(kHead + "pinned\n").value() == description);
  while (format_description(description)) {
    REQUIRE(description.names.size() < 100);
    description.names.push_back(named(fmt::format("files/{}", description.names.size())));
  }
  CHECK(description.names.size() > 20);
  const std::string elsewhere = format_names_elsewhere(description);
  CHECK(elsewhere == kHead + "pinned\nmore names\n");
  const Description read = parse_description(elsewhere).value();
  CHECK(read.pinned);
  CHECK(read.more_names);
  description.names.pop_back();
  CHECK(parse_description(format_description(description).value()).value() == description);
}

TEST_CASE("description: names beyond its bound make none") {
  Description description = plain();
  while (format_description(description)) {
    REQUIRE(description.names.size() < 100);
    description.names.push_back(named(fmt::format("files/{}", description.names.size())));
  }
  CHECK(description.names.size() > 20);
  description.names.pop_back();
  const std::string text = format_description(description).value();
  CHECK(text.size() <= kMaxDescriptionBytes);
  CHECK(parse_description(text).value() == description);
  // One that never fits.
  const std::string part(250, '\xff');
  description.names = {named("files/" + part + "/" + part + "/" + part)};
  CHECK_FALSE(format_description(description).has_value());
  const std::string elsewhere = format_names_elsewhere(description);
  CHECK(elsewhere == kHead + "more names\n");
  CHECK(parse_description(elsewhere).value().more_names);
}

TEST_CASE("description: records of a names file, and what they leave") {
  const DescribedName odd = named("files/a b%\n\xff");
  CHECK(format_bound(odd) == "name 640 1000 4294967294 1700000000123456789 files/a%20b%25%0A%FF");
  CHECK(format_gone(odd.path) == "gone files/a%20b%25%0A%FF");
  DescribedName anew = odd;
  anew.uid = 7;
  NameReplay replay;
  for (const std::string& record :
       {format_bound(odd), format_bound(named("files/b")), format_gone(odd.path),
        format_bound(named("files/c")), format_gone("files/never"), format_bound(anew),
        format_gone("files/b")}) {
    replay.take(record);
  }
  CHECK(replay.whole());
  CHECK_FALSE(replay.pinned());
  CHECK(replay.names().size() == 2);
  CHECK(replay.names().at(odd.path) == anew);
  CHECK(replay.names().contains("files/c"));
  for (const char* record :
       {"", "name", "gone", "gone ", "gone files", "gone files/a b", "gone files/../a",
        "name 644 0 0 1 blobs/a", "more names", "\xff", "not", "not pinned ", "pinned files/a"}) {
    INFO(record);
    NameReplay damaged = replay;
    damaged.take(record);
    CHECK_FALSE(damaged.whole());
    CHECK(damaged.names().size() == 2);
  }
  CHECK(format_pinned(true) == "pinned");
  CHECK(format_pinned(false) == "not pinned");
  for (const bool pinned : {true, false, true}) {
    replay.take(format_pinned(pinned));
    CHECK(replay.pinned() == pinned);
  }
  CHECK(replay.whole());
  CHECK(replay.names().size() == 2);
}

TEST_CASE("description: a time before 1970 does not cost the name") {
  Description description = plain();
  description.names = {named("files/a")};
  description.names[0].modified = absl::FromUnixSeconds(-5);
  CHECK(parse_description(format_description(description).value()).value().names[0].modified ==
        absl::UnixEpoch());
}

TEST_CASE("description: what nobody wrote is refused") {
  const std::string name = "name 644 0 0 1 files/a\n";
  CHECK(parse_description(kHead + name).ok());
  const std::string digest = kHead.substr(12, 79);
  const std::vector<std::string> bad = {
      std::string(),
      std::string("\n"),
      std::string("blobcache 2"),
      std::string("blobcache 2\n"),
      std::string("blobcache 1\n") + kHead.substr(12),
      std::string("blobcache 99999999999999999999\n") + kHead.substr(12),
      kHead.substr(0, kHead.size() - 1),
      "blobcache 2\nsize 7\n" + digest,
      "blobcache 2\ndigest sha256:00\nsize 7\n",
      "blobcache 2\ndigest " + std::string(64, '0') + "\nsize 7\n",
      "blobcache 2\ndigest sha256:" + std::string(64, 'A') + "\nsize 7\n",
      "blobcache 2\n" + digest + "size\n",
      "blobcache 2\n" + digest + "size \n",
      "blobcache 2\n" + digest + "size -1\n",
      "blobcache 2\n" + digest + "size +1\n",
      "blobcache 2\n" + digest + "size 7 \n",
      "blobcache 2\n" + digest + "size 0x7\n",
      "blobcache 2\n" + digest + "size 1125899906842625\n",
      "blobcache 2\n" + digest + "size 18446744073709551623\n",
      kHead + "\n",
      kHead + "pinned",
      kHead + "pinned \n",
      kHead + "pinned\npinned\n",
      kHead + name + "pinned\n",
      kHead + "name\n",
      kHead + "names 644 0 0 1 files/a\n",
      kHead + "name 644 0 0 1 files/a",
      kHead + "name 644 0 0 files/a\n",
      kHead + "name 888 0 0 1 files/a\n",
      kHead + "name 100644 0 0 1 files/a\n",
      kHead + "name 644 4294967296 0 1 files/a\n",
      kHead + "name 644 -1 0 1 files/a\n",
      kHead + "name 644 0 4294967296 1 files/a\n",
      kHead + "name 644 0 0 9223372036854775808 files/a\n",
      kHead + "name 644  0 0 1 files/a\n",
      kHead + "name 644 0 0 1 \n",
      kHead + "name 644 0 0 1 files\n",
      kHead + "name 644 0 0 1 /files/a\n",
      kHead + "name 644 0 0 1 blobs/a\n",
      kHead + "name 644 0 0 1 files/../a\n",
      kHead + "name 644 0 0 1 files//a\n",
      kHead + "name 644 0 0 1 files/a/\n",
      kHead + "name 644 0 0 1 files/a b\n",
      kHead + "name 644 0 0 1 files/a%\n",
      kHead + "name 644 0 0 1 files/a%0\n",
      kHead + "name 644 0 0 1 files/a%0g\n",
      kHead + "name 644 0 0 1 files/a%00\n",
      kHead + "name 644 0 0 1 files/a%2f%2fb\n",
      kHead + "name 644 0 0 1 files/" + std::string(256, 'x') + "\n",
      kHead + "name 644 0 0 1 files/\xff\n",
      kHead + "more names\n" + name,
      kHead + "more names\nmore names\n",
      kHead + std::string(1, '\0'),
  };
  for (const std::string& text : bad) {
    INFO(text);
    const absl::Status status = parse_description(text).status();
    CHECK(absl::IsDataLoss(status));
    CHECK(base::message(status).find('\n') == std::string_view::npos);
  }
  std::string longest = kHead;
  while (longest.size() <= kMaxDescriptionBytes) longest += name;
  CHECK(says(parse_description(longest).status(), "too long"));
}

}  // namespace
}  // namespace blobcache::tree
