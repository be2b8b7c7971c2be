// Puts many small blobs over several streams of one daemon, each after the answer to the one
// before:
//
//     small_puts_load ENDPOINT STREAMS COUNT SIZE SEED
//
// Prints the seconds it took. No two blobs of one seed are the same.

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "base/listen_address.h"
#include "base/status.h"
#include "net/rpc_client.h"

namespace blobcache::net {
namespace {

uint64_t number(std::string_view text) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

/// Fills `bytes` with numbers that only this blob has.
void fill(absl::Span<std::byte> bytes, uint64_t seed, uint64_t blob) {
  uint64_t state = seed * 0x9e3779b97f4a7c15U + blob + 1;
  for (size_t at = 0; at < bytes.size(); at += sizeof(state)) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    std::memcpy(bytes.data() + at, &state, std::min(sizeof(state), bytes.size() - at));
  }
}

absl::Status put(RpcClient& client, uint64_t size, uint64_t seed, uint64_t blob) {
  bool given = false;
  return client
      .put("", size, std::nullopt,
           [&](absl::Span<std::byte> buffer) -> absl::StatusOr<size_t> {
             if (given) return size_t{0};
             given = true;
             fill(buffer.first(size), seed, blob);
             return static_cast<size_t>(size);
           })
      .status();
}

int run(int argc, char** argv) {
  if (argc != 6) {
    fmt::print(stderr, "usage: small_puts_load ENDPOINT STREAMS COUNT SIZE SEED\n");
    return 2;
  }
  const uint64_t streams = number(argv[2]);
  const uint64_t count = number(argv[3]);
  const uint64_t size = number(argv[4]);
  const uint64_t seed = number(argv[5]);
  auto endpoint = base::parse_listen_address(argv[1]);
  if (!endpoint.ok()) {
    fmt::print(stderr, "{}\n", base::message(endpoint.status()));
    return 2;
  }
  RpcClientOptions options;
  options.endpoint = *endpoint;
  auto client = RpcClient::connect(options);
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{!client.ok()};
  std::vector<std::thread> threads;
  const absl::Time start = absl::Now();
  for (uint64_t stream = 0; stream < streams && !failed; ++stream) {
    threads.emplace_back([&] {
      for (uint64_t blob = next++; blob < count && !failed; blob = next++) {
        const absl::Status status = put(**client, size, seed, blob);
        if (status.ok()) continue;
        fmt::print(stderr, "{}\n", base::message(status));
        failed = true;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  fmt::print("{:.6f}\n", absl::ToDoubleSeconds(absl::Now() - start));
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace blobcache::net

int main(int argc, char** argv) { return blobcache::net::run(argc, argv); }
