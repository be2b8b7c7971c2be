// Appends to a file beneath files/, of several who have it open at once.

#include <doctest/doctest.h>
#include <fmt/format.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "store/tree/files.h"
#include "test/store/tree/file_steps.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

/// Where the bytes went; ~0 when that was not told.
uint64_t append_to(File& file, std::string_view text, absl::Status& status) {
  uint64_t place = ~uint64_t{0};
  status = wait_for_done([&](volume::Done done) {
    file.append(bytes_of(text), [&place](uint64_t at) { place = at; }, std::move(done));
  });
  return place;
}

TEST_CASE("append: goes to the end as it is, whoever moved it, and tells where that was") {
  TreeFixture tree;
  const FileRef one = make_new(tree, "a");
  const FileRef two = open_to_write(tree, "files/a");
  absl::Status status;
  CHECK(append_to(*one, "one", status) == 0);
  CHECK(append_to(*two, "two", status) == 3);
  CHECK(write_file(*one, 10, "x").ok());
  CHECK(append_to(*two, "end", status) == 11);
  CHECK(set_length(*one, 4).ok());
  CHECK(append_to(*two, "!", status) == 4);
  CHECK(status.ok());
  CHECK(read_file(*one) == "onet!");
  CHECK(append_to(*one, "", status) == 5);
  CHECK(status.ok());
}

TEST_CASE("append: is refused as a write is") {
  TreeFixture tree;
  absl::Status status;
  {
    const FileRef file = make_new(tree, "a");
    CHECK(set_length(*file, Files::kMaxLength).ok());
    append_to(*file, "x", status);
    CHECK(base::posix_errno_of(status) == EFBIG);
    CHECK(set_length(*file, 0).ok());
    CHECK(append_to(*file, "x", status) == 0);
  }
  const FileRef reader = open_file(tree, "files/a");
  CHECK(append_to(*reader, "x", status) == ~uint64_t{0});
  CHECK(absl::IsFailedPrecondition(status));
}

TEST_CASE("append: what many append at once is all there, each once and whole") {
  TreeFixture tree;
  make_new(tree, "log");
  constexpr int kWriters = 4;
  constexpr int kRecords = 400;
  std::vector<std::thread> writers;
  std::atomic<bool> ended{false};
  std::atomic<int> failed{0};
  for (int writer = 0; writer < kWriters; ++writer) {
    writers.emplace_back([&tree, &failed, writer] {
      const FileRef file = open_to_write(tree, "files/log");
      std::mt19937 random(static_cast<unsigned>(writer));
      for (int i = 0; i < kRecords; ++i) {
        // Of all kinds: within a page, and over several extents.
        const size_t length = i % 50 == 0 ? random() % 600'000 : random() % 5000;
        const std::string record = fmt::format(
            "<{} {} {}>", writer, i, std::string(length, static_cast<char>('a' + writer)));
        absl::Status status;
        append_to(*file, record, status);
        if (!status.ok()) ++failed;
      }
    });
  }
  // Who makes zeros at the end is one more.
  std::thread zeros([&] {
    const FileRef file = open_to_write(tree, "files/log");
    while (!ended) {
      static_cast<void>(wait_for_done([&](volume::Done done) {
        file->write_zeroes(0, 0, {.fua = false, .no_hole = false}, std::move(done));
      }));
    }
  });
  for (std::thread& writer : writers) writer.join();
  ended = true;
  zeros.join();
  CHECK(failed == 0);
  const FileRef file = open_file(tree, "files/log");
  const std::string all = read_file(*file);
  std::vector<int> next(kWriters, 0);
  size_t at = 0;
  while (at < all.size()) {
    int writer = -1;
    int record = -1;
    REQUIRE(std::sscanf(all.c_str() + at, "<%d %d ", &writer, &record) == 2);
    REQUIRE(writer >= 0);
    REQUIRE(writer < kWriters);
    REQUIRE(next[static_cast<size_t>(writer)]++ == record);  // in his order, too
    const size_t end = all.find('>', at);
    REQUIRE(end != std::string::npos);
    const size_t text = all.rfind(' ', end) + 1;
    REQUIRE(all.find_first_not_of(static_cast<char>('a' + writer), text) == end);
    at = end + 1;
  }
  for (const int count : next) CHECK(count == kRecords);
}

TEST_CASE("append: a truncation comes before one or after it") {
  TreeFixture tree;
  const FileRef file = make_new(tree, "a");
  const FileRef other = open_to_write(tree, "files/a");
  std::atomic<bool> ended{false};
  std::thread cuts([&] {
    while (!ended) static_cast<void>(set_length(*other, 0));
  });
  int holes = 0;
  const std::string record(3000, 'r');
  for (int i = 0; i < 2000; ++i) {
    absl::Status status;
    const uint64_t place = append_to(*file, record, status);
    REQUIRE(status.ok());
    if (place % record.size() != 0) ++holes;
  }
  ended = true;
  cuts.join();
  CHECK(holes == 0);
  // No append is behind a hole that a cut left.
  CHECK(read_file(*file).find('\0') == std::string::npos);
}

}  // namespace
}  // namespace blobcache::tree
