#include "fusefs/impl/write_rules.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdio.h>

#include <cerrno>

namespace blobcache::fusefs {
namespace {

constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int kZero = FALLOC_FL_ZERO_RANGE;
constexpr int kZeroInside = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;

TEST_CASE("fusefs write rules: what fallocate does to a file") {
  const uint64_t size = 100;
  CHECK(allocation_in_file(kPunch, {10, 20}, size).zeros == ByteRange{10, 20});
  CHECK_FALSE(allocation_in_file(kPunch, {10, 20}, size).keeps_space);
  CHECK(allocation_in_file(kPunch, {90, 20}, size).zeros == ByteRange{90, 10});
  CHECK(allocation_in_file(kPunch, {200, 20}, size).zeros.length == 0);
  CHECK(allocation_in_file(kZeroInside, {90, 20}, size).zeros == ByteRange{90, 10});
  CHECK(allocation_in_file(kZeroInside, {90, 20}, size).keeps_space);
  CHECK(allocation_in_file(kZero, {90, 20}, size).zeros == ByteRange{90, 20});
  // What is there stays.
  CHECK(allocation_in_file(0, {10, 20}, size).zeros.length == 0);
  CHECK(allocation_in_file(0, {90, 20}, size).zeros == ByteRange{100, 10});
  CHECK(allocation_in_file(0, {150, 20}, size).zeros == ByteRange{150, 20});
  for (const int mode : {FALLOC_FL_KEEP_SIZE, FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE}) {
    CHECK(allocation_in_file(mode, {10, 20}, size).error == EOPNOTSUPP);
  }
}

TEST_CASE("fusefs write rules: what fallocate does to an image") {
  const uint64_t size = 100;
  CHECK(allocation_in_image(kPunch, {90, 20}, size).zeros == ByteRange{90, 10});
  CHECK_FALSE(allocation_in_image(kPunch, {90, 20}, size).keeps_space);
  CHECK(allocation_in_image(kZero, {90, 10}, size).zeros == ByteRange{90, 10});
  CHECK(allocation_in_image(kZero, {90, 10}, size).keeps_space);
  CHECK(allocation_in_image(kZero, {90, 11}, size).error == EINVAL);
  CHECK(allocation_in_image(kZeroInside, {90, 11}, size).zeros == ByteRange{90, 10});
  CHECK(allocation_in_image(0, {10, 20}, size).error == EOPNOTSUPP);
  CHECK(allocation_in_image(FALLOC_FL_KEEP_SIZE, {10, 20}, size).error == EOPNOTSUPP);
}

TEST_CASE("fusefs write rules: a write into an image ends where the image does") {
  CHECK(write_in_image({0, 100}, 100) == ByteRange{0, 100});
  CHECK(write_in_image({90, 20}, 100) == ByteRange{90, 10});
  CHECK(write_in_image({100, 1}, 100).length == 0);
  CHECK(write_in_image({200, 1}, 100).length == 0);
}

TEST_CASE("fusefs write rules: attributes that are set") {
  struct stat attributes = {};
  attributes.st_mode = S_IFREG | 04640;
  attributes.st_uid = 5;
  attributes.st_gid = 6;
  attributes.st_mtim = {1000, 7};
  const absl::Time now = absl::FromUnixSeconds(2000);
  CHECK_FALSE(changes_something(change_of(attributes, 0, now)));
  CHECK_FALSE(changes_something(change_of(attributes, FUSE_SET_ATTR_ATIME, now)));
  CHECK_FALSE(changes_something(change_of(attributes, FUSE_SET_ATTR_SIZE, now)));
  const tree::AttributeChange all = change_of(
      attributes, FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID | FUSE_SET_ATTR_MTIME,
      now);
  CHECK(changes_something(all));
  CHECK(all.mode == 04640);
  CHECK(all.uid == 5);
  CHECK(all.gid == 6);
  CHECK(all.modified == absl::FromUnixSeconds(1000) + absl::Nanoseconds(7));
  constexpr int kNow = FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW;
  CHECK(change_of(attributes, kNow, now).modified == now);
  CHECK_FALSE(change_of(attributes, kNow, now).mode.has_value());
  CHECK_FALSE(changes_something(change_of(attributes, kNow | FUSE_SET_ATTR_SIZE, now)));
}

TEST_CASE("fusefs write rules: what goes to the end") {
  CHECK(opens_to_append(O_WRONLY | O_APPEND));
  CHECK(opens_to_append(O_WRONLY | O_APPEND | O_SYNC | O_CREAT));
  CHECK_FALSE(opens_to_append(O_RDWR | O_APPEND));
  CHECK_FALSE(opens_to_append(O_WRONLY));
  CHECK_FALSE(opens_to_append(O_WRONLY | O_APPEND | O_DIRECT));
  CHECK(is_append(O_WRONLY | O_APPEND, false));
  CHECK(is_append(O_RDWR | O_APPEND | O_SYNC, false));
  CHECK_FALSE(is_append(O_RDWR, false));
  CHECK_FALSE(is_append(O_RDWR | O_APPEND, true));
  CHECK_FALSE(is_append(O_RDWR | O_APPEND | O_DIRECT, false));
}

TEST_CASE("fusefs write rules: where the kernel may hold back what is written") {
  for (const char* good : {"files", "/files", "files/a/b"}) {
    CHECK(check_writeback(good, false).ok());
    CHECK(absl::IsInvalidArgument(check_writeback(good, true)));
  }
  for (const char* bad :
       {"", "/", "volumes", "volumes/files", "origins/files", "files2", "files/"}) {
    CHECK(absl::IsInvalidArgument(check_writeback(bad, false)));
  }
}

TEST_CASE("fusefs write rules: a file of which the kernel may hold more takes something") {
  tree::Node node;
  node.settled = false;
  CHECK(as_written_back(node).allocated_bytes == 4096);
  node.allocated_bytes = 0;
  CHECK(as_written_back(node).allocated_bytes == 4096);
  node.allocated_bytes = 8192;
  CHECK(as_written_back(node).allocated_bytes == 8192);
  node.settled = true;
  node.allocated_bytes = 0;
  CHECK(as_written_back(node).allocated_bytes == 0);
  node.type = tree::NodeType::kDirectory;
  node.allocated_bytes = std::nullopt;
  CHECK_FALSE(as_written_back(node).allocated_bytes.has_value());
}

TEST_CASE("fusefs write rules: renaming") {
  CHECK(rename_mode_of(0) == tree::RenameMode::kReplace);
  CHECK(rename_mode_of(RENAME_NOREPLACE) == tree::RenameMode::kNoReplace);
  CHECK(rename_mode_of(RENAME_EXCHANGE) == tree::RenameMode::kExchange);
  CHECK_FALSE(rename_mode_of(RENAME_WHITEOUT).has_value());
  CHECK_FALSE(rename_mode_of(RENAME_NOREPLACE | RENAME_EXCHANGE).has_value());
}

}  // namespace
}  // namespace blobcache::fusefs
