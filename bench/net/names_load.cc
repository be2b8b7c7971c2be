// Binds many names to a blob that the daemon has, many calls at a time, which share transactions:
//
//     names_load ENDPOINT CALLS FOLDER DIGEST FOLDERS FILES
//
// The names are FOLDER/dNNN/fNNN, FILES in each of FOLDERS folders; FOLDER begins with "files/".
// Prints the seconds it took.

#include <fmt/format.h>
#include <grpcpp/client_context.h>

#include <array>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/types/span.h"
#include "base/hex.h"
#include "base/listen_address.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "net/rpc_client.h"

namespace blobcache::net {
namespace {

/// What all calls need; thread-safe.
struct NamesLoad {
  std::unique_ptr<RpcClient> client;
  std::unique_ptr<v1::Admin::Stub> stub;
  std::string folder;
  std::string digest;  // its 32 bytes
  uint64_t folders = 0;
  uint64_t files = 0;
  std::atomic<uint64_t> next = 0;
  std::atomic<bool> failed = false;
};

uint64_t argument(std::string_view text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

absl::Status connect_to(NamesLoad& load, std::string_view endpoint) {
  RpcClientOptions options;
  BLOBCACHE_ASSIGN_OR_RETURN(options.endpoint, base::parse_listen_address(endpoint));
  BLOBCACHE_ASSIGN_OR_RETURN(load.client, RpcClient::connect(options));
  load.stub = v1::Admin::NewStub(load.client->channel());
  return absl::OkStatus();
}

grpc::Status bind_name(NamesLoad& load, uint64_t number) {
  v1::NameRequest request;
  request.set_path(
      fmt::format("{}/d{:03}/f{:03}", load.folder, number / load.files, number % load.files));
  request.set_digest(load.digest);
  grpc::ClientContext context;
  v1::NameResponse response;
  return load.stub->Name(&context, request, &response);
}

void bind_until_done(NamesLoad& load) {
  const uint64_t count = load.folders * load.files;
  for (uint64_t name = load.next++; name < count && !load.failed; name = load.next++) {
    const grpc::Status status = bind_name(load, name);
    if (status.ok()) continue;
    fmt::print(stderr, "names_load: {}\n", status.error_message());
    load.failed = true;
  }
}

int run_names_load(int argc, char** argv) {
  if (argc != 7) {
    fmt::print(stderr, "usage: names_load ENDPOINT CALLS FOLDER DIGEST FOLDERS FILES\n");
    return 2;
  }
  NamesLoad load;
  const absl::Status status = connect_to(load, argv[1]);
  if (!status.ok()) {
    fmt::print(stderr, "names_load: {}\n", base::message(status));
    return 2;
  }
  load.folder = argv[3];
  std::array<uint8_t, 32> digest{};
  if (!base::from_hex(argv[4], absl::MakeSpan(digest))) {
    fmt::print(stderr, "names_load: no digest: {}\n", argv[4]);
    return 2;
  }
  load.digest.assign(digest.begin(), digest.end());
  load.folders = argument(argv[5]);
  load.files = argument(argv[6]);
  const absl::Time start = absl::Now();
  std::vector<std::thread> threads;
  for (uint64_t call = argument(argv[2]); call > 0; --call) {
    threads.emplace_back([&load] { bind_until_done(load); });
  }
  for (std::thread& thread : threads) thread.join();
  fmt::print("{:.6f}\n", absl::ToDoubleSeconds(absl::Now() - start));
  return load.failed ? 1 : 0;
}

}  // namespace
}  // namespace blobcache::net

int main(int argc, char** argv) { return blobcache::net::run_names_load(argc, argv); }
