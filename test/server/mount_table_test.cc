#include "server/mount_table.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "test/temporary_directory.h"

namespace blobcache::server {
namespace {

/// What the fake mounts did, and how their ends can be brought about.
struct Record {
  absl::Mutex mutex;
  std::vector<std::string> unmounted ABSL_GUARDED_BY(mutex);
  std::vector<std::string> told ABSL_GUARDED_BY(mutex);
  std::vector<fusefs::MountOptions> started ABSL_GUARDED_BY(mutex);
  std::function<void()> end_last ABSL_GUARDED_BY(mutex);
  int alive ABSL_GUARDED_BY(mutex) = 0;

  bool none_alive() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return alive == 0; }
};

class FakeMount final : public fusefs::Mount {
 public:
  FakeMount(std::filesystem::path mountpoint, Record& record)
      : mountpoint_(std::move(mountpoint)), record_(record) {
    const absl::MutexLock lock(&record_.mutex);
    ++record_.alive;
  }
  FakeMount(const FakeMount&) = delete;
  FakeMount& operator=(const FakeMount&) = delete;
  ~FakeMount() override {
    const absl::MutexLock lock(&record_.mutex);
    --record_.alive;
  }
  void unmount() override {
    const absl::MutexLock lock(&record_.mutex);
    record_.unmounted.push_back(mountpoint_.native());
  }
  absl::Status pause(absl::Time /*deadline*/) override {
    const absl::MutexLock lock(&record_.mutex);
    record_.told.push_back(mountpoint_.native() + " pause");
    return mountpoint_ == "/hangs" ? absl::DeadlineExceededError("hangs") : absl::OkStatus();
  }
  void resume() override {
    const absl::MutexLock lock(&record_.mutex);
    record_.told.push_back(mountpoint_.native() + " resume");
  }
  std::vector<tree::OpenNode> open_objects() const override { return {{7, nullptr}}; }
  absl::StatusOr<base::Parcel> hand_over() override {
    return base::Parcel{mountpoint_.native(), {}};
  }
  void watch_callers() override {}
  std::vector<pid_t> take_callers() override { return {4711}; }
  dev_t device() const override { return 42; }
  [[nodiscard]] const std::filesystem::path& mountpoint() const override { return mountpoint_; }
  [[nodiscard]] base::DoorStats stats() const override { return {10, 100, 0, 1, 2}; }

 private:
  std::filesystem::path mountpoint_;
  Record& record_;
};

MountTable::StartMount fake_start(Record& record) {
  return [&record](const fusefs::MountOptions& options,
                   std::function<void()> on_end) -> absl::StatusOr<std::unique_ptr<fusefs::Mount>> {
    if (options.mountpoint == "/busy") return absl::FailedPreconditionError("/busy: not empty");
    {
      const absl::MutexLock lock(&record.mutex);
      record.started.push_back(options);
      record.end_last = on_end;
    }
    // Some mounts end before start() has even returned.
    if (options.mountpoint == "/short") on_end();
    return std::make_unique<FakeMount>(options.mountpoint, record);
  };
}

/// All of the tree, writable.
MountView at(std::filesystem::path mountpoint) {
  MountView view;
  view.mountpoint = std::move(mountpoint);
  return view;
}

std::vector<std::string> mountpoints(const MountTable& table) {
  std::vector<std::string> names;
  for (const MountView& view : table.list()) names.push_back(view.mountpoint.native());
  return names;
}

void wait_until_none_is_alive(Record& record) {
  const absl::MutexLock lock(&record.mutex);
  record.mutex.Await(absl::Condition(&record, &Record::none_alive));
}

TEST_CASE("mounts come and go by mountpoint, however it is spelt") {
  Record record;
  fusefs::MountOptions defaults;
  defaults.allow_other = true;
  MountTable table(defaults, fake_start(record));
  CHECK(table.add(at("/m/")).ok());
  CHECK(table.add(at("/a/../n")).ok());
  CHECK(mountpoints(table) == std::vector<std::string>{"/m", "/n"});
  CHECK(absl::IsAlreadyExists(table.add(at("/m"))));
  CHECK(absl::IsNotFound(table.remove("/other")));
  CHECK(table.remove("/m/.").ok());
  CHECK(mountpoints(table) == std::vector<std::string>{"/n"});
  CHECK(absl::IsNotFound(table.remove("/m")));
  CHECK(table.add(at("/m")).ok());
  const absl::MutexLock lock(&record.mutex);
  REQUIRE(record.started.size() == 3);
  CHECK(record.started[0].allow_other);
  CHECK(record.started[0].mountpoint == "/m");
}

TEST_CASE("a mount is of a part of the tree, and read-only, where it was asked for so") {
  Record record;
  fusefs::MountOptions defaults;
  defaults.max_background = 7;
  MountTable table(defaults, fake_start(record));
  REQUIRE(table.add(at("/all")).ok());
  REQUIRE(table.add({.mountpoint = "/part/", .subtree = "/files/a/", .read_only = true}).ok());
  REQUIRE(table.add({.mountpoint = "/quiet", .subtree = "", .no_exec = true}).ok());
  REQUIRE(table.add({.mountpoint = "/fast", .subtree = "files", .writeback_cache = true}).ok());
  const std::vector<MountView> views = table.list();
  REQUIRE(views.size() == 4);
  CHECK(views[0].to_string() == "/all");
  CHECK(views[1].to_string() == "/fast (files, writeback_cache)");
  CHECK(views[2].to_string() == "/part (files/a, read-only)");
  CHECK(views[3].to_string() == "/quiet (noexec)");
  const absl::MutexLock lock(&record.mutex);
  REQUIRE(record.started.size() == 4);
  CHECK(record.started[0].subtree.empty());
  CHECK_FALSE(record.started[0].read_only);
  CHECK(record.started[1].subtree == "files/a");
  CHECK(record.started[1].read_only);
  CHECK_FALSE(record.started[1].no_exec);
  CHECK(record.started[1].max_background == 7);
  CHECK(record.started[2].no_exec);
  CHECK_FALSE(record.started[2].writeback_cache);
  CHECK(record.started[3].writeback_cache);
}

TEST_CASE("a mount goes by what its mountpoint leads to, too") {
  Record record;
  const test::TemporaryDirectory directory;
  const std::filesystem::path real = std::filesystem::canonical(directory.path()) / "real";
  const std::filesystem::path link = real.parent_path() / "link";
  std::filesystem::create_directory(real);
  std::filesystem::create_symlink(real, link);
  MountTable table({}, [&](const fusefs::MountOptions& options, std::function<void()> on_end) {
    fusefs::MountOptions resolved = options;
    resolved.mountpoint = std::filesystem::canonical(options.mountpoint);
    return fake_start(record)(resolved, std::move(on_end));
  });
  REQUIRE(table.add(at(link)).ok());
  CHECK(mountpoints(table) == std::vector<std::string>{link.native()});
  CHECK(table.remove(real).ok());
  REQUIRE(table.add(at(real)).ok());
  CHECK(table.remove(link).ok());
  CHECK(table.list().empty());
}

TEST_CASE("a mount that cannot start leaves nothing behind") {
  Record record;
  MountTable table({}, fake_start(record));
  CHECK(absl::IsFailedPrecondition(table.add(at("/busy"))));
  CHECK(table.list().empty());
  CHECK(absl::IsNotFound(table.remove("/busy")));
  CHECK(table.stats().open == 0);
}

TEST_CASE("later mounts get the new defaults") {
  Record record;
  MountTable table({}, fake_start(record));
  CHECK(table.add(at("/one")).ok());
  fusefs::MountOptions defaults;
  defaults.max_background = 7;
  table.set_defaults(defaults);
  CHECK(table.add(at("/two")).ok());
  const absl::MutexLock lock(&record.mutex);
  REQUIRE(record.started.size() == 2);
  CHECK(record.started[0].max_background != 7);
  CHECK(record.started[1].max_background == 7);
}

TEST_CASE("a mount that ends by itself leaves the table, and its counters stay") {
  Record record;
  MountTable table({}, fake_start(record));
  REQUIRE(table.add(at("/m")).ok());
  CHECK(table.stats().open == 2);
  std::function<void()> end;
  {
    const absl::MutexLock lock(&record.mutex);
    end = record.end_last;
  }
  std::thread(end).join();
  CHECK(table.list().empty());
  wait_until_none_is_alive(record);
  CHECK(table.stats().open == 0);
  CHECK(table.stats().requests == 10);
  CHECK(table.stats().errors == 1);
}

TEST_CASE("a mount that ends before its start has returned leaves the table too") {
  Record record;
  MountTable table({}, fake_start(record));
  REQUIRE(table.add(at("/short")).ok());
  wait_until_none_is_alive(record);
  CHECK(table.list().empty());
}

TEST_CASE("stop unmounts all and admits no more") {
  Record record;
  MountTable table({}, fake_start(record));
  REQUIRE(table.add(at("/a")).ok());
  REQUIRE(table.add(at("/b")).ok());
  table.stop();
  table.stop();
  CHECK(table.list().empty());
  CHECK(absl::IsUnavailable(table.add(at("/c"))));
  CHECK(table.stats().requests == 20);
  const absl::MutexLock lock(&record.mutex);
  CHECK(record.unmounted == std::vector<std::string>{"/a", "/b"});
  CHECK(record.alive == 0);
}

TEST_CASE("while one mountpoint hangs, the others and questions go on") {
  Record record;
  absl::Notification entered;
  absl::Notification let_go;
  MountTable table({}, [&](const fusefs::MountOptions& options, std::function<void()> on_end) {
    if (options.mountpoint == "/slow") {
      entered.Notify();
      let_go.WaitForNotification();
    }
    return fake_start(record)(options, std::move(on_end));
  });
  std::thread slow([&] { CHECK(table.add(at("/slow")).ok()); });
  entered.WaitForNotification();
  CHECK(table.add(at("/quick")).ok());
  CHECK(mountpoints(table) == std::vector<std::string>{"/quick"});
  CHECK(absl::IsAlreadyExists(table.add(at("/slow"))));
  CHECK(absl::IsFailedPrecondition(table.remove("/slow")));
  let_go.Notify();
  slow.join();
  CHECK(mountpoints(table) == std::vector<std::string>{"/quick", "/slow"});
}

TEST_CASE("there is a bound") {
  Record record;
  MountTable table({}, fake_start(record));
  for (size_t i = 0; i < MountTable::kMaxMounts; ++i) {
    REQUIRE(table.add(at("/m" + std::to_string(i))).ok());
  }
  CHECK(absl::IsResourceExhausted(table.add(at("/one_more"))));
}

TEST_CASE("mount table: all mounts pause, or none; nothing comes or goes meanwhile") {
  Record record;
  MountTable table({}, fake_start(record));
  REQUIRE(table.add(at("/a")).ok());
  REQUIRE(table.add(at("/b")).ok());
  CHECK(table.devices() == std::vector<dev_t>{42, 42});
  CHECK(table.pause(absl::InfiniteFuture()).ok());
  CHECK(absl::IsUnavailable(table.add(at("/c"))));
  CHECK(absl::IsUnavailable(table.remove("/a")));
  table.resume();
  CHECK(table.remove("/a").ok());
  REQUIRE(table.add(at("/hangs")).ok());
  {
    const absl::MutexLock lock(&record.mutex);
    CHECK(record.told ==
          std::vector<std::string>{"/a pause", "/b pause", "/a resume", "/b resume"});
    record.told.clear();
  }
  CHECK(absl::IsDeadlineExceeded(table.pause(absl::InfiniteFuture())));
  const absl::MutexLock lock(&record.mutex);
  CHECK(record.told ==
        std::vector<std::string>{"/b pause", "/hangs pause", "/b resume", "/hangs resume"});
}

TEST_CASE("mount table: mounts that are handed over are taken over as they were") {
  Record record;
  MountTable table({}, fake_start(record));
  REQUIRE(table.add({.mountpoint = "/a", .subtree = "files/x", .read_only = true, .no_exec = false})
              .ok());
  REQUIRE(table.pause(absl::InfiniteFuture()).ok());
  CHECK(table.open_objects().size() == 1);
  const auto parcels = table.hand_over();
  REQUIRE(parcels.ok());
  REQUIRE(parcels->size() == 1);

  MountTable next({}, fake_start(record));
  const auto take = [&record](const base::Parcel& parcel, const std::function<void()>& /*on_end*/) {
    return absl::StatusOr<std::unique_ptr<fusefs::Mount>>(
        std::make_unique<FakeMount>(parcel.bytes, record));
  };
  REQUIRE(next.take_over((*parcels)[0], take).ok());
  CHECK(absl::IsUnavailable(next.add(at("/b"))));
  next.resume();
  REQUIRE(next.list().size() == 1);
  CHECK(next.list()[0].to_string() == "/a (files/x, read-only)");
  CHECK(next.remove("/a").ok());
  base::Parcel cut{(*parcels)[0].bytes.substr(0, 20), {}};
  CHECK(absl::IsDataLoss(next.take_over(cut, take)));
}

}  // namespace
}  // namespace blobcache::server
