#include "server/ctl/arguments.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "base/status.h"

namespace blobcache::ctl {
namespace {

const std::string kHex = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

template <typename Value>
bool invalid(const absl::StatusOr<Value>& value, std::string_view reason) {
  return absl::IsInvalidArgument(value.status()) &&
         base::message(value.status()).find(reason) != std::string_view::npos;
}

TEST_CASE("a path is one of the tree, or a digest") {
  CHECK(*parse_path("files/a/b") == "files/a/b");
  CHECK(*parse_path("/files/a") == "files/a");
  CHECK(*parse_path("files/a/") == "files/a");
  CHECK(*parse_path("/") == "");
  CHECK(*parse_path("sha256:" + kHex) == "blobs/" + kHex);
  CHECK(*parse_path("sha256:0123456789ABCDEF" + kHex.substr(16)) == "blobs/" + kHex);
}

TEST_CASE("a path is judged by the tree's own rules") {
  CHECK(invalid(parse_path("files/../x"), "bad path \"files/../x\""));
  CHECK(invalid(parse_path("files//x"), "an empty name"));
  CHECK(invalid(parse_path("files/" + std::string(256, 'n')), "256 bytes"));
  CHECK(*parse_path("files/" + std::string(255, 'n')) == "files/" + std::string(255, 'n'));
  CHECK(*parse_path("//x") == "/x");
  CHECK(invalid(parse_name("../x"), "bad path \"files/../x\""));
  CHECK(invalid(parse_name("files/./x"), "bad path"));
  CHECK(invalid(parse_name("a/"), "a slash at the end"));
}

TEST_CASE("a path that can never be right") {
  CHECK(invalid(parse_path(""), "empty"));
  CHECK(invalid(parse_path("files/\xff"), "UTF-8"));
  CHECK(invalid(parse_path("sha256:12"), "64"));
  CHECK(invalid(parse_path("sha256:" + kHex + "0"), "64"));
  CHECK(invalid(parse_path("sha256:g" + kHex.substr(1)), "no hex digit"));
}

TEST_CASE("a name is always under files/") {
  CHECK(*parse_name("a/b") == "files/a/b");
  CHECK(*parse_name("files/a/b") == "files/a/b");
  CHECK(*parse_name("/a") == "files/a");
  CHECK(*parse_name("files/files/a") == "files/files/a");
  CHECK(*parse_name("files/blobs/a") == "files/blobs/a");
  CHECK(*parse_name("filesystem") == "files/filesystem");
  CHECK(*parse_name("blobs.tar") == "files/blobs.tar");
}

TEST_CASE("a name that means nothing, or two things") {
  CHECK(invalid(parse_name(""), "empty"));
  CHECK(invalid(parse_name("/"), "empty"));
  CHECK(invalid(parse_name("files"), "empty"));
  CHECK(invalid(parse_name("files/"), "empty"));
  CHECK(invalid(parse_name("blobs/a"), "files/blobs/a"));
  CHECK(invalid(parse_name("volumes"), "files/volumes"));
  CHECK(invalid(parse_name("/origins/x"), "files/origins/x"));
}

TEST_CASE("a path that is not there and begins with no root gets a hint") {
  const absl::Status missing = absl::NotFoundError("gone");
  CHECK(base::message(with_hint(missing, "a/b")).find("files/a/b") != std::string_view::npos);
  CHECK(with_hint(missing, "files/a") == missing);
  CHECK(with_hint(missing, "blobs/a") == missing);
  CHECK(with_hint(missing, "") == missing);
  CHECK(with_hint(absl::InternalError("x"), "a/b") == absl::InternalError("x"));
}

TEST_CASE("ranges take units and must fit into 64 bits") {
  const absl::StatusOr<ByteRange> none = parse_range(std::nullopt, std::nullopt);
  CHECK(none->offset == 0);
  CHECK_FALSE(none->length.has_value());
  const absl::StatusOr<ByteRange> both = parse_range("1MiB", "512");
  CHECK(both->offset == 1048576);
  CHECK(*both->length == 512);
  CHECK(*parse_range(std::nullopt, "0")->length == 0);
  CHECK(parse_range("18446744073709551615", "0").ok());
  CHECK(invalid(parse_range("18446744073709551615", "1"), "overflow"));
  CHECK(invalid(parse_range("-1", std::nullopt), "--offset"));
  CHECK(invalid(parse_range(std::nullopt, "-5"), "--length"));
  CHECK(invalid(parse_range("99999999999999999999", std::nullopt), "--offset"));
  CHECK(invalid(parse_range("1x", std::nullopt), "--offset"));
  CHECK(invalid(parse_range("", std::nullopt), "--offset"));
}

TEST_CASE("rates") {
  CHECK(*parse_rate("100MiB") == 100U << 20);
  CHECK(*parse_rate("100MiB/s") == 100U << 20);
  CHECK(*parse_rate("4096") == 4096);
  CHECK(*parse_rate("0") == 0);
  CHECK(*parse_rate("unlimited") == 0);
  for (const char* bad :
       {"", "/s", "fast", "-1", "1MiB/min", "unlimited/s", "99999999999999999999"}) {
    CAPTURE(bad);
    CHECK(invalid(parse_rate(bad), bad));
  }
}

TEST_CASE("endpoints") {
  CHECK(parse_endpoint("unix:/run/x.sock")->path == "/run/x.sock");
  CHECK(parse_endpoint("/run/x.sock")->path == "/run/x.sock");
  const absl::StatusOr<base::ListenAddress> tcp = parse_endpoint("tcp:[::1]:7440");
  CHECK(tcp->host == "::1");
  CHECK(tcp->port == 7440);
  CHECK(invalid(parse_endpoint(""), "empty"));
  CHECK(invalid(parse_endpoint("run/x.sock"), "run/x.sock"));
  CHECK(invalid(parse_endpoint("http://x"), "http://x"));
}

TEST_CASE("mountpoints are made absolute") {
  CHECK(*absolute_path("mnt", "/home/u") == "/home/u/mnt");
  CHECK(*absolute_path("../mnt/", "/home/u") == "/home/mnt");
  CHECK(*absolute_path("/mnt/./x//", "/home/u") == "/mnt/x");
  CHECK(*absolute_path(".", "/home/u") == "/home/u");
  CHECK(*absolute_path("/", "/home/u") == "/");
  CHECK(invalid(absolute_path("", "/home/u"), "empty"));
}

}  // namespace
}  // namespace blobcache::ctl
