#include <doctest/doctest.h>
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "net/impl/http_index.h"
#include "net/impl/s3_credentials.h"
#include "net/impl/s3_listing.h"

namespace blobcache::net {
namespace {

using Entries = std::vector<HttpIndexEntry>;

constexpr size_t kMost = 100;

std::string page(std::string_view links, std::string_view title = "Index of /a/") {
  return fmt::format("<html><head><title>{}</title></head><body><pre>{}</pre></body></html>", title,
                     links);
}

Entries html(std::string_view links, std::string_view path = "/a/") {
  return parse_index_html(page(links), path, kMost).value();
}

TEST_CASE("http index: the pages of nginx, Apache and Python") {
  CHECK(html("<a href=\"../\">../</a>\n<a href=\"sub/\">sub/</a>  29-Nov-2026 08:27  -\n"
             "<a href=\"a%20b\">a b</a>  29-Nov-2026 08:27  5\n"
             "<a href=\"./a:b\">a:b</a> <a href=\"x%3Ay\">x:y</a>") ==
        Entries{{"sub", true}, {"a b", false}, {"a:b", false}, {"x:y", false}});
  CHECK(html("<A HREF='?C=N;O=D'>Name</A> <a class=\"x\" href = \"/\">Parent Directory</a> "
             "<a href=\"a&amp;b.txt\">a&amp;b</a><a href=f.bin>f</a>") ==
        Entries{{"a&b.txt", false}, {"f.bin", false}});
  CHECK(parse_index_html(page("<li><a href=\"n\">n</a></li>", "Directory listing for /a/"), "/a/",
                         kMost)
            .value() == Entries{{"n", false}});
  // Links from the server's top.
  CHECK(html("<a href=\"/a/x\">x</a><a href=\"/b/y\">y</a><a href=\"/a/\">.</a>") ==
        Entries{{"x", false}});
  CHECK(html("<a href=\"/a%20b/x\">x</a>", "/a%20b/") == Entries{{"x", false}});
}

TEST_CASE("http index: links that lead elsewhere, and what is no name") {
  for (const char* const link :
       {"http://h/a/x", "//h/x", "mailto:x@y", "javascript:x", "#top", "x?y", "..", ".", "./",
        "a//", "x/y", "%2e%2e", "x%2Fy", "x%00", "x%zz", "", "../x", "a/../b"}) {
    CHECK_MESSAGE(html(fmt::format("<a href=\"{}\">x</a>", link)).empty(), link);
  }
  CHECK(html("<a name=\"x\">x</a><a href>x</a><a href=\"open>x</a>").empty());
  CHECK(html("<a href=\"x\">1</a><a href=\"x/\">2</a>") == Entries{{"x", false}});
}

TEST_CASE("http index: what is no listing, or too much of one") {
  for (const char* const text : {"", "<", "<html>", "<title>", "<title>Welcome</title>",
                                 "<a href=\"x\">x</a>", "{}", "[]"}) {
    CHECK_MESSAGE(absl::IsUnimplemented(parse_index_html(text, "/", kMost).status()), text);
  }
  std::string links;
  for (size_t i = 0; i <= kMost; ++i) links += fmt::format("<a href=\"n{}\">n</a>", i);
  CHECK(absl::IsResourceExhausted(parse_index_html(page(links), "/a/", kMost).status()));
  CHECK(parse_index_html(page(links), "/a/", kMost + 1).value().size() == kMost + 1);
}

TEST_CASE("http index: nginx's JSON") {
  CHECK(parse_index_json(R"([{"name":"d","type":"directory","mtime":"x"},
                             {"type":"file","name":"f\u00e4","size":3},
                             {"name":"o","type":"other"},{"name":"..","type":"directory"},
                             {"name":"a/b","type":"file"},{"name":"","type":"file"},
                             {"name":"n","type":"file","more":{"name":"no","type":"file"}}])",
                         kMost)
            .value() == Entries{{"d", true}, {"f\xc3\xa4", false}, {"n", false}});
  CHECK(parse_index_json("[]", kMost).value().empty());
  for (const char* const text : {"", "{}", "3", "\"x\"", "[",
                                 "[{\"name\":", "{\"name\":\"x\",\"type\":\"file\"}", "<html>"}) {
    CHECK_MESSAGE(absl::IsUnimplemented(parse_index_json(text, kMost).status()), text);
  }
  // However deep.
  CHECK(!parse_index_json(std::string(1000000, '['), kMost).ok());
  std::string many = "[";
  for (size_t i = 0; i <= kMost; ++i) many += R"({"name":"n","type":"file"},)";
  many.back() = ']';
  CHECK(absl::IsResourceExhausted(parse_index_json(many, kMost).status()));
}

TEST_CASE("http index: entities") {
  CHECK(decode_entities("a&amp;b&lt;&gt;&quot;&apos;") == "a&b<>\"'");
  CHECK(decode_entities("&#65;&#x42;&#xe4;&#x20AC;&#128512;") ==
        "AB\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
  for (const char* const same : {"&", "&;", "&x", "&nope;", "&#;", "&#x;", "&#0;", "&#xD800;",
                                 "&#x110000;", "&#99999999999;", "&amp"}) {
    CHECK_MESSAGE(decode_entities(same) == same, same);
  }
}

TEST_CASE("s3 listing: objects, folders, and where it goes on") {
  const S3Page page = parse_list_objects(R"(<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
<Prefix>a/</Prefix><KeyCount>2</KeyCount><IsTruncated>true</IsTruncated>
<NextContinuationToken>1+/=</NextContinuationToken>
<Contents><Key>a/x &amp; y</Key><LastModified>2026-11-29T08:27:12.345Z</LastModified>
<ETag>&quot;abc&quot;</ETag><Size>12</Size><Owner><ID>Key</ID></Owner>
<StorageClass>STANDARD</StorageClass></Contents>
<Contents><Key><![CDATA[a/<z>]]></Key><ETag>def</ETag><Size>0</Size></Contents>
<!-- <Contents> -->
<CommonPrefixes><Prefix>a/sub/</Prefix></CommonPrefixes><EncodingType/></ListBucketResult>
)",
                                         kMost)
                          .value();
  REQUIRE(page.objects.size() == 2);
  CHECK(page.objects[0].key == "a/x & y");
  CHECK(page.objects[0].version.etag == "\"abc\"");
  CHECK(page.objects[0].version.size_bytes == 12);
  CHECK(page.objects[0].version.last_modified == "Sun, 29 Nov 2026 08:27:12 GMT");
  CHECK(page.objects[1].key == "a/<z>");
  CHECK(page.objects[1].version.etag == "\"def\"");
  CHECK(page.objects[1].version.is_strong());
  CHECK(page.prefixes == std::vector<std::string>{"a/sub/"});
  CHECK(page.is_truncated);
  CHECK(page.next == "1+/=");
}

TEST_CASE("s3 listing: names that are encoded") {
  const S3Page page =
      parse_list_objects(
          "<ListBucketResult><Contents><Key>a+b%2B%0A</Key><Size>1</Size></Contents>"
          "<EncodingType>url</EncodingType></ListBucketResult>",
          kMost)
          .value();
  CHECK(page.objects.at(0).key == "a b+\n");
  CHECK(!page.is_truncated);
}

TEST_CASE("s3 listing: what is none") {
  const std::string deep(100, 'x');
  std::string nested = "<ListBucketResult>";
  for (int i = 0; i < 100; ++i) nested += "<a>";
  std::string many = "<ListBucketResult>";
  for (size_t i = 0; i <= kMost; ++i) many += "<Contents><Key>k</Key></Contents>";
  many += "</ListBucketResult>";
  const std::vector<std::string> bad = {
      "",
      "text",
      "<Error><Code>NoSuchBucket</Code></Error>",
      "<ListBucketResult>",
      "<ListBucketResult></Other>",
      "</ListBucketResult>",
      "<ListBucketResult><Contents></ListBucketResult></Contents>",
      "<!DOCTYPE x [<!ENTITY a \"b\">]><ListBucketResult></ListBucketResult>",
      "<ListBucketResult><Contents><Size>-1</Size></Contents></ListBucketResult>",
      "<ListBucketResult><Contents><Size>99999999999999999999</Size></Contents></ListBucketResult>",
      "<ListBucketResult><Contents><Key>%zz</Key></Contents><EncodingType>url</EncodingType>"
      "</ListBucketResult>",
      "<ListBucketResult><![CDATA[x</ListBucketResult>",
      "<ListBucketResult><!-- x</ListBucketResult>",
      "<>",
      "<ListBucketResult",
      nested,
      many};
  for (const std::string& text : bad) {
    CHECK_MESSAGE(absl::IsInvalidArgument(parse_list_objects(text, kMost).status()), text);
  }
  CHECK(s3_error_code("<Error><Code>NoSuchBucket</Code></Error>") == "NoSuchBucket");
  CHECK(s3_error_code("<Error><Code>No\nSuch</Code></Error>").empty());
  CHECK(s3_error_code("<Code>" + std::string(65, 'x') + "</Code>").empty());
  CHECK(s3_error_code("").empty());
}

TEST_CASE("s3 credentials: the section that is meant, whole") {
  const std::string_view text =
      "# keys\n[default]\naws_access_key_id = AKID\naws_secret_access_key=abc/+=\n\n"
      "; another\n[ two ]\r\naws_access_key_id=B\r\naws_secret_access_key=c\r\n"
      "aws_session_token = t==\r\nregion = x\n[half]\naws_access_key_id = C\n"
      "[odd]\naws_access_key_id = a b\naws_secret_access_key = c\n";
  CHECK(parse_credentials(text, "default").value() == S3Keys{"AKID", "abc/+=", ""});
  CHECK(parse_credentials(text, "two").value() == S3Keys{"B", "c", "t=="});
  CHECK(absl::IsNotFound(parse_credentials(text, "three").status()));
  CHECK(absl::IsInvalidArgument(parse_credentials(text, "half").status()));
  CHECK(absl::IsInvalidArgument(parse_credentials(text, "odd").status()));
  CHECK(absl::IsNotFound(parse_credentials("", "default").status()));
  const absl::Status status = parse_credentials("[default]\nsesame\n", "default").status();
  CHECK(status.message() == "line 2: must be as in name = value");
  CHECK(parse_credentials("[x\n", "x").status().message() == "line 1: a bracket is open");
}

}  // namespace
}  // namespace blobcache::net
