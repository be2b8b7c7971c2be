#include "fusefs/impl/reply.h"

#include <doctest/doctest.h>

#include <cerrno>

#include "base/status.h"

namespace blobcache::fusefs {
namespace {

absl::Status with(absl::StatusCode code) { return absl::Status(code, "why"); }

TEST_CASE("fusefs reply: each status has its errno") {
  CHECK(errno_of(absl::OkStatus()) == 0);
  CHECK(errno_of(with(absl::StatusCode::kCancelled)) == EINTR);
  CHECK(errno_of(with(absl::StatusCode::kNotFound)) == ENOENT);
  CHECK(errno_of(with(absl::StatusCode::kAlreadyExists)) == EEXIST);
  CHECK(errno_of(with(absl::StatusCode::kInvalidArgument)) == EINVAL);
  CHECK(errno_of(with(absl::StatusCode::kOutOfRange)) == EINVAL);
  CHECK(errno_of(with(absl::StatusCode::kPermissionDenied)) == EACCES);
  CHECK(errno_of(with(absl::StatusCode::kResourceExhausted)) == ENOSPC);
  CHECK(errno_of(with(absl::StatusCode::kDeadlineExceeded)) == ETIMEDOUT);
  CHECK(errno_of(with(absl::StatusCode::kDataLoss)) == EIO);
  CHECK(errno_of(with(absl::StatusCode::kUnavailable)) == EIO);
  CHECK(errno_of(with(absl::StatusCode::kInternal)) == EIO);
}

TEST_CASE("fusefs reply: no status makes the kernel give an operation up") {
  for (int code = 0; code <= 16; ++code) {
    CHECK(errno_of(with(static_cast<absl::StatusCode>(code))) != ENOSYS);
    CHECK(errno_of(with(static_cast<absl::StatusCode>(code))) < 512);  // the kernel takes no others
  }
}

TEST_CASE("fusefs reply: a node that is gone is stale, a name that is gone is not there") {
  CHECK(errno_of_node(with(absl::StatusCode::kNotFound)) == ESTALE);
  CHECK(errno_of_node(with(absl::StatusCode::kDataLoss)) == EIO);
}

TEST_CASE("fusefs reply: what is logged is what somebody must look into") {
  CHECK(is_our_trouble(EIO));
  CHECK(is_our_trouble(ENOSPC));
  CHECK_FALSE(is_our_trouble(ENOENT));
  CHECK_FALSE(is_our_trouble(ESTALE));
  CHECK_FALSE(is_our_trouble(EINTR));
  CHECK_FALSE(is_our_trouble(EACCES));
}

TEST_CASE("fusefs reply: an errno that a status carries goes before its code, and is no trouble") {
  CHECK(errno_of(base::posix_error(ENOTEMPTY, "why")) == ENOTEMPTY);
  CHECK(errno_of(base::posix_error(EISDIR, "why")) == EISDIR);
  CHECK(errno_of(base::posix_error(ENOSYS, "why")) == EOPNOTSUPP);
  CHECK(errno_of_node(base::posix_error(ENOENT, "why")) == ESTALE);
  CHECK_FALSE(is_our_trouble(base::posix_error(EINVAL, "into itself")));
  CHECK_FALSE(is_our_trouble(base::posix_error(ENOSPC, "full")));
  CHECK(is_our_trouble(base::posix_error(EIO, "damaged")));
  CHECK(is_our_trouble(with(absl::StatusCode::kResourceExhausted)));
  CHECK_FALSE(is_our_trouble(with(absl::StatusCode::kNotFound)));
}

TEST_CASE("fusefs reply: attributes") {
  tree::Node node;
  node.id = 4711;
  node.size_bytes = 1025;
  node.mode = 0640;
  node.uid = 7;
  node.gid = 8;
  node.links = 2;
  node.modified = absl::FromUnixSeconds(1'000'000'000) + absl::Nanoseconds(42);
  node.changed = absl::FromUnixSeconds(-1);

  const struct stat file = attributes_of(node);
  CHECK(file.st_ino == 4711);
  CHECK(file.st_mode == (S_IFREG | 0640));
  CHECK(file.st_nlink == 2);
  CHECK(file.st_uid == 7);
  CHECK(file.st_gid == 8);
  CHECK(file.st_size == 1025);
  CHECK(file.st_blocks == 3);
  node.allocated_bytes = 8192;
  CHECK(attributes_of(node).st_blocks == 16);
  node.allocated_bytes = 0;
  CHECK(attributes_of(node).st_blocks == 0);
  CHECK(file.st_mtim.tv_sec == 1'000'000'000);
  CHECK(file.st_mtim.tv_nsec == 42);
  CHECK(file.st_ctim.tv_sec == -1);

  node.type = tree::NodeType::kDirectory;
  node.mode = 0500;
  CHECK(attributes_of(node).st_mode == (S_IFDIR | 0500));
  CHECK(attribute_names(node, false).empty());
  node.type = tree::NodeType::kSymlink;
  CHECK(attributes_of(node).st_mode == (S_IFLNK | 0500));
}

TEST_CASE("fusefs reply: entries carry their timeouts") {
  tree::Node node;
  node.id = 9;
  const fuse_entry_param entry = entry_of(node, absl::Milliseconds(1500));
  CHECK(entry.ino == 9);
  CHECK(entry.entry_timeout == doctest::Approx(1.5));
  CHECK(entry.attr_timeout == doctest::Approx(1.5));
  const fuse_entry_param none = negative_entry(absl::Seconds(2));
  CHECK(none.ino == 0);
  CHECK(none.entry_timeout == doctest::Approx(2.0));
}

TEST_CASE("fusefs reply: extended attributes") {
  tree::Node node;
  using std::string_literals::operator""s;
  CHECK(attribute_names(node, false) == "user.blobcache.tier\0"s);
  node.digest.emplace();
  CHECK(attribute_names(node, false) == "user.blobcache.digest\0user.blobcache.tier\0"s);
  node.settled = false;
  CHECK(attribute_names(node, false).empty());
  CHECK(attribute_names(node, true) == "user.blobcache.origin\0"s);
  node = tree::Node();
  CHECK(attribute_names(node, true) == "user.blobcache.origin\0user.blobcache.tier\0"s);
  node.type = tree::NodeType::kImage;
  CHECK(attribute_names(node, false).empty());
  CHECK(attribute_names(node, true) == "user.blobcache.origin\0"s);
  CHECK(is_attribute("user.blobcache.origin"));
  CHECK(!is_attribute("user.blobcache.other"));

  page::Residency residency;
  residency.pages = 100;
  residency.memory_pages = 10;
  residency.disk_pages = 64;
  CHECK(format_residency(residency) == "memory=10 disk=64 pages=100");
}

}  // namespace
}  // namespace blobcache::fusefs
