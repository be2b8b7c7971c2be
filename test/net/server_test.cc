// The server's life: starting, what comes over its sockets, stopping.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>

#include "absl/time/clock.h"
#include "base/unique_fd.h"
#include "blobcache.grpc.pb.h"
#include "test/eventually.h"
#include "test/net/fixture.h"

namespace blobcache::net {
namespace {

base::UniqueFd raw_connect(const base::ListenAddress& address) {
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  address.path.copy(name.sun_path, sizeof(name.sun_path) - 1);
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0);
  return fd;
}

/// Reads until the other end closes.
void drain(const base::UniqueFd& fd) {
  char buffer[4096];
  while (read(fd.get(), buffer, sizeof(buffer)) > 0) {
  }
}

bool mentions(const absl::Status& status, std::string_view what) {
  return base::message(status).find(what) != std::string_view::npos;
}

TEST_CASE("an address in use is named, and nothing is half started") {
  RpcServerOptions options;
  options.listen = {Fixture::tcp_address()};
  const Fixture first(options);
  const base::ListenAddress taken = first.server->addresses().front();
  CHECK(taken.port != 0);

  const base::ListenAddress beside = first.unix_address("beside.sock");
  RpcServerOptions second;
  second.listen = {beside, taken};
  const absl::Status status = RpcServer::start(second, *first.store.names, {}).status();
  CAPTURE(status.ToString());
  CHECK(status.code() == absl::StatusCode::kAlreadyExists);
  CHECK(mentions(status, taken.to_string()));
  CHECK_FALSE(std::filesystem::exists(beside.path));

  second.listen = {beside};
  const auto third = value_of(RpcServer::start(second, *first.store.names, {}));
  const absl::Status again = RpcServer::start(second, *first.store.names, {}).status();
  CHECK(again.code() == absl::StatusCode::kAlreadyExists);
  CHECK(mentions(again, beside.path));
  RpcClientOptions client;
  client.endpoint = beside;
  CHECK(RpcClient::connect(client).ok());  // the one that was there is untouched
}

TEST_CASE("several listeners, one tree") {
  Fixture fixture([] {
    RpcServerOptions options;
    options.listen = {Fixture::tcp_address(), Fixture::tcp_address()};
    return options;
  }());
  REQUIRE(fixture.server->addresses().size() == 2);
  RpcClientOptions options;
  options.endpoint = fixture.server->addresses()[0];
  const auto one = value_of(RpcClient::connect(options));
  options.endpoint = fixture.server->addresses()[1];
  const auto two = value_of(RpcClient::connect(options));
  const Bytes content = random_bytes(3'000'000, 1);
  CHECK(put(*one, "files/t", content).ok());
  CHECK((value_of(get(*two, "files/t")) == content));
}

TEST_CASE("there is nobody to reach") {
  const TempDir dir;
  RpcClientOptions options;
  options.endpoint = {base::ListenAddress::Kind::kUnix, (dir.path() / "none").string(), "", 0};
  absl::Status status = RpcClient::connect(options).status();
  CAPTURE(status.ToString());
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(mentions(status, "cannot reach unix:" + options.endpoint.path + ": No such file"));

  base::ListenAddress port = Fixture::tcp_address();
  value_of(base::listen_on(port)).reset();  // a port that was free a moment ago
  options.endpoint = port;
  status = RpcClient::connect(options).status();
  CAPTURE(status.ToString());
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(mentions(status, "cannot reach " + port.to_string()));
  CHECK(mentions(status, "refused"));
}

TEST_CASE("garbage and silence on the socket harm nobody") {
  const Fixture fixture;
  const base::ListenAddress address = fixture.server->addresses().front();
  const base::UniqueFd silent = raw_connect(address);
  for (int i = 0; i < 20; ++i) {
    const base::UniqueFd fd = raw_connect(address);
    const Bytes noise = random_bytes(4096, static_cast<uint64_t>(i));
    static_cast<void>(send(fd.get(), noise.data(), noise.size(), MSG_NOSIGNAL));
    drain(fd);  // the server hangs up
  }
  {
    const base::UniqueFd fd = raw_connect(address);
    constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // The preface, then a frame header that promises 16 MiB, then nothing more.
    std::string half(kPreface);
    half += std::string("\xFF\xFF\xFF\x00\x00\x00\x00\x00\x01", 9);
    REQUIRE(send(fd.get(), half.data(), half.size(), MSG_NOSIGNAL) > 0);
    drain(fd);
  }
  const auto client = fixture.client();
  const Bytes content = random_bytes(10'000, 1);
  REQUIRE(put(*client, "files/x", content).ok());
  CHECK((value_of(get(*client, "files/x")) == content));
}

TEST_CASE("a stop removes the socket, is idempotent, and clients are told") {
  Fixture fixture;
  const base::ListenAddress address = fixture.server->addresses().front();
  struct stat info{};
  REQUIRE(stat(address.path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0660);
  const auto client = fixture.client();
  fixture.server->stop();
  fixture.server->stop();
  CHECK_FALSE(std::filesystem::exists(address.path));
  CHECK(get(*client, "files/x").status().code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("a stop with stalled readers ends and leaves nothing pinned") {
  RpcServerOptions options;
  options.pinned_bytes = uint64_t{32} << 20;
  Fixture fixture(options);
  const auto client = fixture.client();
  REQUIRE(put(*client, "files/big", random_bytes(size_t{24} << 20, 1)).ok());
  REQUIRE(get(*client, "files/big").ok());  // into memory

  constexpr int kReaders = 4;
  const auto stub = v1::Data::NewStub(client->channel());
  v1::ReadRequest request;
  request.set_path("files/big");
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::ReadResponse>>> streams;
  for (int i = 0; i < kReaders; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(stub->Read(contexts.back().get(), request));
    v1::ReadResponse first;
    REQUIRE(streams.back()->Read(&first));  // and then no more
  }
  CHECK(fixture.server->stats().open == kReaders);
  fixture.server->stop();
  CHECK(fixture.server->stats().open == 0);
  CHECK(fixture.store.pages->stats().memory_pinned_frames == 0);
  for (const auto& stream : streams) {
    v1::ReadResponse message;
    while (stream->Read(&message)) {
    }
    CHECK_FALSE(stream->Finish().ok());
  }
}

TEST_CASE("readers that come cold and go at any moment") {
  Fixture fixture;
  const auto client = fixture.client();
  REQUIRE(put(*client, "files/big", random_bytes(size_t{8} << 20, 2)).ok());
  const auto node = value_of(fixture.store.names->resolve("files/big"));
  const auto stub = v1::Data::NewStub(client->channel());
  v1::ReadRequest request;
  request.set_path("files/big");
  for (int i = 0; i < 60; ++i) {
    const page::ObjectRef object = value_of(fixture.store.names->open(node.id));
    fixture.store.pages->evict_memory(*object);
    grpc::ClientContext context;
    const auto stream = stub->Read(&context, request);
    v1::ReadResponse message;
    for (int j = 0; j < i % 5; ++j) REQUIRE(stream->Read(&message));
    context.TryCancel();
    while (stream->Read(&message)) {
    }
    const grpc::Status status = stream->Finish();
    CHECK((status.ok() || status.error_code() == grpc::StatusCode::CANCELLED));
  }
  // With the server on: its stop would let go of what it kept for readers who have gone.
  CHECK(test::eventually([&] { return fixture.server->stats().open == 0; }));
  // The disk may still be filling frames for them; it lets go when it is done.
  CHECK(test::eventually([&] { return fixture.store.pages->stats().flights == 0; }));
  CHECK(test::eventually([&] { return fixture.store.pages->stats().memory_pinned_frames == 0; }));
}

TEST_CASE("readers that go with answers on their way leave nothing pinned") {
  const Fixture fixture;
  const auto stays = fixture.client();
  const Bytes content = random_bytes(size_t{24} << 20, 3);
  REQUIRE(put(*stays, "files/big", content).ok());
  REQUIRE(get(*stays, "files/big").ok());  // into memory
  const auto pinned = [&] { return fixture.store.pages->stats().memory_pinned_frames; };
  REQUIRE(test::eventually([&] { return pinned() == 0; }));
  v1::ReadRequest request;
  request.set_path("files/big");
  for (int round = 0; round < 4; ++round) {
    auto goes = fixture.client();
    auto stub = v1::Data::NewStub(goes->channel());
    auto context = std::make_unique<grpc::ClientContext>();
    auto stream = stub->Read(context.get(), request);
    v1::ReadResponse message;
    for (int i = 0; i <= round % 2; ++i) REQUIRE(stream->Read(&message));
    REQUIRE(test::eventually([&] { return pinned() > 0; }));  // and then no more
    if (round < 2) {
      context->TryCancel();
    } else {
      // As a client does that forgets the call, and its connection with it.
      stream = nullptr;
      context = nullptr;
      stub = nullptr;
      goes = nullptr;
    }
    CHECK(test::eventually([&] { return pinned() == 0; }));
    CHECK(test::eventually([&] { return fixture.server->stats().open == 0; }));
    if (stream == nullptr) continue;
    while (stream->Read(&message)) {
    }
    CHECK(stream->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  CHECK((value_of(get(*stays, "files/big", 1000, 5000)) ==
         Bytes(content.begin() + 1000, content.begin() + 6000)));
}

TEST_CASE("a deadline ends a read") {
  Fixture fixture;
  const auto client = fixture.client();
  REQUIRE(put(*client, "files/big", random_bytes(size_t{16} << 20, 3)).ok());
  const auto stub = v1::Data::NewStub(client->channel());
  v1::ReadRequest request;
  request.set_path("files/big");
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(300));
  const auto stream = stub->Read(&context, request);
  // Without reading, the window fills and the deadline must end it on both sides.
  CHECK(stream->Finish().error_code() == grpc::StatusCode::DEADLINE_EXCEEDED);
  fixture.server->stop();
  CHECK(fixture.server->stats().open == 0);
}

TEST_CASE("more calls than max_streams are told so") {
  RpcServerOptions options;
  options.max_streams = 3;
  Fixture fixture(options);
  // A connection queues what is over its own limit; three connections see the door's.
  std::vector<std::unique_ptr<RpcClient>> clients;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<v1::PutResponse>> responses;
  std::vector<std::unique_ptr<grpc::ClientWriter<v1::PutRequest>>> streams;
  v1::PutRequest header;
  header.mutable_header()->set_name("files/x");
  for (int i = 0; i < 3; ++i) {
    clients.push_back(fixture.client());
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    responses.push_back(std::make_unique<v1::PutResponse>());
    const auto stub = v1::Data::NewStub(clients.back()->channel());
    streams.push_back(stub->Put(contexts.back().get(), responses.back().get()));
    REQUIRE(streams.back()->Write(header));
  }
  while (fixture.server->stats().open < 3) std::this_thread::yield();
  const absl::Status status = get(*fixture.client(), "files/x").status();
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(mentions(status, "max_streams"));
  for (size_t i = 0; i < 3; ++i) {
    contexts[i]->TryCancel();
    CHECK_FALSE(streams[i]->Finish().ok());
  }
}

}  // namespace
}  // namespace blobcache::net
