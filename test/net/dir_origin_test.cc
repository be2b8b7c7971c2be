// A directory as an origin: what it shows, and what a version is.
#include "net/dir_origin.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "net/impl/dir_tree.h"
#include "store/tree/origin.h"
#include "test/net/dir_fixture.h"
#include "test/net/fixture.h"
#include "test/net/nbd_fixture.h"

namespace blobcache::net {
namespace {

using Kind = tree::OriginEntry::Kind;
using absl::StatusCode;

std::vector<std::string> names_of(const std::vector<tree::OriginEntry>& entries) {
  std::vector<std::string> names;
  for (const tree::OriginEntry& entry : entries) names.push_back(entry.name);
  return names;
}

TEST_CASE("dir: regular files, directories and links are there, and nothing else") {
  const DirWorld world;
  fs::create_directories(world.root / "sub/deep");
  world.write("a", random_bytes(5000, 1));
  world.write("sub/b", {});
  fs::create_symlink("../../etc/passwd", world.root / "sub/link");
  fs::create_symlink("sub", world.root / "way");
  REQUIRE(::mkfifo((world.root / "pipe").c_str(), 0600) == 0);
  const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string at = (world.root / "socket").string();
  REQUIRE(at.size() < sizeof(address.sun_path));
  std::copy(at.begin(), at.end(), address.sun_path);
  REQUIRE(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  ::close(socket);

  const auto origin = world.origin();
  const auto top = value_of(origin->list(""));
  CHECK(names_of(top) == std::vector<std::string>{"a", "sub", "way"});
  CHECK(top[0].kind == Kind::kFile);
  CHECK(top[0].size_bytes == 5000);
  CHECK(top[0].version.has_value());
  CHECK(top[1].kind == Kind::kDirectory);
  CHECK(top[2].kind == Kind::kSymlink);
  CHECK(top[2].target == "sub");
  CHECK(names_of(value_of(origin->list("sub"))) == std::vector<std::string>{"b", "deep", "link"});
  const auto link = value_of(origin->look_up("sub/link"));
  CHECK(link.kind == Kind::kSymlink);
  CHECK(link.target == "../../etc/passwd");
  CHECK(value_of(origin->look_up("")).kind == Kind::kDirectory);
  CHECK(value_of(origin->look_up("sub/b")).size_bytes == 0);
  CHECK(value_of(origin->look_up("a")).version == top[0].version);
  // Nothing is followed, neither at the end nor on the way.
  for (const char* path : {"way/b", "sub/link/x", "pipe", "socket", "none", "a/b"}) {
    CAPTURE(path);
    CHECK(origin->look_up(path).status().code() == StatusCode::kNotFound);
    CHECK(origin->open(path).status().code() == StatusCode::kNotFound);
  }
  CHECK(origin->open("way").status().code() == StatusCode::kNotFound);
  CHECK(origin->list("way").status().code() == StatusCode::kFailedPrecondition);
  CHECK(origin->list("a").status().code() == StatusCode::kFailedPrecondition);
  CHECK(origin->open("sub").status().code() == StatusCode::kFailedPrecondition);
  CHECK(origin->open("").status().code() == StatusCode::kFailedPrecondition);
  CHECK(origin->health().reachable);
  CHECK(origin->health().tried);
}

TEST_CASE("dir: nothing leads out, whatever a path has in it") {
  const DirWorld world;
  std::ofstream(world.dir.path() / "secret") << "secret";
  fs::create_symlink(world.dir.path(), world.root / "out");
  fs::create_symlink("/proc/self/root", world.root / "magic");
  const auto origin = world.origin();
  for (const char* path : {"../secret", "out/secret", "/etc/passwd", "magic/etc/passwd", ".."}) {
    CAPTURE(path);
    CHECK_FALSE(origin->look_up(path).ok());
    CHECK_FALSE(origin->open(path).ok());
    CHECK_FALSE(origin->list(path).ok());
  }
}

TEST_CASE("dir: bytes come as they are, in parts, and many at once") {
  const DirWorld world;
  const Bytes content = random_bytes(3 * kMib + 777, 2);
  world.write("x", content);
  const auto origin = world.origin();
  const tree::OriginFile file = value_of(origin->open("x"));
  CHECK(file.lasting);
  CHECK_FALSE(file.make_image);
  CHECK(file.version.size_bytes == content.size());
  CHECK(value_of(fetch(*file.version.source, 0, content.size())) == content);
  CHECK(value_of(fetch(*file.version.source, 3 * kMib, 777)) ==
        Bytes(content.end() - 777, content.end()));
  Bytes together(content.size());
  std::vector<Answer> answers;
  std::vector<std::unique_ptr<page::Source::Fetch>> fetches;
  for (uint64_t at = 0; at < content.size(); at += 4096) {
    const uint64_t bytes = std::min<uint64_t>(4096, content.size() - at);
    fetches.push_back(file.version.source->fetch(at, absl::MakeSpan(together).subspan(at, bytes),
                                                 answers.emplace_back().done()));
  }
  for (const Answer& answer : answers) require_ok(answer.wait());
  CHECK(together == content);
  const tree::OriginHealth health = origin->health();
  CHECK(health.connections == 1);
  CHECK(health.requests == 2 + answers.size());
  CHECK(health.bytes_read == 2 * content.size() + 777);
}

TEST_CASE(
    "dir: a version is shared, is the same in another process, and another after each change") {
  const DirWorld world;
  world.write("x", random_bytes(8192, 1));
  const auto origin = world.origin();
  const tree::OriginFile first = value_of(origin->open("x"));
  const tree::OriginFile second = value_of(origin->open("x"));
  CHECK(first.version.key == second.version.key);
  CHECK(first.version.source == second.version.source);
  CHECK(value_of(world.origin()->open("x")).version.key == first.version.key);
  std::vector<page::ObjectKey> keys = {first.version.key};
  const auto expect_new = [&](const char* what) {
    CAPTURE(what);
    const tree::OriginFile now = value_of(origin->open("x"));
    CHECK(std::find(keys.begin(), keys.end(), now.version.key) == keys.end());
    CHECK(value_of(origin->look_up("x")).version == now.version.key);
    keys.push_back(now.version.key);
  };
  world.write("x", random_bytes(8192, 2));
  expect_new("other bytes");
  const timespec times[2] = {{0, UTIME_OMIT}, {1000, 1}};
  REQUIRE(::utimensat(AT_FDCWD, (world.root / "x").c_str(), times, 0) == 0);
  expect_new("another nanosecond");
  fs::resize_file(world.root / "x", 4096);
  REQUIRE(::utimensat(AT_FDCWD, (world.root / "x").c_str(), times, 0) == 0);
  expect_new("another size with the old time");
  world.write("new", random_bytes(4096, 3));
  REQUIRE(::utimensat(AT_FDCWD, (world.root / "new").c_str(), times, 0) == 0);
  fs::rename(world.root / "new", world.root / "x");
  expect_new("another inode with the old time and size");
  // The same file elsewhere is another one, and so is the same path in another origin.
  DirOriginOptions other = world.options();
  other.name = "other";
  const DirSystem later{[] { return absl::Now() + absl::Minutes(1); }, &::pread};
  CHECK(value_of(DirTree(other, later).open("x")).version.key != keys.back());
}

TEST_CASE("dir: who has a version open gets an error, and no byte of another one") {
  const DirWorld world;
  const Bytes old = random_bytes(kMib, 1);
  const auto change = [&](int how) {
    if (how == 0) world.write("x", random_bytes(kMib, 2));
    if (how == 1) fs::resize_file(world.root / "x", kMib / 2);
    if (how == 2) fs::resize_file(world.root / "x", 2 * kMib);
    if (how == 3) {
      world.write("new", random_bytes(kMib, 3));
      fs::rename(world.root / "new", world.root / "x");
    }
    if (how == 4) {
      const int fd = ::open((world.root / "x").c_str(), O_WRONLY | O_CLOEXEC);
      REQUIRE(::pwrite(fd, "!", 1, 0) == 1);
      ::close(fd);
    }
  };
  for (int how = 0; how < 5; ++how) {
    CAPTURE(how);
    world.write("x", old);
    const auto origin = world.origin();
    const tree::OriginFile file = value_of(origin->open("x"));
    CHECK(value_of(fetch(*file.version.source, 0, 4096)) == Bytes(old.begin(), old.begin() + 4096));
    change(how);
    CHECK(fetch(*file.version.source, 4096, 4096).status().code() == StatusCode::kUnavailable);
    // Also where the file is as it was by then: in between it was not.
    world.write("x", old);
    CHECK(fetch(*file.version.source, 0, 4096).status().code() == StatusCode::kUnavailable);
    const tree::OriginFile now = value_of(origin->open("x"));
    CHECK(now.version.key != file.version.key);
    CHECK(value_of(fetch(*now.version.source, 0, old.size())) == old);
    CHECK(origin->health().reachable);
  }
}

TEST_CASE("dir: what changes while it is read is not what was read") {
  const DirWorld world;
  world.write("x", random_bytes(kMib, 1));
  // In the middle of a read, as another machine would do it.
  const DirSystem system{[] { return absl::Now() + absl::Minutes(1); },
                         [&](int fd, void* into, size_t bytes, off_t offset) {
                           const ssize_t got = ::pread(fd, into, bytes, offset);
                           world.write("x", random_bytes(kMib, 2));
                           return got;
                         }};
  DirTree origin(world.options(), system);
  const tree::OriginFile file = value_of(origin.open("x"));
  CHECK(fetch(*file.version.source, 0, 4096).status().code() == StatusCode::kUnavailable);
}

TEST_CASE("dir: what has just changed does not last, nor is it shared") {
  const DirWorld world;
  world.write("x", random_bytes(4096, 1));
  const auto now = world.origin(absl::ZeroDuration());
  const tree::OriginEntry entry = value_of(now->look_up("x"));
  CHECK_FALSE(entry.version.has_value());
  const tree::OriginFile first = value_of(now->open("x"));
  const tree::OriginFile second = value_of(now->open("x"));
  CHECK_FALSE(first.lasting);
  CHECK(first.modified == entry.modified);
  CHECK(first.version.key != second.version.key);
  CHECK(value_of(fetch(*first.version.source, 0, 4096)) == random_bytes(4096, 1));
  // By when any later change has other times it lasts, though somebody has it open since before.
  const auto later = world.origin(DirFiles::kYoung + absl::Seconds(1));
  CHECK(value_of(later->look_up("x")).version.has_value());
  CHECK(value_of(later->open("x")).lasting);
  // Times that were set say nothing, be they old or yet to come; the change itself does.
  for (const time_t seconds : {time_t{1000}, time_t{4'000'000'000}}) {
    const timespec times[2] = {{0, UTIME_OMIT}, {seconds, 0}};
    REQUIRE(::utimensat(AT_FDCWD, (world.root / "x").c_str(), times, 0) == 0);
    CHECK_FALSE(value_of(world.origin(absl::ZeroDuration())->open("x")).lasting);
    CHECK(value_of(world.origin(DirFiles::kYoung + absl::Seconds(1))->open("x")).lasting);
  }
}

TEST_CASE("dir: a directory that is not there is unreachable until it is") {
  const DirWorld world;
  fs::remove(world.root);
  const auto origin = world.origin();
  CHECK(origin->health().reachable);
  CHECK_FALSE(origin->health().tried);
  CHECK(origin->look_up("x").status().code() == StatusCode::kUnavailable);
  CHECK(origin->list("").status().code() == StatusCode::kUnavailable);
  CHECK(origin->open("x").status().code() == StatusCode::kUnavailable);
  CHECK_FALSE(origin->health().reachable);
  CHECK(origin->health().trouble.find(world.root.string()) != std::string::npos);
  fs::create_directory(world.root);
  world.write("x", random_bytes(10, 1));
  CHECK(value_of(origin->look_up("x")).size_bytes == 10);
  CHECK(origin->health().reachable);
  CHECK(origin->health().trouble.empty());
  fs::remove_all(world.root);
  std::ofstream(world.root) << "a file";
  CHECK(origin->list("").status().code() == StatusCode::kUnavailable);
}

TEST_CASE("dir: a directory that leads back to us is refused, and told as trouble") {
  class Guard final : public DirGuard {
   public:
    absl::Status check_path(const std::string& /*path*/) override {
      return path_ok ? absl::OkStatus() : absl::FailedPreconditionError("by its path");
    }
    absl::Status check_directory(int directory) override {
      struct stat info{};
      CHECK(::fstat(directory, &info) == 0);
      return directory_ok ? absl::OkStatus() : absl::FailedPreconditionError("by its place");
    }
    bool path_ok = false;
    bool directory_ok = false;
  };
  const DirWorld world;
  DirOriginOptions options = world.options();
  const auto guard = std::make_shared<Guard>();
  options.guard = guard;
  const auto origin = value_of(make_dir_origin(options));
  CHECK(origin->list("").status().message() == "by its path");
  guard->path_ok = true;
  CHECK(origin->look_up("x").status().code() == StatusCode::kUnavailable);
  CHECK(origin->health().trouble == "by its place");
  guard->directory_ok = true;
  CHECK(value_of(origin->list("")).empty());
}

TEST_CASE("dir: listings have a bound") {
  const DirWorld world;
  for (size_t i = 0; i < tree::kMaxOriginEntries; ++i) {
    const fs::path path = world.root / ("f" + std::to_string(i));
    REQUIRE(::mknod(path.c_str(), S_IFREG | 0600, 0) == 0);
  }
  const auto origin = world.origin();
  CHECK(value_of(origin->list("")).size() == tree::kMaxOriginEntries);
  world.write("one more", {});
  CHECK(origin->list("").status().code() == StatusCode::kResourceExhausted);
  CHECK(value_of(origin->look_up("one more")).size_bytes == 0);
}

TEST_CASE("dir: names are bytes, and urls ASCII") {
  const DirWorld world;
  const std::string odd = "blank 'quote'\n%\xff\xc3\xa4";
  world.write(odd, random_bytes(100, 1));
  const auto origin = world.origin();
  CHECK(names_of(value_of(origin->list(""))) == std::vector<std::string>{odd});
  CHECK(value_of(origin->open(odd)).version.size_bytes == 100);
  CHECK(origin->url_of(odd) ==
        "file://" + world.root.string() + "/blank%20%27quote%27%0A%25%FF%C3%A4");
  CHECK(origin->url_of("") == "file://" + world.root.string());
  DirOriginOptions top = world.options();
  top.path = "/";
  CHECK(DirTree(top).url_of("a/b") == "file:///a/b");
  CHECK(origin->type() == "dir");
}

/// Of `bytes` of a file, the pages that the kernel has in memory.
size_t cached_pages(const fs::path& path, size_t bytes) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  void* const map = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
  REQUIRE(map != MAP_FAILED);
  std::vector<unsigned char> pages(bytes / 4096);
  REQUIRE(::mincore(map, bytes, pages.data()) == 0);
  ::munmap(map, bytes);
  ::close(fd);
  return static_cast<size_t>(std::count_if(pages.begin(), pages.end(),
                                           [](unsigned char page) { return (page & 1) != 0; }));
}

TEST_CASE("dir: what was read does not stay in the kernel's cache, too") {
  const DirWorld world;
  world.write("x", random_bytes(4 * kMib, 1));
  const int fd = ::open((world.root / "x").c_str(), O_RDONLY | O_CLOEXEC);
  struct statfs system{};
  REQUIRE(::fstatfs(fd, &system) == 0);
  constexpr int64_t kTmpfs = 0x01021994;
  NEEDS(system.f_type != kTmpfs)
  REQUIRE(::fsync(fd) == 0);  // what is dirty has to stay
  ::close(fd);
  CHECK(cached_pages(world.root / "x", 4 * kMib) > 0);
  const auto origin = world.origin();
  const tree::OriginFile file = value_of(origin->open("x"));
  for (uint64_t at = 0; at < 4 * kMib; at += kMib / 4) {
    require_ok(fetch(*file.version.source, at, kMib / 4).status());
  }
  CHECK(cached_pages(world.root / "x", 4 * kMib) == 0);
}

TEST_CASE("dir: a stream is what goes on near where it was") {
  DirStream stream;
  uint64_t at = 0;
  int turns = 0;
  for (; !stream.is_stream(); at += 4096) {
    const bool is_news = stream.note(at, 4096);
    CHECK(is_news == stream.is_stream());
    ++turns;
  }
  CHECK(turns == DirStream::kInTurn);
  CHECK_FALSE(stream.note(at + kMib, 4096));
  CHECK_FALSE(stream.note(at, 4096));
  CHECK(stream.is_stream());
  CHECK(stream.note(uint64_t{1} << 40, 4096));
  CHECK_FALSE(stream.is_stream());
}

TEST_CASE("dir: options that cannot be are refused") {
  const DirWorld world;
  const auto refused = [](const DirOriginOptions& options) {
    return absl::IsInvalidArgument(make_dir_origin(options).status());
  };
  DirOriginOptions options = world.options();
  CHECK_FALSE(refused(options));
  options.path = "relative";
  CHECK(refused(options));
  options = world.options();
  options.name = "a/b";
  CHECK(refused(options));
  options = world.options();
  options.reads = 0;
  CHECK(refused(options));
  options.reads = DirOriginOptions::kMaxReads + 1;
  CHECK(refused(options));
  options = world.options();
  options.request_timeout = absl::ZeroDuration();
  CHECK(refused(options));
}

}  // namespace
}  // namespace blobcache::net
