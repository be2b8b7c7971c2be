#include "base/resolve_links.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "test/temporary_directory.h"

namespace blobcache::base {

namespace fs = std::filesystem;

TEST_CASE("links are resolved where they are, and the rest stays as it is written") {
  const test::TemporaryDirectory directory;
  const fs::path top = fs::canonical(directory.path());
  fs::create_directories(top / "a" / "b");
  fs::create_symlink("a/b", top / "relative");
  fs::create_symlink(top / "a", top / "absolute");
  fs::create_symlink("../absolute/b", top / "a" / "chain");
  fs::create_symlink("circle", top / "circle");
  CHECK(resolve_links(top / "a" / "b") == top / "a" / "b");
  CHECK(resolve_links(top / "a" / "b" / "") == top / "a" / "b");
  CHECK(resolve_links(top / "a" / "." / "b" / "..") == top / "a");
  CHECK(resolve_links(top / "relative") == top / "a" / "b");
  CHECK(resolve_links(top / "relative" / "..") == top / "a");
  CHECK(resolve_links(top / "absolute" / "x" / "y") == top / "a" / "x" / "y");
  CHECK(resolve_links(top / "a" / "chain" / "new") == top / "a" / "b" / "new");
  CHECK(resolve_links(top / "none" / ".." / "relative") == top / "a" / "b");
  CHECK(resolve_links("/") == "/");
  CHECK(resolve_links("/../..") == "/");
  CHECK(resolve_links("relative").is_absolute());
  CHECK(resolve_links(top / "circle").filename() == "circle");
}

}  // namespace blobcache::base
