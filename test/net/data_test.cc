// Puts and gets through a real server and a real store.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "store/tree/digest.h"
#include "test/net/fixture.h"

namespace blobcache::net {
namespace {

page::ObjectKey digest_of(const Bytes& content) {
  tree::Sha256 sha;
  sha.update(content);
  return sha.finish();
}

Bytes slice(const Bytes& content, size_t offset, size_t length) {
  return {content.begin() + static_cast<ptrdiff_t>(offset),
          content.begin() + static_cast<ptrdiff_t>(offset + length)};
}

TEST_CASE("a blob of any size comes back as it was put") {
  const Fixture fixture;
  const auto client = fixture.client();
  const size_t mib = size_t{1} << 20;
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, mib - 1,
                            mib, mib + 1, 20 * mib + 17}) {
    CAPTURE(size);
    const Bytes content = random_bytes(size, size);
    const PutResult result = value_of(put(*client, fmt::format("files/of/{}", size), content));
    CHECK(result.size_bytes == size);
    CHECK(result.digest == digest_of(content));
    CHECK_FALSE(result.existed);

    RemoteFile file;
    const Bytes back = value_of(get(*client, fmt::format("files/of/{}", size), 0, 0, &file));
    CHECK((back == content));
    CHECK(file.size_bytes == size);
    CHECK(file.digest == result.digest);
    CHECK((value_of(get(*client, "blobs/" + result.digest.hex())) == content));
  }
  CHECK(fixture.server->stats().errors == 0);
}

TEST_CASE("zeros travel as counts and come back as zeros") {
  const Fixture fixture;
  const auto client = fixture.client();
  const size_t chunk = size_t{64} << 10;
  Bytes content(11 * chunk + 100);
  const Bytes data = random_bytes(3 * chunk, 1);
  std::copy_n(data.begin(), 10, content.begin() + static_cast<ptrdiff_t>(2 * chunk));
  std::copy(data.begin(), data.end(), content.begin() + static_cast<ptrdiff_t>(5 * chunk));
  const PutResult result = value_of(put(*client, "files/sparse", content));
  CHECK(result.digest == digest_of(content));
  CHECK((value_of(get(*client, "files/sparse")) == content));
  // Four chunks of data and what the messages weigh beside; seven chunks stayed at home.
  CHECK(fixture.server->stats().bytes_in < 5 * chunk);
}

TEST_CASE("a hole larger than a message's count is sent in several") {
  const Fixture fixture;
  const auto client = fixture.client();
  const uint64_t size = (uint64_t{1} << 30) + (uint64_t{3} << 20) + 5;
  uint64_t left = size;
  const PutResult result =
      value_of(client->put("files/hole", size, std::nullopt,
                           [&](absl::Span<std::byte> buffer) -> absl::StatusOr<size_t> {
                             const auto step =
                                 static_cast<size_t>(std::min<uint64_t>(left, buffer.size()));
                             std::fill_n(buffer.begin(), step, std::byte{0});
                             left -= step;
                             return step;
                           }));
  CHECK(result.size_bytes == size);
  CHECK(fixture.server->stats().bytes_in < 1000);
  CHECK(fixture.used_bytes() < (uint64_t{8} << 20));
  CHECK((value_of(get(*client, "files/hole", size - 7)) == Bytes(7)));
}

TEST_CASE("a producer may hand out little at a time") {
  const Fixture fixture;
  const auto client = fixture.client();
  const Bytes content = random_bytes(300'001, 4);
  CHECK(value_of(put(*client, "", content, 777)).digest == digest_of(content));
}

TEST_CASE("ranges") {
  const Fixture fixture;
  const auto client = fixture.client();
  const size_t size = (size_t{3} << 20) + 1234;
  const Bytes content = random_bytes(size, 5);
  static_cast<void>(value_of(put(*client, "files/r", content)));
  const auto check = [&](uint64_t offset, uint64_t length, size_t expect) {
    CAPTURE(offset);
    CAPTURE(length);
    const Bytes back = value_of(get(*client, "files/r", offset, length));
    CHECK((back == slice(content, offset, expect)));
  };
  check(0, 1, 1);
  check(1, 4096, 4096);
  check(4095, 2, 2);
  check((1U << 20) - 1, 2, 2);
  check(123'457, 2'000'001, 2'000'001);
  check(size - 1, 0, 1);
  check(size - 1, 100, 1);
  check(size, 0, 0);
  check(size, 5, 0);
  check(10, UINT64_MAX, size - 10);  // offset + length does not fit

  const absl::Status past = get(*client, "files/r", size + 1, 1).status();
  CHECK(past.code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(base::message(past)).find("past the end") != std::string::npos);
  CHECK(get(*client, "files/r", UINT64_MAX, UINT64_MAX).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("what cannot be read") {
  const Fixture fixture;
  const auto client = fixture.client();
  static_cast<void>(value_of(put(*client, "files/dir/file", random_bytes(10, 1))));
  CHECK(get(*client, "files/none").status().code() == absl::StatusCode::kNotFound);
  CHECK(get(*client, "files/dir").status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(get(*client, "files/../etc").status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(get(*client, std::string(5000, 'x')).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(fixture.server->stats().errors == 4);
}

TEST_CASE("a second put of the same content says so") {
  const Fixture fixture;
  const auto client = fixture.client();
  const Bytes content = random_bytes(100'000, 6);
  static_cast<void>(value_of(put(*client, "files/a", content)));
  const uint64_t used = fixture.used_bytes();
  CHECK(value_of(put(*client, "files/b", content)).existed);
  CHECK(fixture.used_bytes() == used);
  CHECK(fixture.blobs() == 1);
}

TEST_CASE("the expected digest is checked") {
  const Fixture fixture;
  const auto client = fixture.client();
  const uint64_t used = fixture.used_bytes();
  const Bytes content = random_bytes(2'000'000, 7);
  page::ObjectKey wrong = digest_of(content);
  wrong.bytes[31] ^= 1;
  CHECK(put(*client, "files/x", content, 1U << 20, wrong).status().code() ==
        absl::StatusCode::kDataLoss);
  CHECK(fixture.blobs() == 0);
  CHECK(fixture.used_bytes() == used);
  CHECK(get(*client, "files/x").status().code() == absl::StatusCode::kNotFound);
  CHECK(put(*client, "files/x", content, 1U << 20, digest_of(content)).ok());
}

TEST_CASE("an error of the producer or the consumer ends the call with it") {
  const Fixture fixture;
  const auto client = fixture.client();
  int calls = 0;
  const auto failing = [&](absl::Span<std::byte> buffer) -> absl::StatusOr<size_t> {
    if (++calls > 3) return absl::AbortedError("the file shrank");
    std::fill(buffer.begin(), buffer.end(), std::byte{9});
    return buffer.size();
  };
  CHECK(client->put("files/p", 0, std::nullopt, failing).status().code() ==
        absl::StatusCode::kAborted);
  static_cast<void>(value_of(put(*client, "files/c", random_bytes(5'000'000, 8))));
  CHECK(client
            ->get("files/c", 0, 0, nullptr,
                  [](absl::Span<const std::byte>) { return absl::AbortedError("no more room"); })
            .code() == absl::StatusCode::kAborted);
  CHECK(get(*client, "files/p").status().code() == absl::StatusCode::kNotFound);
}

TEST_CASE("many readers and writers at once") {
  const Fixture fixture;
  const auto first = fixture.client();
  const Bytes content = random_bytes(6'000'000, 9);
  static_cast<void>(value_of(put(*first, "files/shared", content)));
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      // Nothing in here may throw: no doctest on other threads.
      RpcClientOptions options;
      options.endpoint = fixture.server->addresses().front();
      auto client = RpcClient::connect(options);
      if (!client.ok()) return;
      const Bytes own = random_bytes(1'500'000, 100 + static_cast<uint64_t>(i));
      const std::string name = fmt::format("files/own/{}", i);
      if (!put(**client, name, own).ok()) return;
      const auto back = get(**client, name);
      const auto shared = get(**client, "files/shared");
      if (back.ok() && *back == own && shared.ok() && *shared == content) ++good;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 8);
}

}  // namespace
}  // namespace blobcache::net
