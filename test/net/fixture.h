#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/listen_address.h"
#include "base/status.h"
#include "net/rpc_client.h"
#include "net/rpc_server.h"
#include "store/page/page_store.h"
#include "store/tree/namespace.h"

namespace blobcache::net {

using Bytes = std::vector<std::byte>;

/// A directory that goes with the test.
class TempDir {
 public:
  TempDir() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "blobcache-net-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

/// The value, or the test fails with the status.
template <typename T>
T value_of(absl::StatusOr<T> value) {
  INFO("status: ", value.status().ToString());
  REQUIRE(value.ok());
  return *std::move(value);
}

inline void require_ok(const absl::Status& status) {
  INFO("status: ", status.ToString());
  REQUIRE(status.ok());
}

/// Bytes that no two seeds share and that hold no long run of zeros.
inline Bytes random_bytes(size_t size, uint64_t seed) {
  Bytes bytes(size);
  uint64_t state = seed * 0x9E3779B97F4A7C15U + 1;
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    byte = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

/// A real store and tree in a temporary directory.
struct Store {
  Store() {
    page::PageStoreOptions options;
    options.path = dir.path();
    options.memory_bytes = uint64_t{64} << 20;
    options.disk_bytes = uint64_t{2} << 30;
    pages = value_of(page::PageStore::open(options));
    tree::NamespaceOptions names_options;
    names_options.path = dir.path();
    names = value_of(tree::Namespace::open(names_options, *pages));
  }

  TempDir dir;
  std::unique_ptr<page::PageStore> pages;
  std::unique_ptr<tree::Namespace> names;
};

/// A server over a Store, on a unix socket unless the options say otherwise.
struct Fixture {
  explicit Fixture(RpcServerOptions options = {}, const RpcServices& services = {}) {
    if (options.listen.empty()) options.listen.push_back(unix_address("grpc.sock"));
    server = value_of(RpcServer::start(options, *store.names, services));
  }

  [[nodiscard]] base::ListenAddress unix_address(const char* name) const {
    return {base::ListenAddress::Kind::kUnix, (sockets.path() / name).string(), "", 0};
  }
  [[nodiscard]] static base::ListenAddress tcp_address() {
    return {base::ListenAddress::Kind::kTcp, "", "127.0.0.1", 0};
  }
  [[nodiscard]] std::unique_ptr<RpcClient> client(RpcClientOptions options = {}) const {
    options.endpoint = server->addresses().front();
    return value_of(RpcClient::connect(options));
  }
  [[nodiscard]] uint64_t used_bytes() const { return store.pages->stats().disk_used_bytes; }
  [[nodiscard]] uint64_t blobs() const { return value_of(store.names->counts()).blobs; }

  TempDir sockets;
  Store store;
  std::unique_ptr<RpcServer> server;
};

/// Puts `content` in pieces of at most `step` bytes.
inline absl::StatusOr<PutResult> put(
    RpcClient& client, std::string_view name, const Bytes& content, size_t step = size_t{1} << 20,
    const std::optional<page::ObjectKey>& expected = std::nullopt) {
  size_t at = 0;
  return client.put(
      name, content.size(), expected, [&](absl::Span<std::byte> buffer) -> absl::StatusOr<size_t> {
        const size_t size = std::min({buffer.size(), content.size() - at, step});
        std::copy_n(content.begin() + static_cast<ptrdiff_t>(at), size, buffer.begin());
        at += size;
        return size;
      });
}

inline absl::StatusOr<Bytes> get(RpcClient& client, std::string_view path, uint64_t offset = 0,
                                 uint64_t length = 0, RemoteFile* file = nullptr) {
  Bytes content;
  absl::Status status = client.get(
      path, offset, length,
      [&](const RemoteFile& facts) {
        if (file != nullptr) *file = facts;
        return absl::OkStatus();
      },
      [&](absl::Span<const std::byte> bytes) {
        content.insert(content.end(), bytes.begin(), bytes.end());
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  return content;
}

}  // namespace blobcache::net
