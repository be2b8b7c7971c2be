#include "store/tree/impl/origin_listing.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "store/tree/impl/origin_listings.h"
#include "store/tree/origin.h"

namespace blobcache::tree {
namespace {

std::vector<OriginEntry> entries_of(const std::vector<std::string>& names) {
  std::vector<OriginEntry> entries;
  for (const std::string& name : names) {
    entries.emplace_back();
    entries.back().name = name;
  }
  return entries;
}

std::vector<std::string> names_after(const OriginListing& listing, uint64_t after, size_t limit) {
  std::vector<std::string> names;
  for (const OriginListing::Numbered& each : listing.after(after, limit)) {
    names.push_back(each.entry.name);
  }
  return names;
}

uint64_t number_of(const OriginListing& listing, const std::string& name) {
  for (const OriginListing::Numbered& each : listing.after(0, SIZE_MAX)) {
    if (each.entry.name == name) return each.number;
  }
  return 0;
}

using Names = std::vector<std::string>;

TEST_CASE("origin listing: in the order of the names, in pieces") {
  OriginListing listing;
  listing.update(entries_of({"a", "b", "c"}));
  CHECK(names_after(listing, 0, 2) == Names{"a", "b"});
  CHECK(names_after(listing, number_of(listing, "b"), 2) == Names{"c"});
  CHECK(names_after(listing, number_of(listing, "c"), 2).empty());
  CHECK(names_after(listing, 0, 0).empty());
}

TEST_CASE("origin listing: who goes on is not confused by what came and went") {
  OriginListing listing;
  listing.update(entries_of({"b", "d", "f"}));
  const uint64_t at_d = number_of(listing, "d");
  const uint64_t at_f = number_of(listing, "f");
  listing.update(entries_of({"a", "b", "c", "e", "f", "g"}));
  CHECK(names_after(listing, at_d, 10) == Names{"e", "f", "g"});
  CHECK(number_of(listing, "f") == at_f);
  CHECK(names_after(listing, 0, 10) == Names{"a", "b", "c", "e", "f", "g"});
}

TEST_CASE("origin listing: numbers rise whatever comes, where, and how often") {
  OriginListing listing;
  std::vector<std::string> names;
  const auto check = [&] {
    listing.update(entries_of(names));
    uint64_t last = 0;
    for (const OriginListing::Numbered& each : listing.after(0, SIZE_MAX)) {
      REQUIRE(each.number > last);
      REQUIRE(each.number <= uint64_t{1} << 62);
      last = each.number;
    }
    REQUIRE(names_after(listing, 0, SIZE_MAX) == names);
  };
  SUBCASE("at the end") {
    for (int i = 1000; i < 2000; ++i) {
      names.push_back(std::to_string(i));
      check();
    }
  }
  SUBCASE("at the beginning") {
    for (int i = 2000; i > 1000; --i) {
      names.insert(names.begin(), std::to_string(i));
      check();
    }
  }
  SUBCASE("each next to the one before, until the gap is used up") {
    names = {"1", "3"};
    for (int i = 1000; i < 1200; ++i) {
      names.insert(names.end() - 1, "2" + std::to_string(i));
      check();
    }
  }
  SUBCASE("as many as there may be at once") {
    for (size_t i = 0; i < kMaxOriginEntries; ++i) names.push_back(std::to_string(1'000'000 + i));
    check();
    check();
  }
}

TEST_CASE("origin listing: the same directory has the same numbers again") {
  OriginListing first;
  OriginListing second;
  first.update(entries_of({"x", "y", "z"}));
  second.update(entries_of({"x", "y", "z"}));
  CHECK(number_of(first, "y") == number_of(second, "y"));
}

TEST_CASE("origin listing: what cannot be shown is left out, and of one name the first stays") {
  const auto entry = [](std::string name, OriginEntry::Kind kind, uint64_t size = 0,
                        std::string target = "") {
    OriginEntry out;
    out.name = std::move(name);
    out.kind = kind;
    out.size_bytes = size;
    out.target = std::move(target);
    return out;
  };
  using enum OriginEntry::Kind;
  const std::string longest(255, 'n');
  const std::vector<OriginEntry> kept = listable(
      {entry("b", kFile, 1), entry("a", kFile, 2), entry("b", kDirectory), entry("B", kFile, 3),
       entry("", kFile), entry(".", kDirectory), entry("..", kDirectory), entry("a/b", kFile),
       entry("/", kDirectory), entry(std::string("a\0b", 3), kFile), entry(longest, kFile),
       entry(longest + "n", kFile), entry("\x01\n\x7f\xff ", kFile), entry("...", kFile),
       entry("to", kSymlink, 0, "x"), entry("to-nothing", kSymlink),
       entry("to-nul", kSymlink, 0, std::string("a\0", 2))});
  std::vector<std::string> names;
  for (const OriginEntry& each : kept) names.push_back(each.name);
  CHECK(names == std::vector<std::string>{"\x01\n\x7f\xff ", "...", "B", "a", "b", longest, "to"});
  CHECK(kept[4].kind == kFile);
  CHECK(kept[4].size_bytes == 1);
  CHECK(listable({}).empty());
}

TEST_CASE("origin listings: a walk asks once, and the oldest go first") {
  OriginListings listings(/*most_entries=*/6);
  int asked = 0;
  const auto ask = [&]() -> absl::StatusOr<std::vector<OriginEntry>> {
    ++asked;
    return entries_of({"a", "b"});
  };
  const auto first = listings.list(1, 0, 1, ask);
  REQUIRE(first.ok());
  REQUIRE(first->size() == 1);
  const auto second = listings.list(1, first->front().number, 1, ask);
  REQUIRE(second.ok());
  CHECK(second->front().entry.name == "b");
  CHECK(asked == 1);
  // Another walk sees what is there by then.
  CHECK(listings.list(1, 0, 1, ask).ok());
  CHECK(asked == 2);
  CHECK(listings.list(2, 0, 1, ask).ok());
  CHECK(listings.list(3, 0, 1, ask).ok());
  CHECK(asked == 4);
  // 1 is gone: it is asked again, and the place in it is the same.
  const auto again = listings.list(1, first->front().number, 1, ask);
  REQUIRE(again.ok());
  CHECK(asked == 5);
  CHECK(again->front().entry.name == "b");
}

TEST_CASE("origin listings: an error is an error, and nothing is kept of it") {
  OriginListings listings;
  const auto fails = [&]() -> absl::StatusOr<std::vector<OriginEntry>> {
    return absl::UnavailableError("away");
  };
  CHECK(absl::IsUnavailable(listings.list(1, 0, 1, fails).status()));
  const auto works = [&]() -> absl::StatusOr<std::vector<OriginEntry>> {
    return entries_of({"a"});
  };
  CHECK(listings.list(1, 0, 1, works)->size() == 1);
}

}  // namespace
}  // namespace blobcache::tree
