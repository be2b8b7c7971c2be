// Names files: what is written and added is read back, and nothing that is damaged, cut short or
// another object's passes.

#include "store/page/impl/names_file.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "base/status.h"
#include "store/page/impl/counters.h"
#include "store/page/impl/disk_calls.h"
#include "store/page/impl/disk_health.h"
#include "store/page/impl/tier_health.h"
#include "test/temporary_directory.h"

namespace blobcache::page {
namespace {

namespace fs = std::filesystem;
using Records = std::vector<std::string>;

ObjectKey named_key(uint8_t first) {
  ObjectKey key;
  key.bytes[0] = first;
  return key;
}

struct Read {
  absl::Status status;
  Records records;
};

Read parse(std::string_view text, size_t step, const ObjectKey& key = named_key(1)) {
  Read read;
  const auto visit = [&](std::string_view record) { read.records.emplace_back(record); };
  NamesFileParser parser(key, visit);
  for (size_t at = 0; at < text.size(); at += step) parser.feed(text.substr(at, step));
  read.status = parser.finish();
  return read;
}

/// A names file in a directory of its own.
class File {
 public:
  explicit File(const Records& records, DiskFault fault = nullptr)
      : calls_(std::move(fault), health_) {
    auto writer = NamesFileWriter::create(path(), named_key(1), calls_).value();
    for (const std::string& record : records) REQUIRE(writer.add(record).ok());
    REQUIRE(writer.finish().ok());
  }
  [[nodiscard]] fs::path path() const { return directory_.path() / "names"; }
  [[nodiscard]] std::string text() const {
    std::ifstream stream(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  }
  void write(const std::string& text) const { std::ofstream(path(), std::ios::binary) << text; }
  [[nodiscard]] Read read(const ObjectKey& key = named_key(1)) const {
    const base::UniqueFd fd(::open(path().c_str(), O_RDONLY | O_CLOEXEC));
    Read read;
    read.status = read_names_file(
        calls_, fd.get(), key, [&](std::string_view record) { read.records.emplace_back(record); });
    return read;
  }
  [[nodiscard]] absl::StatusOr<bool> append(const Records& records) const {
    const base::UniqueFd fd(::open(path().c_str(), O_RDWR | O_CLOEXEC));
    return append_to_names_file(calls_, fd.get(), named_key(1), records);
  }
  TierHealth& health() { return health_; }

 private:
  test::TemporaryDirectory directory_;
  Counters counters_;
  TierHealth health_{counters_, absl::Now};
  const DiskCalls calls_;
};

/// No file grows beyond it, as on a disk that is full.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &former_) == 0);
    const rlimit limit{bytes, former_.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FileSizeLimit() {
    (void)::setrlimit(RLIMIT_FSIZE, &former_);
    (void)std::signal(SIGXFSZ, signal_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit former_{};
  void (*const signal_)(int);
};

}  // namespace

TEST_CASE("names file: what is written and added is read back") {
  const File none({});
  CHECK(none.read().status.ok());
  CHECK(none.read().records.empty());
  CHECK(none.append({"first"}).value());
  CHECK(none.read().records == Records{"first"});

  Records records;
  for (int i = 0; i < 20'000; ++i) records.push_back(fmt::format("record {}", i * i));
  const File file(records);
  CHECK(file.append({}).value());
  CHECK(file.append({"one", "two"}).value());
  CHECK(file.append({"three"}).value());
  records.insert(records.end(), {"one", "two", "three"});
  const Read read = file.read();
  CHECK(read.status.ok());
  CHECK(read.records == records);
  CHECK(parse(file.text(), 7).records == records);
}

TEST_CASE("names file: a changed byte costs a line at most, the first line everything") {
  const File file({"alpha", "beta", "gamma"});
  const std::string text = file.text();
  const size_t header = text.find('\n') + 1;
  CHECK(header == kNamesHeaderSize + 1);
  for (size_t at = 0; at < text.size(); ++at) {
    CAPTURE(at);
    std::string damaged = text;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    const Read read = parse(damaged, 50);
    CHECK(absl::IsDataLoss(read.status));
    // A newline belongs to two lines.
    if (at >= header) CHECK(read.records.size() >= 1);
    if (at < header) CHECK(read.records.empty());
    for (const std::string& record : read.records) {
      CHECK((record == "alpha" || record == "beta" || record == "gamma"));
    }
  }
}

TEST_CASE("names file: wherever it is cut, it says so unless a whole line is missing") {
  const File file({"alpha", "beta"});
  const std::string text = file.text();
  for (size_t size = 0; size < text.size(); ++size) {
    CAPTURE(size);
    const bool whole_lines = size > 0 && text[size - 1] == '\n';
    file.write(text.substr(0, size));
    CHECK(file.read().status.ok() == whole_lines);
    // Nothing may be added where it would be lost.
    const absl::StatusOr<bool> added = file.append({"gamma"});
    REQUIRE(added.ok());
    CHECK_FALSE(*added);
    CHECK(file.text() == text.substr(0, size));
  }
}

TEST_CASE("names file: another object's, or lines at another place, do not pass") {
  const File file({"alpha", "beta!"});
  CHECK(absl::IsDataLoss(file.read(named_key(2)).status));
  CHECK(file.read(named_key(2)).records.empty());
  const std::string text = file.text();
  const size_t line = text.find("alpha") - 9;
  const std::string moved = text.substr(0, line) + text.substr(line + 15) + text.substr(line, 15);
  REQUIRE(moved.size() == text.size());
  CHECK(parse(moved, 100).records.empty());
  const std::string cut_out = text.substr(0, line) + text.substr(line + 15);
  CHECK(parse(cut_out, 100).records.empty());
}

TEST_CASE("names file: what is hostile is bounded and refused") {
  const std::string header = names_header(named_key(1), 0);
  const std::string good = names_line(named_key(1), header.size() + 100'001, "good");
  // A line that does not end in reason is passed over, and those after it are read.
  const Read endless = parse(header + std::string(100'000, 'x') + "\n" + good, 1000);
  CHECK(absl::IsDataLoss(endless.status));
  CHECK(endless.records == Records{"good"});
  CHECK(absl::IsDataLoss(parse(header + std::string(100'000, 'x'), 1000).status));
  CHECK(absl::IsDataLoss(parse(std::string(100'000, 'x') + "\n" + good, 1000).status));
  CHECK(absl::IsDataLoss(parse("", 1).status));
  CHECK(absl::IsDataLoss(parse("\n\n\n", 1).status));
  CHECK(absl::IsDataLoss(parse(std::string(1000, '\0'), 10).status));
  const std::string newer = names_line(
      named_key(1), 0, fmt::format("blobcache-names 2 {} {:020}", named_key(1).hex(), 0));
  CHECK(base::message(parse(newer, 10).status).find("version") != std::string_view::npos);
  CHECK(absl::IsDataLoss(parse(names_line(named_key(1), 0, "blobcache-names 1 "), 10).status));

  const File file({"alpha"});
  fs::resize_file(file.path(), kMaxNamesFile + 1);  // sparse
  CHECK(absl::IsDataLoss(file.read().status));
  CHECK_FALSE(file.append({"beta"}).value());
}

TEST_CASE("names file: one that has grown to twice its size wants to be written whole") {
  const Records records(10'000, std::string(50, 'x'));
  const File file(records);
  const uint64_t whole = fs::file_size(file.path());
  size_t added = 0;
  while (file.append({std::string(1000, 'y')}).value()) ++added;
  CHECK(fs::file_size(file.path()) > 2 * whole);
  CHECK(fs::file_size(file.path()) < 2 * whole + 70'000);
  CHECK(file.read().records.size() == records.size() + added);
}

TEST_CASE("names file: an append that the disk has no room for leaves the file as it was") {
  int result = 0;
  const File file({"alpha"}, [&result](const DiskStep& step) {
    return step.kind == DiskStep::Kind::kWrite ? result : 0;
  });
  const std::string text = file.text();
  for (const int failure : {-ENOSPC, -EIO}) {
    CAPTURE(failure);
    result = failure;
    CHECK_FALSE(file.append({"beta"}).ok());
    CHECK(file.text() == text);
    result = 0;
  }
  {
    // Half a line gets there.
    const FileSizeLimit limit(text.size() + 5);
    CHECK_FALSE(file.append({"beta"}).ok());
  }
  CHECK(file.text() == text);
  CHECK(file.append({"beta"}).value());
  CHECK(file.read().records == Records{"alpha", "beta"});
}

TEST_CASE("names file: what the kernel's memory takes does not bring a failing disk back") {
  File file({"alpha"});
  for (uint32_t i = 0; i < DiskHealth::kErrorsInARow; ++i) {
    file.health().judge(DiskStep::Kind::kWrite, -EIO);
  }
  REQUIRE(file.health().is_out());
  CHECK(file.append({"beta"}).value());
  CHECK(file.read().records.size() == 2);
  CHECK(file.health().is_out());
}

}  // namespace blobcache::page
