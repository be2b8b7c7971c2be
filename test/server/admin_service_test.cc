#include "server/admin_service.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "test/server/admin_fixture.h"

namespace blobcache::server {
namespace {

TEST_CASE("admin: a list comes in pages, and the last one says so") {
  AdminFixture fixture;
  fixture.names.file_count = 25;
  std::vector<std::string> seen;
  v1::ListRequest request;
  request.set_path("files");
  request.set_limit(10);
  for (int pages = 0; pages < 10; ++pages) {
    grpc::ClientContext context;
    v1::ListResponse response;
    REQUIRE(fixture.stub->List(&context, request, &response).ok());
    for (const auto& entry : response.entries()) seen.push_back(entry.name());
    request.set_cookie(response.next_cookie());
    if (response.next_cookie() == 0) break;
  }
  REQUIRE(seen.size() == 25);
  CHECK(seen.front() == "1");
  CHECK(seen.back() == "25");
  CHECK(request.cookie() == 0);
}

TEST_CASE("admin: the root, a file and nothing at all, listed") {
  AdminFixture fixture;
  const auto list = [&](const std::string& path, v1::ListResponse& response) {
    grpc::ClientContext context;
    v1::ListRequest request;
    request.set_path(path);
    return fixture.stub->List(&context, request, &response);
  };
  v1::ListResponse root;
  REQUIRE(list("", root).ok());
  REQUIRE(root.entries_size() == 1);
  CHECK(root.entries(0).node().type() == v1::Node::DIRECTORY);
  CHECK(root.entries(0).node().size() == 0);
  CHECK(root.next_cookie() == 0);
  v1::ListResponse none;
  CHECK(list("files/1", none).error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  const grpc::Status missing = list("files/no", none);
  CHECK(missing.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(missing.error_message() == "files/no: no such name");
}

TEST_CASE("admin: the status tells how each origin is") {
  AdminFixture fixture;
  fixture.source.now.counts.emplace();
  OriginState origin{"hub", "nbd there", {}};
  origin.health.tried = true;
  origin.health.requests = 5;
  origin.health.trouble = "long ago";
  fixture.source.now.origins.push_back(origin);
  origin.name = "far";
  origin.health.reachable = false;
  fixture.source.now.origins.push_back(origin);
  grpc::ClientContext context;
  v1::StatusResponse response;
  REQUIRE(fixture.stub->Status(&context, v1::StatusRequest(), &response).ok());
  REQUIRE(response.origins_size() == 2);
  CHECK(response.origins(0).name() == "hub");
  CHECK(response.origins(0).tried());
  CHECK(response.origins(0).description() == "nbd there");
  CHECK(response.origins(0).reachable());
  CHECK(response.origins(0).trouble().empty());
  CHECK(response.origins(0).requests() == 5);
  CHECK_FALSE(response.origins(1).reachable());
  CHECK(response.origins(1).trouble() == "long ago");
}

TEST_CASE("admin: a digest has exactly 32 bytes") {
  AdminFixture fixture;
  for (const size_t size : {0U, 31U, 33U, 64U}) {
    grpc::ClientContext context;
    v1::NameRequest request;
    v1::NameResponse response;
    request.set_path("files/a");
    request.set_digest(std::string(size, 'x'));
    CHECK(fixture.stub->Name(&context, request, &response).error_code() ==
          grpc::StatusCode::INVALID_ARGUMENT);
  }
  CHECK(fixture.names.bound.empty());
  grpc::ClientContext context;
  v1::NameRequest request;
  v1::NameResponse response;
  request.set_path("files/a");
  request.set_digest(std::string(32, 'x'));
  REQUIRE(fixture.stub->Name(&context, request, &response).ok());
  CHECK(response.node().digest() == std::string(32, 'x'));
  CHECK(fixture.names.bound == "files/a");
}

TEST_CASE("admin: errors keep their code and their words") {
  AdminFixture fixture;
  grpc::ClientContext context;
  v1::RemoveRequest request;
  v1::RemoveResponse response;
  request.set_path("files/d");
  const grpc::Status status = fixture.stub->Remove(&context, request, &response);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message() == "files/d: is not empty");
}

TEST_CASE("admin: exports stop at the limit and at what a message may hold") {
  AdminFixture fixture;
  const auto ask = [&](uint32_t limit, v1::ExportsResponse& response) {
    grpc::ClientContext context;
    v1::ExportsRequest request;
    request.set_limit(limit);
    return fixture.stub->Exports(&context, request, &response);
  };
  for (int i = 0; i < 3; ++i) fixture.nbd.all.push_back({fmt::format("files/{}", i), 5});
  fixture.nbd.left_out = {"origins/hub: away"};
  v1::ExportsResponse all;
  REQUIRE(ask(3, all).ok());
  CHECK(all.exports_size() == 3);
  CHECK_FALSE(all.truncated());
  CHECK(all.exports(2).read_only());
  CHECK(all.listeners(0) == "unix:/run/n");
  REQUIRE(all.left_out_size() == 1);
  CHECK(all.left_out(0) == "origins/hub: away");
  v1::ExportsResponse some;
  REQUIRE(ask(2, some).ok());
  CHECK(some.exports_size() == 2);
  CHECK(some.truncated());
  fixture.nbd.all.assign(2000, {std::string(4000, 'n'), 1});
  v1::ExportsResponse long_names;
  REQUIRE(ask(0, long_names).ok());
  CHECK(long_names.exports_size() > 500);
  CHECK(long_names.truncated());
}

TEST_CASE("admin: a closed block device door says so") {
  AdminFixture fixture(/*with_nbd=*/false);
  grpc::ClientContext context;
  v1::ExportsResponse response;
  const grpc::Status status = fixture.stub->Exports(&context, {}, &response);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message().find("nbd.listen is empty") != std::string::npos);
}

TEST_CASE("admin: mountpoints are absolute paths, and the mount's own words come back") {
  AdminFixture fixture;
  const auto mount = [&](const std::string& mountpoint) {
    grpc::ClientContext context;
    v1::MountRequest request;
    v1::MountResponse response;
    request.set_mountpoint(mountpoint);
    return fixture.stub->Mount(&context, request, &response);
  };
  CHECK(mount("").error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(mount("mnt").error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(mount(std::string("/a\0b", 4)).error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(mount("/mnt").error_message() == "there is no /dev/fuse");
  grpc::ClientContext context;
  v1::UnmountRequest request;
  v1::UnmountResponse response;
  request.set_mountpoint("/mnt");
  CHECK(fixture.stub->Unmount(&context, request, &response).error_code() ==
        grpc::StatusCode::NOT_FOUND);
}

/// All messages of a scrub of `path`, and how it ended.
std::pair<std::vector<v1::ScrubResponse>, grpc::Status> scrub(AdminFixture& fixture,
                                                              const std::string& path) {
  grpc::ClientContext context;
  v1::ScrubRequest request;
  request.set_path(path);
  request.set_bytes_per_second(0);
  const auto reader = fixture.stub->Scrub(&context, request);
  std::vector<v1::ScrubResponse> seen;
  for (v1::ScrubResponse response; reader->Read(&response);) seen.push_back(response);
  return {seen, reader->Finish()};
}

TEST_CASE("admin: a scrub tells its begin, its damage and its end, and is remembered") {
  AdminFixture fixture;
  fixture.names.scrubbed = [](tree::ScrubWatcher& watcher) {
    watcher.on_begin(2, 100);
    page::ScrubResult good;
    good.checked_pages = 5;
    good.checked_bytes = 60;
    watcher.on_checked(good);
    tree::DamagedObject blob;
    blob.names = {"files/1"};
    blob.result.checked_pages = 3;
    blob.result.damaged_pages = 1;
    blob.result.damaged.add({4096, 4096});
    blob.result.add_reason("rotten");
    watcher.on_checked(blob.result);
    watcher.on_damage(blob);
    return absl::OkStatus();
  };
  CHECK_FALSE(fixture.scrubs.stats().last.has_value());
  const auto [seen, status] = scrub(fixture, "files");
  REQUIRE(status.ok());
  REQUIRE(seen.size() == 3);
  CHECK(seen[0].begin().bytes() == 100);
  CHECK(seen[1].damage().reason() == "rotten");
  CHECK(seen[1].damage().names(0) == "files/1");
  CHECK(seen[1].damage().ranges(0).offset() == 4096);
  CHECK(seen[2].summary().objects() == 2);
  CHECK(seen[2].summary().damaged_objects() == 1);
  CHECK(seen[2].summary().pages() == 8);
  const ScrubStats stats = fixture.scrubs.stats();
  CHECK_FALSE(stats.running);
  CHECK(stats.checked_pages == 8);
  CHECK(stats.damaged_pages == 1);
  REQUIRE(stats.last.has_value());
  CHECK(stats.last->path == "files");
  const auto [none, missing] = scrub(fixture, "files/no");
  CHECK(none.empty());
  CHECK(missing.error_code() == grpc::StatusCode::NOT_FOUND);
  CHECK(fixture.scrubs.stats().last->path == "files");
}

TEST_CASE("admin: one scrub at a time, and who goes ends his") {
  AdminFixture fixture;
  absl::Notification begun;
  absl::Notification ended;
  fixture.names.scrubbed = [&](tree::ScrubWatcher& watcher) {
    begun.Notify();
    while (watcher.may_read(0)) absl::SleepFor(absl::Milliseconds(1));
    ended.Notify();
    return absl::CancelledError("ended");
  };
  {
    grpc::ClientContext context;
    v1::ScrubRequest request;
    request.set_path("files");
    const auto reader = fixture.stub->Scrub(&context, request);
    begun.WaitForNotification();
    CHECK(fixture.scrubs.stats().running);
    const auto [seen, second] = scrub(fixture, "files");
    CHECK(second.error_code() == grpc::StatusCode::ALREADY_EXISTS);
    context.TryCancel();
    ended.WaitForNotification();
    v1::ScrubResponse response;
    while (reader->Read(&response)) {
    }
    CHECK(reader->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  CHECK_FALSE(fixture.scrubs.stats().last.has_value());
}

TEST_CASE("admin: a stop ends a scrub, and lets none begin") {
  AdminFixture fixture;
  fixture.names.scrubbed = [&](tree::ScrubWatcher& watcher) {
    fixture.scrubs.stop();
    return watcher.may_read(0) ? absl::OkStatus() : absl::CancelledError("ended");
  };
  for (int round = 0; round < 2; ++round) {
    const grpc::Status status = scrub(fixture, "files").second;
    CHECK(status.error_code() == grpc::StatusCode::UNAVAILABLE);
    CHECK(status.error_message() == "the daemon is stopping");
  }
  CHECK_FALSE(fixture.scrubs.stats().last.has_value());
}

TEST_CASE("admin: a collection of garbage comes in messages of many, the totals last") {
  AdminFixture fixture;
  fixture.names.garbage_count = 1300;
  const auto collect = [&](const v1::GcRequest& request, std::vector<v1::GcResponse>& seen) {
    grpc::ClientContext context;
    const auto reader = fixture.stub->Gc(&context, request);
    for (v1::GcResponse response; reader->Read(&response);) seen.push_back(response);
    return reader->Finish();
  };
  v1::GcRequest request;
  request.set_dry_run(true);
  std::vector<v1::GcResponse> seen;
  REQUIRE(collect(request, seen).ok());
  CHECK(fixture.names.collected.dry_run);
  CHECK_FALSE(fixture.names.collected.expire_now);
  int items = 0;
  for (const v1::GcResponse& response : seen) items += response.items_size();
  CHECK(items == 1300);
  CHECK(seen.size() < 10);
  CHECK(seen.front().items(0).kind() == v1::GcItem::ORPHAN);
  CHECK_FALSE(seen.front().has_totals());
  CHECK(seen.back().totals().items() == 1300);
  CHECK(seen.back().totals().bytes() == 13'000);
  // After an error, what has gone is told of all the same.
  fixture.names.garbage_status = absl::InternalError("the disk");
  fixture.names.garbage_count = 2;
  seen.clear();
  CHECK(collect(request, seen).error_message() == "the disk");
  REQUIRE(seen.size() == 1);
  CHECK(seen.front().items_size() == 2);
  CHECK_FALSE(seen.front().has_totals());
}

TEST_CASE("admin: status needs the catalog; the configuration is shown as it is") {
  AdminFixture fixture;
  const auto status = [&](v1::StatusResponse& response) {
    grpc::ClientContext context;
    return fixture.stub->Status(&context, {}, &response);
  };
  v1::StatusResponse response;
  CHECK(status(response).error_code() == grpc::StatusCode::UNAVAILABLE);
  fixture.source.now.counts = tree::Namespace::Counts{1, 2, 3, 4};
  fixture.source.now.store.memory_budget_bytes = 99;
  fixture.source.now.mounts = {{.mountpoint = "/m", .subtree = "files/a", .read_only = true}};
  REQUIRE(status(response).ok());
  CHECK(response.blobs() == 1);
  CHECK(response.unnamed_blobs() == 4);
  CHECK(response.memory().budget() == 99);
  CHECK(response.mounts(0).mountpoint() == "/m");
  CHECK(response.mounts(0).subtree() == "files/a");
  CHECK(response.mounts(0).read_only());
  CHECK_FALSE(response.mounts(0).no_exec());

  grpc::ClientContext context;
  v1::ShowConfigResponse shown;
  REQUIRE(fixture.stub->ShowConfig(&context, {}, &shown).ok());
  CHECK(shown.toml() == "[store]\n");
}

TEST_CASE("admin: a file is made a device of ublk, the first that is free or the one asked for") {
  AdminFixture fixture;
  grpc::ClientContext first;
  v1::AttachUblkRequest request;
  request.set_path("files/1");
  v1::AttachUblkResponse response;
  REQUIRE(fixture.stub->AttachUblk(&first, request, &response).ok());
  CHECK_FALSE(fixture.ublk.asked_for);
  CHECK(response.id() == 0);
  CHECK(response.size() == 512);
  CHECK(response.read_only());
  CHECK_FALSE(response.reconnected());

  grpc::ClientContext second;
  request.set_id(0);
  REQUIRE(fixture.stub->AttachUblk(&second, request, &response).ok());
  CHECK(fixture.ublk.asked_for == 0);
  CHECK(response.reconnected());

  grpc::ClientContext third;
  request.set_id(7);
  CHECK(fixture.stub->AttachUblk(&third, request, &response).error_code() ==
        grpc::StatusCode::ALREADY_EXISTS);
  grpc::ClientContext fourth;
  request.set_path("files/2");
  CHECK(fixture.stub->AttachUblk(&fourth, request, &response).error_code() ==
        grpc::StatusCode::NOT_FOUND);
}

TEST_CASE("admin: the devices of ublk are listed") {
  AdminFixture fixture;
  v1::ListUblkResponse response;
  grpc::ClientContext context;
  REQUIRE(fixture.stub->ListUblk(&context, v1::ListUblkRequest(), &response).ok());
  REQUIRE(response.devices_size() == 1);
  CHECK(response.devices(0).id() == 3);
  CHECK(response.devices(0).path() == "volumes/v");
  CHECK(response.devices(0).size() == 1024);
  CHECK_FALSE(response.devices(0).read_only());
}

TEST_CASE("admin: a volume that grows takes its devices along, or says why not") {
  AdminFixture fixture;
  v1::ResizeVolumeRequest request;
  request.set_name("grows");
  request.set_size(1024);
  v1::ResizeVolumeResponse response;
  grpc::ClientContext first;
  REQUIRE(fixture.stub->ResizeVolume(&first, request, &response).ok());
  CHECK(response.volume().size() == 1024);
  CHECK(response.volume().id() == std::string(1, 9) + std::string(15, 0));
  REQUIRE(response.ublk_devices_size() == 2);
  CHECK(response.ublk_devices(0).id() == 1);
  CHECK(response.ublk_devices(0).trouble().empty());
  CHECK(response.ublk_devices(1).id() == 2);
  CHECK(response.ublk_devices(1).trouble() == "too old");

  request.set_name("none");
  grpc::ClientContext second;
  CHECK(fixture.stub->ResizeVolume(&second, request, &response).error_code() ==
        grpc::StatusCode::NOT_FOUND);
}

TEST_CASE("admin: a device of ublk is taken away, unless it is another's") {
  AdminFixture fixture;
  v1::DetachUblkRequest request;
  v1::DetachUblkResponse response;
  grpc::ClientContext first;
  CHECK(fixture.stub->DetachUblk(&first, request, &response).ok());
  grpc::ClientContext second;
  request.set_id(7);
  CHECK(fixture.stub->DetachUblk(&second, request, &response).error_code() ==
        grpc::StatusCode::FAILED_PRECONDITION);
}

}  // namespace
}  // namespace blobcache::server
