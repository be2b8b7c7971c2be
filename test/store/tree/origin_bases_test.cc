// Volumes over what an origin has: only over what stays as it is, and never over anything else.

#include <doctest/doctest.h>
#include <sqlite3.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "base/status.h"
#include "store/tree/impl/schema.h"
#include "store/tree/impl/sqlite.h"
#include "store/tree/namespace.h"
#include "store/tree/rebuild.h"
#include "store/tree/volumes.h"
#include "store/volume/volume.h"
#include "test/eventually.h"
#include "test/store/tree/fake_origin.h"
#include "test/store/tree/older_version.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

constexpr Creator kMaker{.uid = 7, .gid = 8, .may_replace = MayReplace::kAll};
constexpr size_t kBytes = 300'000;

class Patient final : public CommitWatcher {
 public:
  bool on_progress(uint64_t /*done_bytes*/, uint64_t /*total_bytes*/) override { return true; }
};

/// A tree with the volume "v" over origins/hub/d/base, whose page 1 begins with "written".
struct OverOrigin : TreeFixture {
  OverOrigin() {
    origins = {hub};
    reopen();
    hub->put("d/base", base);
    volumes().create("v", 0, "origins/hub/d/base", kMaker).value();
    REQUIRE(volume()->write_wait(4096, bytes_of("written")).ok());
  }
  ~OverOrigin() { close(); }

  Volumes& volumes() { return names().volumes(); }
  absl::StatusOr<VolumeRef> open_volume(std::string_view name = "v") {
    BLOBCACHE_ASSIGN_OR_RETURN(const Node node, names().resolve("volumes/" + std::string(name)));
    return volumes().open(node.id);
  }
  VolumeRef volume(std::string_view name = "v") {
    absl::StatusOr<VolumeRef> opened = open_volume(name);
    REQUIRE_MESSAGE(opened.ok(), opened.status().ToString());
    return *std::move(opened);
  }
  std::string content(std::string_view name = "v") {
    const VolumeRef opened = volume(name);
    std::string out(opened->size_bytes(), '?');
    void* const data = out.data();
    const absl::Status status = opened->read_wait(0, {static_cast<std::byte*>(data), out.size()});
    REQUIRE_MESSAGE(status.ok(), status.ToString());
    return out;
  }
  /// What "v" holds.
  [[nodiscard]] std::string expected() const {
    std::string bytes = base;
    bytes.replace(4096, 7, "written");
    bytes.resize((kBytes + 511) / 512 * 512, '\0');
    return bytes;
  }

  const std::string base = content_of(kBytes, 1);
  std::shared_ptr<FakeOrigin> hub = std::make_shared<FakeOrigin>("hub");
};

TEST_CASE_FIXTURE(OverOrigin, "origin bases: a volume shows the base, and what was written to it") {
  CHECK(content() == expected());
  const VolumeInfo info = volumes().list()->front();
  CHECK(info.origin_base == "origins/hub/d/base");
  CHECK_FALSE(info.base.has_value());
  reopen();
  CHECK(content() == expected());
  CHECK(volumes().list()->front().origin_base == "origins/hub/d/base");
  CHECK(hub->content("d/base") == base);
  CHECK(volumes().remove("v").ok());
  // The thread that read last may be about to let go.
  CHECK(test::eventually([&] { return hub->sessions == 0; }));
}

TEST_CASE_FIXTURE(OverOrigin,
                  "origin bases: another version, or none, is refused with the reason") {
  const auto refused = [&](std::string_view why) {
    const absl::Status status = open_volume().status();
    CHECK(absl::IsFailedPrecondition(status));
    CHECK(says(status, "origins/hub/d/base"));
    CHECK_MESSAGE(says(status, why), status.ToString());
  };
  SUBCASE("another version") {
    hub->put("d/base", content_of(kBytes, 2));
    refused("another version");
  }
  SUBCASE("nothing tells which version") {
    hub->put("d/base", base, /*lasting=*/false);
    refused("another version");
  }
  SUBCASE("an image") {
    hub->put_image("d/base", base);
    refused("another version");
  }
  SUBCASE("gone") {
    hub->remove("d/base");
    refused("not there any more");
  }
  SUBCASE("the origin is not configured any more") {
    origins.clear();
    reopen();
    refused("not there any more");
    CHECK(names().resolve("volumes/v").ok());
    CHECK(volumes().list()->size() == 1);
    origins = {hub};
    reopen();
    CHECK(content() == expected());
  }
  SUBCASE("it can still be removed") {
    hub->remove("d/base");
    CHECK(volumes().remove("v").ok());
  }
}

TEST_CASE_FIXTURE(OverOrigin, "origin bases: one that is away is UNAVAILABLE, and then is not") {
  hub->set_error(absl::UnavailableError("no route"));
  const absl::Status status = open_volume().status();
  CHECK(absl::IsUnavailable(status));
  CHECK(says(status, "no route"));
  hub->set_error(absl::OkStatus());
  CHECK(content() == expected());
}

TEST_CASE_FIXTURE(OverOrigin, "origin bases: only what stays as it is can be one") {
  hub->put("weak", base, /*lasting=*/false);
  hub->put_image("disk", base);
  hub->put("image.qcow2", "QFI\xfb" + base);
  const auto create = [&](std::string_view path) {
    return volumes().create("w", 0, path, kMaker).status();
  };
  const absl::Status weak = create("origins/hub/weak");
  CHECK(absl::IsFailedPrecondition(weak));
  CHECK(says(weak, "immutable = true"));
  CHECK(absl::IsFailedPrecondition(create("origins/hub/disk")));
  CHECK(absl::IsFailedPrecondition(create("origins/hub/d")));
  CHECK(absl::IsFailedPrecondition(create("origins/hub")));
  const absl::Status qcow = create("/origins/hub/image.qcow2");
  CHECK(absl::IsFailedPrecondition(qcow));
  CHECK(says(qcow, "qemu-img convert"));
  CHECK(absl::IsNotFound(create("origins/hub/nothing")));
  CHECK(absl::IsNotFound(create("origins/nobody/x")));
  CHECK(
      absl::IsInvalidArgument(volumes().create("w", 4096, "origins/hub/d/base", kMaker).status()));
  hub->set_error(absl::UnavailableError("no route"));
  CHECK(absl::IsUnavailable(create("origins/hub/d/base")));
  CHECK(list("volumes") == std::vector<std::string>{"v"});
}

TEST_CASE_FIXTURE(OverOrigin, "origin bases: commits, snapshots and clones work as over blobs") {
  Patient watcher;
  CHECK(volumes().commit("v", "files/made", kMaker, watcher).ok());
  CHECK(read("files/made") == expected());
  CHECK(volumes().copy("v", "clone", false, kMaker, watcher)->origin_base == "origins/hub/d/base");
  CHECK(volumes().copy("v", "snap", true, kMaker, watcher).ok());
  REQUIRE(volume("clone")->write_wait(0, bytes_of("clone's")).ok());
  CHECK(content("snap") == expected());
  CHECK(content("clone").substr(0, 7) == "clone's");
  CHECK(content() == expected());
  CHECK(volumes().resize("v", 1 << 20).ok());
  CHECK(content().substr(0, expected().size()) == expected());
}

TEST_CASE_FIXTURE(OverOrigin, "origin bases: to open such a volume is a call that may wait") {
  const NodeId over = names().resolve("volumes/v").value().id;
  volumes().create("plain", 8192, "", kMaker).value();
  CHECK(names().waits(over));
  CHECK_FALSE(names().waits(names().resolve("volumes/plain").value().id));
  reopen();
  CHECK(names().waits(over));
  std::thread::id ran;
  absl::Notification done;
  CHECK(names().run(over, [&] {
    ran = std::this_thread::get_id();
    done.Notify();
  }));
  done.WaitForNotification();
  CHECK(ran != std::this_thread::get_id());
  const absl::Status removed = volumes().remove("v");
  CHECK_MESSAGE(removed.ok(), removed.ToString());
  CHECK_FALSE(names().waits(over));
}

TEST_CASE_FIXTURE(OverOrigin, "origin bases: a rebuild brings such volumes back") {
  close();
  for (const char* end : {"", "-wal", "-shm"}) {
    std::filesystem::remove(path() / ("catalog.sqlite" + std::string(end)));
  }
  RebuildOptions options;
  options.path = path();
  options.report = [](std::string_view /*line*/) {};
  REQUIRE(rebuild_catalog(options).ok());
  open();
  CHECK(content() == expected());
  CHECK(volumes().list()->front().origin_base == "origins/hub/d/base");
}

TEST_CASE_FIXTURE(OverOrigin, "origin bases: a rebuild without the base's place leaves it out") {
  close();
  for (const auto& folder : std::filesystem::directory_iterator(path() / "volumes")) {
    std::ofstream(folder.path() / "base", std::ios::trunc) << "hub";
  }
  std::filesystem::remove(path() / "catalog.sqlite");
  RebuildOptions options;
  options.path = path();
  options.report = [](std::string_view /*line*/) {};
  REQUIRE(rebuild_catalog(options).ok());
  open();
  CHECK(list("volumes").empty());
}

TEST_CASE("upgrade: volumes of version 3 are as they were, and take origins' files as bases") {
  TreeFixture tree;
  const auto hub = std::make_shared<FakeOrigin>("hub");
  hub->put("base", content_of(kBytes, 1));
  tree.put(content_of(kBytes, 2), "files/base");
  tree.names().volumes().create("old", 1 << 20, "files/base", kMaker).value();
  tree.close();
  const std::filesystem::path file = tree.path() / "catalog.sqlite";
  sqlite3* connection = nullptr;
  REQUIRE(sqlite3_open(file.c_str(), &connection) == SQLITE_OK);
  REQUIRE(sqlite3_exec(connection, kBackTo4, nullptr, nullptr, nullptr) == SQLITE_OK);
  REQUIRE(sqlite3_exec(connection,
                       "ALTER TABLE volume DROP COLUMN base_origin;"
                       "ALTER TABLE volume DROP COLUMN base_path;"
                       "ALTER TABLE volume DROP COLUMN base_key;"
                       "PRAGMA user_version = 3;",
                       nullptr, nullptr, nullptr) == SQLITE_OK);
  REQUIRE(sqlite3_close(connection) == SQLITE_OK);

  tree.origins = {hub};
  tree.open();
  {
    const std::unique_ptr<Database> database =
        Database::open(file, Database::Access::kRead).value();
    CHECK(check_schema(*database, file).value() == kSchemaVersion);
  }
  const VolumeInfo old = tree.names().volumes().list()->front();
  CHECK(old.base.has_value());
  CHECK(old.origin_base.empty());
  CHECK(tree.names().volumes().open(old.node).ok());
  CHECK(tree.names().volumes().create("new", 0, "origins/hub/base", kMaker).ok());
  tree.close();
}

}  // namespace
}  // namespace blobcache::tree
