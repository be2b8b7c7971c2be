#pragma once

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/admin_service.h"
#include "store/page/page_store.h"
#include "store/tree/volumes.h"
#include "test/no_editor.h"
#include "test/no_files.h"
#include "test/no_volumes.h"
#include "test/temporary_directory.h"

namespace blobcache::server {

/// "grows", which can be made larger, and no other.
class OneVolume final : public tree::NoVolumes {
 public:
  absl::StatusOr<tree::VolumeInfo> resize(std::string_view name, uint64_t size_bytes) override {
    if (name != "grows") return absl::NotFoundError("no such volume");
    tree::VolumeInfo info;
    info.name = name;
    info.size_bytes = size_bytes;
    info.incarnation.bytes[0] = 9;
    return info;
  }
};

/// A tree with one directory, "files", of `file_count` files that are called after their numbers.
/// What the admin service does not use is refused.
class FakeNames final : public tree::Namespace {
 public:
  size_t file_count = 0;
  std::string bound;
  tree::Evicted evicted;
  std::optional<tree::EvictFrom> evicted_from;
  size_t garbage_count = 0;
  absl::Status garbage_status;
  tree::GarbageOptions collected;
  std::function<absl::Status(tree::ScrubWatcher&)> scrubbed;  ///< what a scrub of "files" does

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

  absl::StatusOr<tree::Node> pin(std::string_view path) override {
    BLOBCACHE_ASSIGN_OR_RETURN(tree::Node node, resolve(path));
    node.pinned = true;
    return node;
  }
  absl::StatusOr<tree::Node> unpin(std::string_view path) override {
    BLOBCACHE_ASSIGN_OR_RETURN(tree::Node node, resolve(path));
    node.expires = absl::FromUnixNanos(77);
    return node;
  }
  absl::StatusOr<tree::Evicted> evict(std::string_view path, tree::EvictFrom from) override {
    BLOBCACHE_RETURN_IF_ERROR(resolve(path).status());
    evicted_from = from;
    return evicted;
  }

  absl::StatusOr<tree::Node> lookup(tree::NodeId, std::string_view) override { return unused(); }
  absl::StatusOr<tree::Node> stat(tree::NodeId) override { return unused(); }
  absl::StatusOr<page::ObjectRef> open(tree::NodeId) override { return unused(); }
  absl::StatusOr<std::shared_ptr<volume::Image>> open_image(tree::NodeId) override {
    return unused();
  }
  absl::StatusOr<std::unique_ptr<tree::BlobWriter>> put(std::string_view, const tree::Creator&,
                                                        uint64_t) override {
    return unused();
  }
  tree::Volumes& volumes() override { return volumes_; }
  tree::NameEditor& editor() override { return editor_; }
  tree::Files& files() override { return files_; }
  void add_listener(tree::NamespaceListener*) override {}
  void remove_listener(tree::NamespaceListener*) override {}
  absl::Status scrub(std::string_view path, tree::ScrubWatcher& watcher) override {
    if (path != "files") return absl::NotFoundError(fmt::format("{}: no such name", path));
    return scrubbed(watcher);
  }
  absl::Status collect_garbage(const tree::GarbageOptions& options,
                               tree::GarbageWatcher& watcher) override {
    collected = options;
    for (size_t i = 0; i < garbage_count; ++i) {
      if (!watcher.wants_more()) return absl::CancelledError("ended");
      watcher.on_garbage({tree::Garbage::Kind::kOrphan, fmt::format("objects/{}", i), 10});
    }
    return garbage_status;
  }
  absl::StatusOr<Counts> counts() override { return unused(); }

 private:
  OneVolume volumes_;
  tree::NoEditor editor_;
  tree::NoFiles files_;

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
  std::vector<std::string> left_out;

  void stop() override {}
  absl::StatusOr<std::vector<base::UniqueFd>> keep_listening() override {
    return std::vector<base::UniqueFd>();
  }
  absl::Status reload_tls() override { return absl::OkStatus(); }
  [[nodiscard]] std::vector<base::ListenAddress> addresses() const override {
    return {{base::ListenAddress::Kind::kUnix, "/run/n", "", 0}};
  }
  [[nodiscard]] base::DoorStats stats() const override { return {}; }
  absl::StatusOr<blockdev::ExportList> exports(size_t limit) override {
    const auto count = static_cast<std::ptrdiff_t>(std::min(limit, all.size()));
    return blockdev::ExportList{{all.begin(), all.begin() + count}, left_out};
  }
};

/// Devices without a kernel: "files/1" can be one, and number 7 is another's.
class FakeUblk final : public blockdev::UblkDevices {
 public:
  std::optional<uint32_t> asked_for;

  absl::StatusOr<blockdev::UblkInfo> attach(const std::string& path,
                                            std::optional<uint32_t> id) override {
    asked_for = id;
    if (path != "files/1") return absl::NotFoundError("no such export");
    if (id == 7) return absl::AlreadyExistsError("the device is in use");
    return blockdev::UblkInfo{
        .id = id.value_or(0), .path = path, .size_bytes = 512, .recovered = id.has_value()};
  }
  absl::Status detach(uint32_t id) override {
    return id == 7 ? absl::FailedPreconditionError("another program serves it") : absl::OkStatus();
  }
  std::vector<blockdev::UblkInfo> list() override {
    return {{.id = 3, .path = "volumes/v", .size_bytes = 1024, .read_only = false}};
  }
  std::vector<blockdev::UblkGrowth> grow(const std::string& path) override {
    if (path != "volumes/grows") return {};
    return {{.id = 1, .status = absl::OkStatus()},
            {.id = 2, .status = absl::UnimplementedError("too old")}};
  }
};

class FakeSource final : public SnapshotSource {
 public:
  Snapshot now;
  Snapshot snapshot() override { return now; }
};

inline std::unique_ptr<page::PageStore> open_pages(const std::filesystem::path& folder) {
  page::PageStoreOptions options;
  options.path = folder;
  options.memory_bytes = page::PageStore::kMinMemory;
  options.disk_bytes = uint64_t{1} << 30;
  absl::StatusOr<std::unique_ptr<page::PageStore>> pages = page::PageStore::open(options);
  REQUIRE(pages.ok());
  return *std::move(pages);
}

/// The service behind a real gRPC server, and a client of it, in one process.
class AdminFixture {
 public:
  FakeNames names;
  FakeNbd nbd;
  FakeUblk ublk;
  FakeSource source;
  ScrubRunner scrubs{names};
  test::TemporaryDirectory folder;
  std::unique_ptr<page::PageStore> pages = open_pages(folder.path());
  ImportRunner imports{names, page::PageStore::kMinMemory};
  WarmRunner warmer{names, *pages};
  MountTable mounts{{}, [](const fusefs::MountOptions&, std::function<void()>) {
                      return absl::StatusOr<std::unique_ptr<fusefs::Mount>>(
                          absl::UnavailableError("there is no /dev/fuse"));
                    }};

  explicit AdminFixture(bool with_nbd = true)
      : admin_({names, mounts, with_nbd ? &nbd : nullptr, ublk, source, scrubs, imports, warmer,
                [] { return "[store]\n"; }}) {
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

}  // namespace blobcache::server
