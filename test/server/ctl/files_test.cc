#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "server/ctl/input_file.h"
#include "server/ctl/output_file.h"
#include "server/ctl/session.h"

namespace blobcache::ctl {
namespace {

namespace fs = std::filesystem;

/// A folder that is gone afterwards.
class Folder {
 public:
  Folder() {
    std::string pattern = (fs::temp_directory_path() / "ctl.XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ / name; }
  [[nodiscard]] size_t entries() const {
    return static_cast<size_t>(
        std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

std::string read_all(InputFile& file, size_t buffer_size) {
  std::string out;
  std::vector<std::byte> buffer(buffer_size);
  while (true) {
    const absl::StatusOr<size_t> got = file.read(absl::MakeSpan(buffer));
    REQUIRE(got.ok());
    if (*got == 0) return out;
    for (size_t i = 0; i < *got; ++i) out += static_cast<char>(buffer[i]);
  }
}

absl::Span<const std::byte> bytes_of(const std::string& text) {
  return {static_cast<const std::byte*>(static_cast<const void*>(text.data())), text.size()};
}

TEST_CASE("an input file comes whole, whatever the buffer") {
  const Folder folder;
  write_file(folder / "f", "hello, page");
  for (const size_t size : {size_t{1}, size_t{3}, size_t{4096}}) {
    absl::StatusOr<InputFile> file = InputFile::open(folder / "f");
    REQUIRE(file.ok());
    CHECK(file->size_bytes() == 11);
    CHECK(read_all(*file, size) == "hello, page");
  }
}

TEST_CASE("holes come as zeros: at the start, in the middle and at the end") {
  const Folder folder;
  const std::string path = folder / "sparse";
  constexpr size_t kSize = 3 << 20;
  {
    const base::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT, 0600));
    REQUIRE(::ftruncate(fd.get(), kSize) == 0);
    REQUIRE(::pwrite(fd.get(), "one", 3, 1 << 20) == 3);
    REQUIRE(::pwrite(fd.get(), "two", 3, (2 << 20) + 5) == 3);
  }
  std::string expected(kSize, '\0');
  expected.replace(1 << 20, 3, "one");
  expected.replace((2 << 20) + 5, 3, "two");
  absl::StatusOr<InputFile> file = InputFile::open(path);
  REQUIRE(file.ok());
  CHECK(file->size_bytes() == kSize);
  CHECK(read_all(*file, 100'000) == expected);
}

TEST_CASE("a file that says it is empty and is not comes whole") {
  absl::StatusOr<InputFile> file = InputFile::open("/proc/self/status");
  REQUIRE(file.ok());
  CHECK_FALSE(file->size_bytes().has_value());
  CHECK(read_all(*file, 64).starts_with("Name:"));
}

TEST_CASE("what is no input: a directory, a missing file") {
  const Folder folder;
  const absl::StatusOr<InputFile> directory = InputFile::open(folder / "");
  CHECK(base::message(directory.status()).find("directory") != std::string_view::npos);
  CHECK(absl::IsNotFound(InputFile::open(folder / "none").status()));
}

TEST_CASE("an output file appears when it is committed, and not before") {
  const Folder folder;
  const std::string path = folder / "out";
  absl::StatusOr<std::unique_ptr<OutputFile>> file = OutputFile::create(path);
  REQUIRE(file.ok());
  REQUIRE((*file)->write(bytes_of("hel")).ok());
  REQUIRE((*file)->write(bytes_of("lo")).ok());
  CHECK_FALSE(fs::exists(path));
  REQUIRE((*file)->commit().ok());
  CHECK(read_file(path) == "hello");
  file->reset();
  CHECK(folder.entries() == 1);
}

TEST_CASE("an output file that is given up leaves the old one alone") {
  const Folder folder;
  const std::string path = folder / "out";
  write_file(path, "old");
  {
    absl::StatusOr<std::unique_ptr<OutputFile>> file = OutputFile::create(path);
    REQUIRE(file.ok());
    REQUIRE((*file)->write(bytes_of("new")).ok());
  }
  CHECK(read_file(path) == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("replacing a file keeps its mode, and follows a link") {
  const Folder folder;
  write_file(folder / "target", "old");
  REQUIRE(::chmod((folder / "target").c_str(), 0640) == 0);
  fs::create_symlink("target", folder / "link");
  absl::StatusOr<std::unique_ptr<OutputFile>> file = OutputFile::create(folder / "link");
  REQUIRE(file.ok());
  REQUIRE((*file)->write(bytes_of("new")).ok());
  REQUIRE((*file)->commit().ok());
  CHECK(fs::is_symlink(folder / "link"));
  CHECK(read_file(folder / "target") == "new");
  CHECK((fs::status(folder / "target").permissions() & fs::perms::mask) ==
        static_cast<fs::perms>(0640));
  CHECK(folder.entries() == 2);
}

TEST_CASE("zeros become holes, and the bytes stay the same") {
  const Folder folder;
  const std::string path = folder / "out";
  // Data that begins and ends within blocks, zeros that span writes, and zeros at the end.
  const std::string content = "start" + std::string(1 << 20, '\0') + "middle" +
                              std::string(300'000, 'x') + std::string(1 << 20, '\0');
  absl::StatusOr<std::unique_ptr<OutputFile>> file = OutputFile::create(path);
  REQUIRE(file.ok());
  for (size_t at = 0; at < content.size(); at += 70'001) {
    REQUIRE((*file)->write(bytes_of(content.substr(at, 70'001))).ok());
  }
  REQUIRE((*file)->commit().ok());
  CHECK(read_file(path) == content);
  struct stat info{};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK(info.st_blocks * 512 <= 300'000 + 6 * 4096);
}

TEST_CASE("devices are written directly, directories not at all") {
  const Folder folder;
  absl::StatusOr<std::unique_ptr<OutputFile>> null = OutputFile::create("/dev/null");
  REQUIRE(null.ok());
  CHECK((*null)->write(bytes_of("x")).ok());
  CHECK((*null)->commit().ok());
  CHECK(fs::is_character_file("/dev/null"));
  CHECK_FALSE(OutputFile::create(folder / "").ok());
  CHECK_FALSE(OutputFile::create(folder / "none/out").ok());
  absl::StatusOr<std::unique_ptr<OutputFile>> full = OutputFile::create("/dev/full");
  REQUIRE(full.ok());
  const absl::Status status = (*full)->write(bytes_of("x"));
  CHECK(base::message(status).find("/dev/full") != std::string_view::npos);
}

TEST_CASE("a name as long as names may be has room for the temporary one") {
  const Folder folder;
  const std::string path = folder / std::string(255, 'n');
  absl::StatusOr<std::unique_ptr<OutputFile>> file = OutputFile::create(path);
  REQUIRE(file.ok());
  REQUIRE((*file)->commit().ok());
  CHECK(fs::exists(path));
}

TEST_CASE("a token is a file's first line") {
  const Folder folder;
  write_file(folder / "token", "s3cret\nsecond line\n");
  CHECK(*read_token(folder / "token") == "s3cret");
  write_file(folder / "dos", "s3cret\r\n");
  CHECK(*read_token(folder / "dos") == "s3cret");
  write_file(folder / "empty", "\n");
  CHECK_FALSE(read_token(folder / "empty").ok());
  write_file(folder / "odd", "a b\n");
  CHECK_FALSE(read_token(folder / "odd").ok());
  write_file(folder / "long", std::string(5000, 'x'));
  CHECK_FALSE(read_token(folder / "long").ok());
  CHECK_FALSE(read_token(folder / "none").ok());
}

}  // namespace
}  // namespace blobcache::ctl
