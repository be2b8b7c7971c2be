#include "server/upgrade_desk.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/unique_fd.h"
#include "server/handover.h"

namespace blobcache::server {
namespace {

/// A directory with programs that are scripts.
class Programs {
 public:
  Programs() {
    std::string name = (std::filesystem::temp_directory_path() / "blobcache.XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Programs() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Programs(const Programs&) = delete;
  Programs& operator=(const Programs&) = delete;

  [[nodiscard]] std::string make(const std::string& name, std::string_view script,
                                 mode_t mode = 0755) const {
    const std::filesystem::path file = path_ / name;
    std::ofstream(file) << "#!/bin/sh\n" << script << "\n";
    REQUIRE(::chmod(file.c_str(), mode) == 0);
    return file.string();
  }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// Mounts of a daemon that has them on these devices.
class FakeMounts final : public OwnMounts {
 public:
  explicit FakeMounts(std::vector<dev_t> devices = {}) : devices_(std::move(devices)) {}
  [[nodiscard]] std::vector<dev_t> devices() const override { return devices_; }
  void watch_callers() override { ++watched; }
  [[nodiscard]] std::vector<pid_t> take_callers() override {
    ++taken;
    return callers ? callers() : std::vector<pid_t>();
  }

  std::function<std::vector<pid_t>()> callers;
  int watched = 0;
  int taken = 0;

 private:
  const std::vector<dev_t> devices_;
};

std::string good_script() { return fmt::format("echo '{}'", takes_over_line(kHandoverVersion)); }

bool tells(const absl::Status& status, std::string_view words) {
  return base::message(status).find(words) != std::string_view::npos;
}

TEST_CASE("upgrade desk: an upgrade is placed, taken, and told of by its number") {
  FakeMounts mounts;
  const Programs programs;
  const std::string good = programs.make("good", good_script());
  int woken = 0;
  UpgradeDesk desk({{"blobcached"}, good, ""}, [&woken] { ++woken; });
  CHECK_FALSE(desk.take().has_value());
  CHECK(absl::IsNotFound(desk.outcome(1).status()));
  const auto placed = desk.place("", mounts);
  REQUIRE(placed.ok());
  CHECK(*placed == 1);
  desk.wake();
  CHECK(woken == 1);
  CHECK(absl::IsAlreadyExists(desk.place("", mounts).status()));
  CHECK_FALSE(desk.outcome(1)->is_over);
  const auto order = desk.take();
  REQUIRE(order.has_value());
  CHECK(order->program == good);
  CHECK_FALSE(desk.take().has_value());
  CHECK(absl::IsAlreadyExists(desk.place("", mounts).status()));
  desk.note(1, absl::AbortedError("why"), absl::Milliseconds(5));
  CHECK(desk.outcome(1)->is_over);
  CHECK(absl::IsAborted(desk.outcome(1)->status));
  CHECK(desk.outcome(1)->pause == absl::Milliseconds(5));
  CHECK(absl::IsNotFound(desk.outcome(2).status()));
  // The numbers go on in the next program.
  UpgradeDesk next({{"blobcached"}, good, ""}, [] {});
  next.resume(7);
  CHECK_FALSE(next.outcome(7)->is_over);
  CHECK(absl::IsAlreadyExists(next.place("", mounts).status()));
  next.note(7, absl::OkStatus(), absl::Milliseconds(9));
  CHECK(next.outcome(7)->status.ok());
  CHECK(next.place("", mounts).value() == 8);
}

TEST_CASE("upgrade desk: a program that cannot take over is refused") {
  FakeMounts mounts;
  const Programs programs;
  UpgradeDesk desk({{"blobcached", "--config", "x"}, programs.make("own", good_script()), ""},
                   [] {});
  const auto refused = [&](const std::string& program) {
    return desk.place(program, mounts).status();
  };
  CHECK(tells(refused(programs.make("silent", "exit 0")), "does not say that it can take over"));
  CHECK(tells(refused(programs.make("bad", "echo no; echo why >&2; exit 3")), "--check: why"));
  CHECK(tells(refused(programs.make("quiet", "exit 3")), "ended with status 3"));
  CHECK(tells(refused(programs.make("other", "echo 'handover 999: OK'")), "does not say"));
  CHECK(tells(refused(programs.path().string()), "is no program file"));
  CHECK(absl::IsNotFound(refused(programs.path() / "none")));
  CHECK(absl::IsInvalidArgument(refused("relative")));
  // It is given what this process was given, and two words more.
  const std::string arguments = programs.make(
      "arguments",
      fmt::format(R"([ "$*" = "--config x --check --takes-over={}" ] && )", kHandoverVersion) +
          good_script());
  CHECK(desk.place(arguments, mounts).ok());
}

TEST_CASE("upgrade desk: what others can change, or lies on a mount of ours, is refused") {
  FakeMounts mounts;
  const Programs programs;
  const std::string own = programs.make("own", good_script(), 0777);
  UpgradeDesk desk({{"blobcached"}, own, ""}, [] {});
  const std::string shared = programs.make("shared", good_script(), 0777);
  CHECK(absl::IsPermissionDenied(desk.place(shared, mounts).status()));
  REQUIRE(::chmod(programs.path().c_str(), 0777) == 0);
  CHECK(absl::IsPermissionDenied(desk.place(programs.make("in", good_script()), mounts).status()));
  struct stat info{};
  REQUIRE(::stat(own.c_str(), &info) == 0);
  FakeMounts here({info.st_dev});
  CHECK(tells(desk.place("", here).status(), "lies on a mount of this daemon"));
  UpgradeDesk configured({{"blobcached"}, "/bin/true", own}, [] {});
  CHECK(tells(configured.place("", here).status(), "own: lies on a mount"));
  // Where this program is from is for who installs it.
  CHECK(desk.place("", mounts).ok());
}

TEST_CASE("upgrade desk: who does not own the daemon names no program but its own") {
  const UpgradeDesk desk({{"blobcached"}, "/usr/sbin/blobcached", ""}, [] {});
  CHECK(desk.check_named("").ok());
  CHECK(desk.check_named("/usr/sbin/blobcached").ok());
  for (const char* other : {"/usr/bin/blobcached", "/proc/self/exe", "blobcached"}) {
    CHECK(absl::IsPermissionDenied(desk.check_named(other)));
  }
}

TEST_CASE("upgrade desk: a path that means a process's own file is taken for that file") {
  const Programs programs;
  const std::string good = programs.make("good", good_script());
  const base::UniqueFd open(::open(good.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(open.valid());
  UpgradeDesk desk({{"blobcached"}, programs.make("own", "exit 1"), ""}, [] {});
  FakeMounts mounts;
  const auto becomes = [&](const std::string& named) {
    const absl::Status placed = desk.place(named, mounts).status();
    if (!placed.ok()) return placed.ToString();
    std::string program = desk.take()->program;
    desk.note(1, absl::OkStatus(), absl::ZeroDuration());
    return program;
  };
  const std::string link = programs.path() / "link";
  for (const std::string& target :
       {fmt::format("/proc/self/fd/{}", open.get()), fmt::format("/dev/fd/{}", open.get())}) {
    CHECK(becomes(target) == good);
    std::filesystem::create_symlink(target, link);
    CHECK(becomes(link) == good);
    std::filesystem::remove(link);
  }
  // Another link may lead elsewhere when it is followed again, and is meant to.
  std::filesystem::create_symlink("good", link);
  CHECK(becomes(link) == link);
  CHECK_FALSE(desk.place("/proc/self/fd/none", mounts).ok());
}

TEST_CASE("upgrade desk: a program that reads from a mount of ours when it is tried is refused") {
  const Programs programs;
  const std::string file = programs.path() / "group";
  UpgradeDesk desk(
      {{"blobcached"}, programs.make("own", "echo $$ > " + file + "\n" + good_script()), ""},
      [] {});
  FakeMounts mounts;
  mounts.callers = [&file]() -> std::vector<pid_t> {
    pid_t group = 0;
    std::ifstream(file) >> group;
    return {1, group};
  };
  CHECK(tells(desk.place("", mounts).status(), "needs a file that lies on a mount of this daemon"));
  mounts.callers = [] { return std::vector<pid_t>{1, ::getpgrp()}; };
  CHECK(desk.place("", mounts).ok());
  CHECK(mounts.watched == 2);
  CHECK(mounts.taken == 2);
}

}  // namespace
}  // namespace blobcache::server
