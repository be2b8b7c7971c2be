#include "store/tree/path.h"

#include <doctest/doctest.h>

#include <string>

#include "base/status.h"

namespace blobcache::tree {
namespace {

using Components = std::vector<std::string_view>;
using namespace std::string_literals;

TEST_CASE("path: names along it") {
  CHECK(split_path("files/a/b").value() == Components{"files", "a", "b"});
  CHECK(split_path("/files").value() == Components{"files"});
  CHECK(split_path("").value().empty());
  CHECK(split_path("/").value().empty());
  // Components are bytes: blanks, control characters and broken UTF-8 are all right.
  CHECK(split_path("files/ a\n/\xff\x80/...").value() ==
        Components{"files", " a\n", "\xff\x80", "..."});
}

TEST_CASE("path: what is refused, and why") {
  struct Example {
    std::string path;
    std::string_view why;
  };
  for (const Example& example : {
           Example{"//files", "empty name"},
           Example{"files//a", "empty name"},
           Example{"files/a/", "slash at the end"},
           Example{"files/./a", "no meaning"},
           Example{"files/../a", "no meaning"},
           Example{"..", "no meaning"},
           Example{"files/a\0b"s, "NUL"},
           Example{"files/" + std::string(256, 'x'), "256 bytes"},
           Example{"files/" + std::string(5000, '/'), "at most 4096"},
       }) {
    INFO(example.path.substr(0, 30));
    const auto names = split_path(example.path);
    REQUIRE_FALSE(names.ok());
    CHECK(absl::IsInvalidArgument(names.status()));
    CHECK(base::message(names.status()).find(example.why) != std::string_view::npos);
    CHECK(base::message(names.status()).find('\n') == std::string_view::npos);
  }
}

TEST_CASE("path: the longest name and the longest path are all right") {
  CHECK(split_path("files/" + std::string(255, 'x')).ok());
  std::string path = "files";
  while (path.size() + 2 <= kMaxPathBytes) path += "/x";
  path.resize(kMaxPathBytes, 'x');
  REQUIRE(path.size() == kMaxPathBytes);
  CHECK(split_path(path).ok());
  CHECK_FALSE(split_path(path + "x").ok());
}

TEST_CASE("path: one name") {
  CHECK(check_name("a").ok());
  for (const std::string& name : {""s, "."s, ".."s, "a/b"s, "/"s, "a\0"s, std::string(256, 'x')}) {
    INFO(name);
    CHECK(absl::IsInvalidArgument(check_name(name)));
  }
}

TEST_CASE("path: for a message it stays on one line and is not endless") {
  CHECK(printable("files/a b") == "files/a b");
  CHECK(printable("a\nb\x7f\\") == "a\\x0ab\\x7f\\x5c");
  CHECK(printable(std::string(100000, 'x')).size() < 1000);
}

}  // namespace
}  // namespace blobcache::tree
