// What Data.Put refuses, spoken to it directly, and that nothing stays behind.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <atomic>
#include <string>
#include <thread>

#include "blobcache.grpc.pb.h"
#include "store/page/checksum.h"
#include "test/net/fixture.h"

namespace blobcache::net {
namespace {

v1::PutRequest header(const std::string& name, const std::string& digest = "", uint64_t hint = 0) {
  v1::PutRequest request;
  request.mutable_header()->set_name(name);
  request.mutable_header()->set_expected_digest(digest);
  request.mutable_header()->set_size_hint(hint);
  return request;
}

v1::PutRequest data(const std::string& text) {
  v1::PutRequest request;
  request.mutable_data()->set_data(text);
  request.mutable_data()->set_crc32c(
      page::crc32c({reinterpret_cast<const std::byte*>(text.data()), text.size()}));
  return request;
}

v1::PutRequest zeros(uint64_t count) {
  v1::PutRequest request;
  request.set_zeros(count);
  return request;
}

v1::PutRequest finish(uint64_t size) {
  v1::PutRequest request;
  request.mutable_finish()->set_size(size);
  return request;
}

struct Protocol : Fixture {
  Protocol() : rpc(client()), stub(v1::Data::NewStub(rpc->channel())) {}

  /// Sends the messages and ends the stream.
  grpc::Status send(const std::vector<v1::PutRequest>& requests) {
    grpc::ClientContext context;
    response.Clear();
    const auto stream = stub->Put(&context, &response);
    for (const v1::PutRequest& request : requests) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
    return stream->Finish();
  }

  void check_refused(const std::vector<v1::PutRequest>& requests, grpc::StatusCode code,
                     const std::string& why) {
    const uint64_t used = used_bytes();
    const grpc::Status status = send(requests);
    CAPTURE(status.error_message());
    CHECK(status.error_code() == code);
    CHECK(status.error_message().find(why) != std::string::npos);
    CHECK(used_bytes() == used);
    CHECK(blobs() == 0);
  }

  std::unique_ptr<RpcClient> rpc;
  std::unique_ptr<v1::Data::Stub> stub;
  v1::PutResponse response;
};

TEST_CASE("streams that are not as they should be") {
  Protocol p;
  const auto invalid = grpc::StatusCode::INVALID_ARGUMENT;
  const std::string mib(1 << 20, 'x');
  p.check_refused({}, invalid, "cut short after 0 bytes");
  p.check_refused({data("x")}, invalid, "must be a header");
  p.check_refused({zeros(1)}, invalid, "must be a header");
  p.check_refused({finish(0)}, invalid, "must be a header");
  p.check_refused({v1::PutRequest()}, invalid, "neither header");
  p.check_refused({header("files/x"), header("files/x")}, invalid, "second header");
  p.check_refused({header("files/x"), data("abc")}, invalid, "cut short after 3 bytes");
  p.check_refused({header("files/x"), data("abc"), finish(4)}, invalid,
                  "finish says 4 bytes, but 3");
  p.check_refused({header("files/x"), data("abc"), finish(3), data("d")}, invalid, "after finish");
  p.check_refused({header("files/x"), data(mib + "y")}, invalid, "1048577 bytes of data");
  p.check_refused({header("files/x"), zeros((1 << 30) + 1)}, invalid, "zeros in a message");
  p.check_refused({header("files/x", "short")}, invalid, "expected_digest has 5 bytes");
  p.check_refused({header("files/x", std::string(33, 'x'))}, invalid, "has 33 bytes");
  p.check_refused({header("files/x", "", UINT64_MAX)}, invalid, "size_hint");
  p.check_refused({header("files/../x")}, invalid, "");
  p.check_refused({header("blobs/x")}, grpc::StatusCode::PERMISSION_DENIED, "");
  p.check_refused({header("files/x", "", uint64_t{1} << 50)}, grpc::StatusCode::RESOURCE_EXHAUSTED,
                  "");
}

TEST_CASE("damaged data is found") {
  Protocol p;
  v1::PutRequest bad = data("some content");
  bad.mutable_data()->set_crc32c(bad.data().crc32c() + 1);
  p.check_refused({header("files/x"), data("first"), bad, finish(17)}, grpc::StatusCode::DATA_LOSS,
                  "offset 5");
}

TEST_CASE("a message over the limit of 4 MiB ends the put") {
  Protocol p;
  p.check_refused({header("files/x"), data(std::string(5 << 20, 'x'))},
                  grpc::StatusCode::RESOURCE_EXHAUSTED, "");
}

TEST_CASE("data and zeros in any order, also in encodings that are unusual") {
  Protocol p;
  v1::PutRequest twice = data("tail");
  // Two data fields in one message: Protobuf merges them, the last one's content wins.
  v1::PutRequest merged;
  REQUIRE(merged.ParseFromString(data("head").SerializeAsString() + twice.SerializeAsString()));
  const grpc::Status status = p.send({header("files/x"), zeros(0), data("ab"), zeros(3), data(""),
                                      data("c"), merged, zeros(1), finish(11)});
  CAPTURE(status.error_message());
  REQUIRE(status.ok());
  const std::string expect("ab\0\0\0ctail\0", 11);
  const Bytes back = value_of(get(*p.rpc, "files/x"));
  CHECK(std::string(reinterpret_cast<const char*>(back.data()), back.size()) == expect);
  CHECK(p.response.size() == 11);
}

TEST_CASE("a put that is cancelled leaves nothing") {
  Protocol p;
  const uint64_t used = p.used_bytes();
  {
    grpc::ClientContext context;
    const auto stream = p.stub->Put(&context, &p.response);
    REQUIRE(stream->Write(header("files/x", "", 50 << 20)));
    for (int i = 0; i < 20; ++i) REQUIRE(stream->Write(data(std::string(1 << 20, 'x'))));
    context.TryCancel();
    CHECK(stream->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  p.server->stop();  // returns when the server's side of it is over too
  CHECK(p.blobs() == 0);
  CHECK(p.used_bytes() == used);
  CHECK_FALSE(p.store.names->resolve("files/x").ok());
  CHECK(p.server->stats().open == 0);
}

TEST_CASE("a put whose client disappears leaves nothing") {
  Protocol p;
  const uint64_t used = p.used_bytes();
  grpc::ClientContext context;
  auto stream = p.stub->Put(&context, &p.response);
  REQUIRE(stream->Write(header("files/x")));
  for (int i = 0; i < 8; ++i) REQUIRE(stream->Write(data(std::string(1 << 20, 'x'))));
  CHECK(p.server->stats().open == 1);
  p.server->stop();  // the put cannot end by itself: it is cancelled after the grace
  CHECK_FALSE(stream->Finish().ok());
  CHECK(p.blobs() == 0);
  CHECK(p.used_bytes() == used);
}

TEST_CASE("stat") {
  Protocol p;
  const std::string text(10'000, 's');
  REQUIRE(p.send({header("files/d/f"), data(text), finish(text.size())}).ok());
  const auto stat = [&](const std::string& path, bool residency, v1::StatResponse& response) {
    grpc::ClientContext context;
    v1::StatRequest request;
    request.set_path(path);
    request.set_residency(residency);
    return p.stub->Stat(&context, request, &response);
  };
  v1::StatResponse file;
  REQUIRE(stat("files/d/f", true, file).ok());
  CHECK(file.node().type() == v1::Node::FILE);
  CHECK(file.node().size() == text.size());
  CHECK(file.node().uid() == geteuid());
  CHECK(file.node().gid() == getegid());
  CHECK(file.node().digest() == p.response.digest());
  CHECK(file.node().modified_ns() > 0);
  CHECK(file.residency().pages() == 3);
  CHECK(file.residency().disk_pages() == 3);

  v1::StatResponse directory;
  REQUIRE(stat("files/d", true, directory).ok());
  CHECK(directory.node().type() == v1::Node::DIRECTORY);
  CHECK(directory.node().digest().empty());
  CHECK_FALSE(directory.has_residency());
  v1::StatResponse none;
  CHECK(stat("files/none", false, none).error_code() == grpc::StatusCode::NOT_FOUND);
}

TEST_CASE("more puts than there are slots wait for their turn") {
  Protocol p;
  constexpr int kPuts = 80;  // DataDoor::kMaxPuts is 64
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<v1::PutResponse>> responses;
  std::vector<std::unique_ptr<grpc::ClientWriter<v1::PutRequest>>> streams;
  for (int i = 0; i < kPuts; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    responses.push_back(std::make_unique<v1::PutResponse>());
    streams.push_back(p.stub->Put(contexts.back().get(), responses.back().get()));
    REQUIRE(streams.back()->Write(header(fmt::format("files/p/{}", i))));
  }
  // All have begun, none has ended: 16 are waiting. They get through as the others end.
  std::vector<std::thread> threads;
  std::atomic<int> good = 0;
  for (int i = 0; i < kPuts; ++i) {
    threads.emplace_back([&, i] {
      auto& stream = *streams[static_cast<size_t>(i)];
      const bool sent = stream.Write(data(std::to_string(i))) &&
                        stream.Write(finish(std::to_string(i).size())) && stream.WritesDone();
      if (sent && stream.Finish().ok()) ++good;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == kPuts);
  CHECK(p.blobs() == kPuts);
}

}  // namespace
}  // namespace blobcache::net
