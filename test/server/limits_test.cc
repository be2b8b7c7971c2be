#include "server/limits.h"

#include <doctest/doctest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace blobcache::server {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;

/// A directory that stands for "/", with files of /proc and /sys; removed at the end.
class FakeRoot {
 public:
  FakeRoot() {
    std::string name = (std::filesystem::temp_directory_path() / "limits_test.XXXXXX").native();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    write("proc/meminfo", "MemTotal:        1048576 kB\nMemFree:          9 kB\n");
  }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;
  ~FakeRoot() { std::filesystem::remove_all(path_); }

  void write(const std::string& name, const std::string& content) const {
    std::filesystem::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name) << content;
  }
  [[nodiscard]] uint64_t limit() const {
    const absl::StatusOr<MemoryLimit> limit = memory_limit(path_);
    REQUIRE(limit.ok());
    return limit->bytes;
  }
  [[nodiscard]] bool limit_is_of_group() const { return memory_limit(path_).value().of_group; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

TEST_CASE("meminfo") {
  CHECK(parse_meminfo("MemTotal:       24607508 kB\nMemFree: 1 kB\n") == uint64_t{24607508} * 1024);
  CHECK(parse_meminfo("MemFree: 1 kB\nMemTotal: 5 kB") == uint64_t{5} * 1024);
  CHECK_FALSE(parse_meminfo("").has_value());
  CHECK_FALSE(parse_meminfo("MemTotal: lots\n").has_value());
  CHECK_FALSE(parse_meminfo("MemTotal: 18446744073709551615 kB\n").has_value());
}

TEST_CASE("control group limits") {
  CHECK(parse_cgroup_limit("536870912\n") == uint64_t{536870912});
  CHECK_FALSE(parse_cgroup_limit("max\n").has_value());
  CHECK_FALSE(parse_cgroup_limit("9223372036854771712\n").has_value());
  CHECK_FALSE(parse_cgroup_limit("").has_value());
  CHECK_FALSE(parse_cgroup_limit("-1\n").has_value());
}

TEST_CASE("control group paths") {
  const CgroupPaths both = parse_cgroup_paths("9:name=systemd:/\n4:cpu,memory:/a:b\n0::/c\n");
  CHECK(both.memory_v1 == "/a:b");
  CHECK(both.unified == "/c");
  const CgroupPaths none = parse_cgroup_paths("3:cpuset:/x\nrubbish\n\n:::\n");
  CHECK(none.memory_v1.empty());
  CHECK(none.unified.empty());
}

TEST_CASE("the machine's memory counts when no group limits it") {
  const FakeRoot root;
  CHECK(root.limit() == 1024 * kMiB);
  root.write("proc/self/cgroup", "0::/user.slice\n");
  root.write("sys/fs/cgroup/user.slice/memory.max", "max\n");
  CHECK(root.limit() == 1024 * kMiB);
  root.write("sys/fs/cgroup/user.slice/memory.max", "999999999999\n");
  CHECK(root.limit() == 1024 * kMiB);
  CHECK_FALSE(root.limit_is_of_group());
}

TEST_CASE("version 2: the least limit of the group and its ancestors") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "0::/system.slice/b.service\n");
  root.write("sys/fs/cgroup/system.slice/b.service/memory.max", "max\n");
  root.write("sys/fs/cgroup/system.slice/memory.max", std::to_string(64 * kMiB));
  CHECK(root.limit() == 64 * kMiB);
  root.write("sys/fs/cgroup/system.slice/b.service/memory.max", std::to_string(32 * kMiB));
  CHECK(root.limit() == 32 * kMiB);
  CHECK(root.limit_is_of_group());
}

TEST_CASE("a container that sees its group at the mount itself") {
  const FakeRoot root;
  root.write("proc/self/cgroup", "4:memory:/docker/0123\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", std::to_string(128 * kMiB));
  CHECK(root.limit() == 128 * kMiB);
  root.write("sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes", std::to_string(96 * kMiB));
  CHECK(root.limit() == 96 * kMiB);
}

TEST_CASE("without /proc there is no answer, and this machine has one") {
  const FakeRoot root;
  std::filesystem::remove_all(root.path() / "proc");
  CHECK(absl::IsUnavailable(memory_limit(root.path()).status()));
  CHECK(memory_limit().value().bytes > kMiB);
  CHECK(file_system_size(root.path()).value() > 0);
  CHECK(absl::IsNotFound(file_system_size(root.path() / "nothing").status()));
}

}  // namespace
}  // namespace blobcache::server
