// The wire format written by hand against the generated classes, and against garbage.
#include "net/impl/wire.h"

#include <doctest/doctest.h>

#include <string>

#include "blobcache.pb.h"
#include "store/page/checksum.h"
#include "test/net/fixture.h"

namespace blobcache::net {
namespace {

std::string text_of(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  REQUIRE(buffer.Dump(&slices).ok());
  std::string text;
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

/// `text` in slices of `step` bytes, so that every field is cut somewhere.
grpc::ByteBuffer buffer_of(const std::string& text, size_t step) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < text.size(); at += step) slices.emplace_back(text.substr(at, step));
  if (slices.empty()) slices.emplace_back("", 0);
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::string content_of(const Payload& payload) {
  std::string text;
  for (const auto piece : payload.pieces) {
    text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
  }
  return text;
}

v1::ReadResponse read_response(size_t size) {
  const Bytes content = random_bytes(size, size);
  v1::ReadResponse response;
  response.set_data(content.data(), content.size());
  response.set_crc32c(page::crc32c(content));
  response.set_file_size(uint64_t{1} << 40);
  response.set_digest(std::string(32, 'd'));
  return response;
}

TEST_CASE("a put's data is what the generated class reads") {
  for (const size_t size : {size_t{1}, size_t{127}, size_t{128}, size_t{1} << 20}) {
    CAPTURE(size);
    const Bytes content = random_bytes(size, 3);
    const std::string text(reinterpret_cast<const char*>(content.data()), size);
    const grpc::ByteBuffer encoded = encode_put_data(grpc::Slice(text));
    v1::PutRequest request;
    REQUIRE(request.ParseFromString(text_of(encoded)));
    CHECK(request.step_case() == v1::PutRequest::kData);
    CHECK((request.data().data() == text));
    CHECK(request.data().crc32c() == page::crc32c(content));

    const auto payload = parse_put_data(encoded);
    REQUIRE(payload.has_value());
    CHECK(payload->size_bytes == size);
    CHECK(payload->intact());
    CHECK((content_of(*payload) == text));
  }
}

TEST_CASE("an empty read is what the generated class reads") {
  page::ObjectKey key;
  key.bytes.fill(7);
  const grpc::ByteBuffer encoded = encode_read_copied(page::PinnedRange(), FileFacts{300, key});
  v1::ReadResponse response;
  REQUIRE(response.ParseFromString(text_of(encoded)));
  CHECK(response.data().empty());
  CHECK(response.crc32c() == 0);
  CHECK(response.file_size() == 300);
  CHECK(response.digest() == std::string(32, '\7'));
}

TEST_CASE("a read response is read however it is sliced") {
  const v1::ReadResponse response = read_response(1000);
  for (const size_t step : {size_t{1}, size_t{7}, size_t{64}, size_t{2000}}) {
    CAPTURE(step);
    const auto payload = parse_read_response(buffer_of(response.SerializeAsString(), step));
    REQUIRE(payload.has_value());
    CHECK((content_of(*payload) == response.data()));
    CHECK(payload->intact());
    CHECK(payload->file_size == response.file_size());
    CHECK(payload->digest.size() == 32);
  }
}

TEST_CASE("unknown fields pass and damage shows") {
  v1::ReadResponse response = read_response(50);
  std::string text = response.SerializeAsString();
  text += std::string("\x50\x96\x01", 3);           // field 10, a varint
  text += std::string("\x5A\x02hi", 4);             // field 11, bytes
  text += std::string("\x61\1\2\3\4\5\6\7\10", 9);  // field 12, fixed64
  text += std::string("\x6D\1\2\3\4", 5);           // field 13, fixed32
  const auto payload = parse_read_response(buffer_of(text, 5));
  REQUIRE(payload.has_value());
  CHECK(payload->intact());

  response.set_crc32c(response.crc32c() ^ 1);
  const auto damaged = parse_read_response(buffer_of(response.SerializeAsString(), 9));
  REQUIRE(damaged.has_value());
  CHECK_FALSE(damaged->intact());
}

TEST_CASE("every cut of a message is refused or is a shorter message") {
  const std::string text = read_response(40).SerializeAsString();
  for (size_t size = 0; size < text.size(); ++size) {
    CAPTURE(size);
    const std::string cut = text.substr(0, size);
    v1::ReadResponse reference;
    CHECK(parse_read_response(buffer_of(cut, 3)).has_value() == reference.ParseFromString(cut));
  }
}

TEST_CASE("garbage is never more than refused") {
  int read = 0;
  for (uint64_t seed = 0; seed < 5000; ++seed) {
    const Bytes bytes = random_bytes(seed % 40, seed);
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (const auto payload = parse_read_response(buffer_of(text, 4))) {
      ++read;
      CHECK(content_of(*payload).size() == payload->size_bytes);
    }
    static_cast<void>(parse_put_data(buffer_of(text, 4)));
  }
  CHECK(read > 0);
  CHECK(read < 2500);
}

TEST_CASE("other steps of a put are left to the generated class") {
  v1::PutRequest request;
  request.set_zeros(7);
  CHECK_FALSE(parse_put_data(encode_message(request)).has_value());
  request.mutable_finish()->set_size(0);
  CHECK_FALSE(parse_put_data(encode_message(request)).has_value());
  CHECK_FALSE(parse_put_data(buffer_of("", 1)).has_value());
  request.mutable_data()->set_data("x");
  const std::string once = request.SerializeAsString();
  CHECK(parse_put_data(buffer_of(once, 2)).has_value());
  CHECK_FALSE(parse_put_data(buffer_of(once + once, 2)).has_value());  // to be merged
}

}  // namespace
}  // namespace blobcache::net
