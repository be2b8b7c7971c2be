#include "server/admin_service.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "blobcache.grpc.pb.h"

namespace blobcache::server {
namespace {

/// A tree with one directory, "files", of `file_count` files that are called after their numbers.
/// What the admin service does not use is refused.
class FakeNames final : public tree::Namespace {
 public:
  size_t file_count = 0;
  std::string bound;

  absl::StatusOr<tree::Node> resolve(std::string_view path) override {
    if (path == "files") return directory();
    if (path == "files/1") return file(1);
    return absl::NotFoundError(fmt::format("{}: no such name", path));
  }
  absl::StatusOr<std::vector<tree::NamedNode>> list(tree::NodeId node, uint64_t cookie,
                                                    size_t limit) override {
    if (node == tree::kRootNode) {
      return std::vector<tree::NamedNode>{{"files", directory(), 1}};
    }
    std::vector<tree::NamedNode> entries;
    for (uint64_t i = cookie + 1; i <= file_count && entries.size() < limit; ++i) {
      entries.push_back({std::to_string(i), file(i), i});
    }
    return entries;
  }
  absl::StatusOr<tree::Node> bind(std::string_view path, const page::ObjectKey& key,
                                  const tree::Creator& /*creator*/) override {
    bound = path;
    tree::Node node = file(7);
    node.digest = key;
    return node;
  }
  absl::Status remove(std::string_view path) override {
    return absl::FailedPreconditionError(fmt::format("{}: is not empty", path));
  }

  absl::StatusOr<tree::Node> lookup(tree::NodeId, std::string_view) override { return unused(); }
  absl::StatusOr<tree::Node> stat(tree::NodeId) override { return unused(); }
  absl::StatusOr<page::ObjectRef> open(tree::NodeId) override { return unused(); }
  absl::StatusOr<std::unique_ptr<tree::BlobWriter>> put(std::string_view, const tree::Creator&,
                                                        uint64_t) override {
    return unused();
  }
  void add_listener(tree::NamespaceListener*) override {}
  void remove_listener(tree::NamespaceListener*) override {}
  absl::StatusOr<Counts> counts() override { return unused(); }

 private:
  static absl::Status unused() { return absl::UnimplementedError("not in this test"); }
  static tree::Node directory() {
    tree::Node node;
    node.id = 2;
    node.type = tree::NodeType::kDirectory;
    node.size_bytes = 4096;
    return node;
  }
  static tree::Node file(uint64_t id) {
    tree::Node node;
    node.id = 100 + id;
    node.size_bytes = id;
    node.digest = page::ObjectKey{};
    return node;
  }
};

class FakeNbd final : public blockdev::NbdServer {
 public:
  std::vector<blockdev::Export> all;

  void stop() override {}
  [[nodiscard]] std::vector<base::ListenAddress> addresses() const override {
    return {{base::ListenAddress::Kind::kUnix, "/run/n", "", 0}};
  }
  [[nodiscard]] base::DoorStats stats() const override { return {}; }
  absl::StatusOr<std::vector<blockdev::Export>> exports(size_t limit) override {
    const auto count = static_cast<std::ptrdiff_t>(std::min(limit, all.size()));
    return std::vector<blockdev::Export>(all.begin(), all.begin() + count);
  }
};

class FakeSource final : public SnapshotSource {
 public:
  Snapshot now;
  Snapshot snapshot() override { return now; }
};

/// The service behind a real gRPC server, and a client of it, in one process.
class Fixture {
 public:
  FakeNames names;
  FakeNbd nbd;
  FakeSource source;
  MountTable mounts{{}, [](const fusefs::MountOptions&, std::function<void()>) {
                      return absl::StatusOr<std::unique_ptr<fusefs::Mount>>(
                          absl::UnavailableError("there is no /dev/fuse"));
                    }};

  explicit Fixture(bool with_nbd = true)
      : admin_({names, mounts, with_nbd ? &nbd : nullptr, source, [] { return "[store]\n"; }}) {
    grpc::ServerBuilder builder;
    builder.RegisterService(&admin_.service());
    server_ = builder.BuildAndStart();
    stub = v1::Admin::NewStub(server_->InProcessChannel({}));
  }

  std::unique_ptr<v1::Admin::Stub> stub;

 private:
  AdminService admin_;
  std::unique_ptr<grpc::Server> server_;
};

TEST_CASE("admin: a list comes in pages, and the last one says so") {
  Fixture fixture;
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
  Fixture fixture;
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

TEST_CASE("admin: a digest has exactly 32 bytes") {
  Fixture fixture;
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
  Fixture fixture;
  grpc::ClientContext context;
  v1::RemoveRequest request;
  v1::RemoveResponse response;
  request.set_path("files/d");
  const grpc::Status status = fixture.stub->Remove(&context, request, &response);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message() == "files/d: is not empty");
}

TEST_CASE("admin: exports stop at the limit and at what a message may hold") {
  Fixture fixture;
  const auto ask = [&](uint32_t limit, v1::ExportsResponse& response) {
    grpc::ClientContext context;
    v1::ExportsRequest request;
    request.set_limit(limit);
    return fixture.stub->Exports(&context, request, &response);
  };
  for (int i = 0; i < 3; ++i) fixture.nbd.all.push_back({fmt::format("files/{}", i), 5});
  v1::ExportsResponse all;
  REQUIRE(ask(3, all).ok());
  CHECK(all.exports_size() == 3);
  CHECK_FALSE(all.truncated());
  CHECK(all.exports(2).read_only());
  CHECK(all.listeners(0) == "unix:/run/n");
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
  Fixture fixture(/*with_nbd=*/false);
  grpc::ClientContext context;
  v1::ExportsResponse response;
  const grpc::Status status = fixture.stub->Exports(&context, {}, &response);
  CHECK(status.error_code() == grpc::StatusCode::FAILED_PRECONDITION);
  CHECK(status.error_message().find("nbd.listen is empty") != std::string::npos);
}

TEST_CASE("admin: mountpoints are absolute paths, and the mount's own words come back") {
  Fixture fixture;
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

TEST_CASE("admin: status needs the catalog; the configuration is shown as it is") {
  Fixture fixture;
  const auto status = [&](v1::StatusResponse& response) {
    grpc::ClientContext context;
    return fixture.stub->Status(&context, {}, &response);
  };
  v1::StatusResponse response;
  CHECK(status(response).error_code() == grpc::StatusCode::UNAVAILABLE);
  fixture.source.now.counts = tree::Namespace::Counts{1, 2, 3, 4};
  fixture.source.now.store.memory_budget_bytes = 99;
  fixture.source.now.mounts = {"/m"};
  REQUIRE(status(response).ok());
  CHECK(response.blobs() == 1);
  CHECK(response.unnamed_blobs() == 4);
  CHECK(response.memory().budget() == 99);
  CHECK(response.mounts(0).mountpoint() == "/m");

  grpc::ClientContext context;
  v1::ShowConfigResponse shown;
  REQUIRE(fixture.stub->ShowConfig(&context, {}, &shown).ok());
  CHECK(shown.toml() == "[store]\n");
}

}  // namespace
}  // namespace blobcache::server
