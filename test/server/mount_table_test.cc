#include "server/mount_table.h"

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"

namespace blobcache::server {
namespace {

/// What the fake mounts did, and how their ends can be brought about.
struct Record {
  absl::Mutex mutex;
  std::vector<std::string> unmounted ABSL_GUARDED_BY(mutex);
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

std::vector<std::string> mountpoints(const MountTable& table) {
  std::vector<std::string> names;
  for (const std::filesystem::path& path : table.list()) names.push_back(path.native());
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
  CHECK(table.add("/m/").ok());
  CHECK(table.add("/a/../n").ok());
  CHECK(mountpoints(table) == std::vector<std::string>{"/m", "/n"});
  CHECK(absl::IsAlreadyExists(table.add("/m")));
  CHECK(absl::IsNotFound(table.remove("/other")));
  CHECK(table.remove("/m/.").ok());
  CHECK(mountpoints(table) == std::vector<std::string>{"/n"});
  CHECK(absl::IsNotFound(table.remove("/m")));
  CHECK(table.add("/m").ok());
  const absl::MutexLock lock(&record.mutex);
  REQUIRE(record.started.size() == 3);
  CHECK(record.started[0].allow_other);
  CHECK(record.started[0].mountpoint == "/m");
}

TEST_CASE("a mount that cannot start leaves nothing behind") {
  Record record;
  MountTable table({}, fake_start(record));
  CHECK(absl::IsFailedPrecondition(table.add("/busy")));
  CHECK(table.list().empty());
  CHECK(absl::IsNotFound(table.remove("/busy")));
  CHECK(table.stats().open == 0);
}

TEST_CASE("later mounts get the new defaults") {
  Record record;
  MountTable table({}, fake_start(record));
  CHECK(table.add("/one").ok());
  fusefs::MountOptions defaults;
  defaults.max_background = 7;
  table.set_defaults(defaults);
  CHECK(table.add("/two").ok());
  const absl::MutexLock lock(&record.mutex);
  REQUIRE(record.started.size() == 2);
  CHECK(record.started[0].max_background != 7);
  CHECK(record.started[1].max_background == 7);
}

TEST_CASE("a mount that ends by itself leaves the table, and its counters stay") {
  Record record;
  MountTable table({}, fake_start(record));
  REQUIRE(table.add("/m").ok());
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
  REQUIRE(table.add("/short").ok());
  wait_until_none_is_alive(record);
  CHECK(table.list().empty());
}

TEST_CASE("stop unmounts all and admits no more") {
  Record record;
  MountTable table({}, fake_start(record));
  REQUIRE(table.add("/a").ok());
  REQUIRE(table.add("/b").ok());
  table.stop();
  table.stop();
  CHECK(table.list().empty());
  CHECK(absl::IsUnavailable(table.add("/c")));
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
  std::thread slow([&] { CHECK(table.add("/slow").ok()); });
  entered.WaitForNotification();
  CHECK(table.add("/quick").ok());
  CHECK(mountpoints(table) == std::vector<std::string>{"/quick"});
  CHECK(absl::IsAlreadyExists(table.add("/slow")));
  CHECK(absl::IsFailedPrecondition(table.remove("/slow")));
  let_go.Notify();
  slow.join();
  CHECK(mountpoints(table) == std::vector<std::string>{"/quick", "/slow"});
}

TEST_CASE("there is a bound") {
  Record record;
  MountTable table({}, fake_start(record));
  for (size_t i = 0; i < MountTable::kMaxMounts; ++i) {
    REQUIRE(table.add("/m" + std::to_string(i)).ok());
  }
  CHECK(absl::IsResourceExhausted(table.add("/one_more")));
}

}  // namespace
}  // namespace blobcache::server
