#include "blockdev/export_filter.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace blobcache::blockdev {
namespace {

ExportFilter filter(const std::vector<std::string>& patterns) {
  auto parsed = ExportFilter::parse(patterns);
  REQUIRE(parsed.ok());
  return *std::move(parsed);
}

TEST_CASE("export filter: ** allows everything and an empty list nothing") {
  CHECK(filter({"**"}).allows("files/a/b/c"));
  CHECK(filter({"**"}).allows("blobs/00"));
  CHECK(filter({"**"}).allows_below("files"));
  CHECK_FALSE(filter({}).allows("files/a"));
  CHECK_FALSE(filter({}).allows_below("files"));
}

TEST_CASE("export filter: a star stays within one component") {
  const ExportFilter images = filter({"files/images/*"});
  CHECK(images.allows("files/images/a.raw"));
  CHECK(images.allows("files/images/*"));
  CHECK_FALSE(images.allows("files/images/old/a.raw"));
  CHECK_FALSE(images.allows("files/images"));
  CHECK_FALSE(images.allows("files/imagesX"));
  CHECK_FALSE(images.allows("Xfiles/images/a"));
  CHECK(filter({"files/*.img"}).allows("files/.img"));
  CHECK(filter({"files/a*b*c"}).allows("files/aXbYbZc"));
  CHECK_FALSE(filter({"files/a*b*c"}).allows("files/aXbYbZ"));
}

TEST_CASE("export filter: a question mark is one character, never a slash") {
  CHECK(filter({"files/disk?"}).allows("files/disk1"));
  CHECK_FALSE(filter({"files/disk?"}).allows("files/disk"));
  CHECK_FALSE(filter({"files?x"}).allows("files/x"));
}

TEST_CASE("export filter: ** crosses components and may stand for none") {
  const ExportFilter deep = filter({"files/**/*.img"});
  CHECK(deep.allows("files/a.img"));
  CHECK(deep.allows("files/x/a.img"));
  CHECK(deep.allows("files/x/y/a.img"));
  CHECK_FALSE(deep.allows("files/x/a.raw"));
  CHECK_FALSE(deep.allows("other/a.img"));
  CHECK_FALSE(deep.allows("filesa.img"));
  CHECK(filter({"**/b"}).allows("b"));
  CHECK(filter({"**/b"}).allows("a/b"));
  CHECK_FALSE(filter({"**/b"}).allows("ab"));
  CHECK_FALSE(filter({"**/b"}).allows("a/cb"));
  CHECK(filter({"files/**"}).allows("files/a/b"));
  CHECK_FALSE(filter({"files/**"}).allows("files"));
  CHECK(filter({"files/v**d"}).allows("files/va/b/cd"));
}

TEST_CASE("export filter: any pattern of several admits") {
  const ExportFilter both = filter({"files/a", "blobs/*"});
  CHECK(both.allows("files/a"));
  CHECK(both.allows("blobs/12"));
  CHECK_FALSE(both.allows("files/b"));
}

TEST_CASE("export filter: a walk enters only directories that can hold something allowed") {
  const ExportFilter images = filter({"files/images/*"});
  CHECK(images.allows_below("files"));
  CHECK(images.allows_below("files/images"));
  CHECK_FALSE(images.allows_below("files/images/old"));
  CHECK_FALSE(images.allows_below("files/other"));
  CHECK_FALSE(images.allows_below("blobs"));
  CHECK(filter({"files/**/x"}).allows_below("files/a/b/c"));
  CHECK_FALSE(filter({"files/a"}).allows_below("files/a"));
}

TEST_CASE("export filter: many stars take no exponential time") {
  std::string pattern = "files/";
  for (int i = 0; i < 200; ++i) pattern += "*a";
  CHECK_FALSE(filter({pattern}).allows("files/" + std::string(2000, 'a') + "b"));
}

TEST_CASE("export filter: bad patterns are refused with the reason") {
  for (const std::string& bad :
       {std::string(), std::string("/files"), std::string("files/"), std::string(5000, 'a'),
        std::string("["), std::string("files/[a-z].img"), std::string("files/a]")}) {
    CHECK(absl::IsInvalidArgument(ExportFilter::parse({"**", bad}).status()));
  }
}

}  // namespace
}  // namespace blobcache::blockdev
