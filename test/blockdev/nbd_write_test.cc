// Writes and what belongs to them, through a session, on a device in memory.

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "blockdev/impl/payload_buffers.h"
#include "test/blockdev/memory_device.h"
#include "test/blockdev/test_export.h"

namespace blobcache::blockdev {
namespace {

using Call = MemoryDevice::Call;
using Kind = MemoryDevice::Call::Kind;
using Style = RawClient::Style;

constexpr uint64_t kWritableSize = 40 * kMiB;
constexpr Style kStyles[] = {Style::kSimple, Style::kStructured, Style::kExtended};

TEST_CASE("nbd write: what is written is read again, in every style, at any offset and length") {
  for (const Style style : kStyles) {
    auto device = std::make_shared<MemoryDevice>(kWritableSize);
    TestSession session(device);
    RawClient& client = session.client();
    CHECK(client.open("disk", style) == kWritableSize);
    uint64_t cookie = 0;
    for (const uint64_t length :
         {uint64_t{1}, uint64_t{4096}, uint64_t{99'999}, 3 * kMiB + 5, 32 * kMiB}) {
      const uint64_t offset = 4095 + length % 7;
      const std::string data = pattern(offset, length);
      client.send(client.write_request(++cookie, offset, data));
      const RawClient::Reply reply = client.receive_reply();
      CHECK(reply.error == 0);
      CHECK(reply.cookie == cookie);
      CHECK(reply.done());
      CHECK(device->content(offset, length) == data);
      CHECK(client.read(offset, static_cast<uint32_t>(std::min(length, 5 * kMiB))) ==
            data.substr(0, 5 * kMiB));
    }
    CHECK(device->content(0, 4095) == std::string(4095, '\0'));
  }
}

TEST_CASE("nbd write: a device that grows is there for clients who learned its old size") {
  for (const Style style : kStyles) {
    auto device = std::make_shared<MemoryDevice>(kMiB);
    TestSession session(device);
    RawClient& client = session.client();
    CHECK(client.open("disk", style) == kMiB);
    const std::string data = pattern(7, 4096);
    client.send(client.write_request(1, kMiB, data));
    CHECK(client.receive_reply().error == 28);  // ENOSPC
    device->grow(2 * kMiB);
    client.send(client.write_request(2, 2 * kMiB - 4096, data));
    CHECK(client.receive_reply().error == 0);
    CHECK(client.read(2 * kMiB - 4096, 4096) == data);
    client.send(client.write_request(3, 2 * kMiB - 4095, data));
    CHECK(client.receive_reply().error == 28);
  }
}

TEST_CASE("nbd write: a long one goes to the device in parts that end where it likes") {
  auto device = std::make_shared<MemoryDevice>(kWritableSize);
  TestSession session(device);
  RawClient& client = session.client();
  client.open("disk", Style::kStructured);
  constexpr uint64_t kPart = Device::kMaxWrite;
  client.send(client.write_request(1, kPart - 10, std::string(kPart + 20, 'x')));
  CHECK(client.receive_reply().error == 0);
  CHECK(device->take_calls() == std::vector<Call>{{Kind::kWrite, kPart - 10, 10},
                                                  {Kind::kWrite, kPart, kPart},
                                                  {Kind::kWrite, 2 * kPart, 10}});
  // What has to be on stable storage is flushed when all of it is there.
  client.send(client.write_request(2, kPart - 10, std::string(20, 'y'), kRawFua));
  CHECK(client.receive_reply().error == 0);
  CHECK(device->take_calls() == std::vector<Call>{{Kind::kWrite, kPart - 10, 10},
                                                  {Kind::kWrite, kPart, 10},
                                                  {Kind::kFlush}});
  client.send(client.write_request(3, 5, std::string(20, 'y'), kRawFua));
  CHECK(client.receive_reply().error == 0);
  CHECK(device->take_calls() == std::vector<Call>{{Kind::kWrite, 5, 20, /*fua=*/true}});
}

TEST_CASE("nbd write: zeroes, trims and flushes arrive with their flags") {
  for (const Style style : kStyles) {
    auto device = std::make_shared<MemoryDevice>(kWritableSize);
    TestSession session(device);
    RawClient& client = session.client();
    client.open("disk", style);
    const auto does = [&](uint16_t type, uint64_t offset, uint64_t length, unsigned flags) {
      client.send_request(type, 7, offset, length, static_cast<uint16_t>(flags));
      const RawClient::Reply reply = client.receive_reply();
      CHECK(reply.cookie == 7);
      CHECK(reply.request_offset == (style == Style::kExtended ? offset : 0));
      return reply.error;
    };
    client.send(client.write_request(1, 0, std::string(3 * kMiB, 'x')));
    CHECK(client.receive_reply().error == 0);
    (void)device->take_calls();
    CHECK(does(kRawZeroes, kMiB, kMiB, 0) == 0);
    CHECK(does(kRawZeroes, 0, kWritableSize, kRawFua | kRawFastZero) == 0);
    CHECK(does(kRawZeroes, 5, 10, kRawNoHole) == 0);
    CHECK(does(kRawZeroes, 5, 10, kRawNoHole | kRawFastZero) == 95);
    CHECK(does(kRawTrim, 1, kWritableSize - 1, kRawFua) == 0);
    CHECK(does(kRawFlush, 0, 0, 0) == 0);
    CHECK(does(kRawFlush, 0, 0, kRawFua) == 0);
    CHECK(device->take_calls() ==
          std::vector<Call>{{Kind::kZeroes, kMiB, kMiB},
                            {Kind::kZeroes, 0, kWritableSize, true, false, true},
                            {Kind::kZeroes, 5, 10, false, true},
                            {Kind::kZeroes, 5, 10, false, true, true},
                            {Kind::kTrim, 1, kWritableSize - 1, true},
                            {Kind::kFlush},
                            {Kind::kFlush}});
    CHECK(device->content(0, 3 * kMiB) == std::string(3 * kMiB, '\0'));
  }
}

TEST_CASE("nbd write: many small ones that come together are answered, each") {
  auto device = std::make_shared<MemoryDevice>(kWritableSize);
  TestSession session(device);
  RawClient& client = session.client();
  client.open("disk", Style::kSimple);
  std::string all;
  constexpr uint64_t kWrites = 500;  // more than may be in flight
  for (uint64_t i = 0; i < kWrites; ++i) {
    all += client.write_request(i, i * 512, pattern(i * 512, 512));
  }
  client.send(all);
  for (uint64_t i = 0; i < kWrites; ++i) {
    const RawClient::Reply reply = client.receive_reply();
    CHECK(reply.cookie == i);
    CHECK(reply.error == 0);
  }
  CHECK(device->content(0, kWrites * 512) == pattern(0, kWrites * 512));
}

TEST_CASE("nbd write: long ones that come together are answered, each") {
  for (const Style style : kStyles) {
    auto device = std::make_shared<MemoryDevice>(kWritableSize);
    TestSession session(device);
    RawClient& client = session.client();
    client.open("disk", style);
    // Of lengths on both sides of what is long, and no pause between them.
    constexpr uint64_t kWrites = 60;
    const auto length_of = [](uint64_t i) { return i % 7 == 3 ? 512 : (i % 5 + 1) * 50'000; };
    std::string all;
    uint64_t end = 0;
    for (uint64_t i = 0; i < kWrites; ++i) {
      all += client.write_request(i, end, pattern(end, length_of(i)));
      end += length_of(i);
    }
    std::thread writer([&] { client.send(all); });
    for (uint64_t i = 0; i < kWrites; ++i) {
      const RawClient::Reply reply = client.receive_reply();
      CHECK(reply.cookie == i);
      CHECK(reply.error == 0);
    }
    writer.join();
    CHECK(device->content(0, end) == pattern(0, end));
    // The last of them, and one alone, are not kept back for others.
    client.send(client.write_request(99, 0, std::string(100'000, 'z')));
    CHECK(client.receive_reply().cookie == 99);
  }
}

TEST_CASE("nbd write: a device that takes its time is waited for, by nobody else") {
  auto device = std::make_shared<MemoryDevice>(kWritableSize);
  TestSession session(device);
  RawClient& client = session.client();
  client.open("disk", Style::kStructured);
  device->hold();
  for (uint64_t i = 0; i < 8; ++i) {
    client.send(client.write_request(i, i * 4096, pattern(i * 4096, 4096)));
  }
  // What is refused has no device to wait for.
  client.send_request(kRawTrim, 99, kWritableSize, 1);
  CHECK(client.receive_reply().cookie == 99);
  device->release(8);
  uint64_t cookies = 0;
  for (uint64_t i = 0; i < 8; ++i) {
    const RawClient::Reply reply = client.receive_reply();
    CHECK(reply.error == 0);
    cookies |= uint64_t{1} << reply.cookie;
  }
  CHECK(cookies == 0xff);
  CHECK(device->content(0, 8 * 4096) == pattern(0, 8 * 4096));
}

TEST_CASE("nbd write: payloads that wait for the device have a bound, and all get through") {
  auto device = std::make_shared<MemoryDevice>(kWritableSize);
  TestSession session(device);
  RawClient& client = session.client();
  client.open("disk", Style::kExtended);
  device->hold();
  std::thread writer([&client] {
    for (uint64_t i = 0; i < 3; ++i) {
      client.send(client.write_request(i, 0, pattern(i, 30 * kMiB)));
    }
  });
  // As many parts as there may be, and not one more.
  constexpr size_t kParts = PayloadBuffers::kMaxHeld / Device::kMaxWrite;
  device->release(kParts);
  CHECK(device->take_calls().size() >= kParts);
  for (uint64_t i = 0; i < 3; ++i) CHECK(client.receive_reply().error == 0);
  writer.join();
  CHECK(device->content(0, 30 * kMiB) == pattern(2, 30 * kMiB));
}

TEST_CASE("nbd write: the device's errors are replies, with the place where it failed") {
  struct Case {
    absl::Status status;
    uint32_t error = 0;
  };
  for (const Case& one :
       {Case{absl::ResourceExhaustedError("full"), 28}, Case{absl::DataLossError("gone"), 5},
        Case{absl::PermissionDeniedError("no"), 1}}) {
    auto device = std::make_shared<MemoryDevice>(kWritableSize);
    TestSession session(device);
    RawClient& client = session.client();
    client.open("disk", Style::kStructured);
    device->fail(one.status);
    client.send(client.write_request(1, 4096, std::string(3 * kMiB, 'x')));
    RawClient::Reply reply = client.receive_reply();
    CHECK(reply.error == one.error);
    CHECK(reply.type == 0x8002);
    CHECK(reply.offset == 4096);
    for (const uint16_t type : {kRawTrim, kRawZeroes}) {
      client.send_request(type, 2, 512, 1024);
      reply = client.receive_reply();
      CHECK(reply.error == one.error);
      CHECK(reply.offset == 512);
    }
    client.send_request(kRawFlush, 3, 0, 0);
    reply = client.receive_reply();
    CHECK(reply.error == one.error);
    CHECK(reply.type == 0x8001);
    device->fail(absl::OkStatus());
    client.send(client.write_request(4, 0, "works again"));
    CHECK(client.receive_reply().error == 0);
    CHECK(device->content(0, 11) == "works again");
  }
}

TEST_CASE("nbd write: what is refused has its payload read past, and the next request is right") {
  for (const Style style : kStyles) {
    auto device = std::make_shared<MemoryDevice>(kWritableSize);
    TestSession session(device);
    RawClient& client = session.client();
    client.open("disk", style);
    const auto works = [&client] {
      client.send(client.write_request(5, 0, "fine"));
      return client.receive_reply().error == 0;
    };
    client.send(client.write_request(1, kWritableSize - 1, "ab"));
    CHECK(client.receive_reply().error == 28);
    CHECK(works());
    client.send(client.write_request(2, kWritableSize, std::string(32 * kMiB, 'x')));
    CHECK(client.receive_reply().error == 28);
    CHECK(works());
    client.send(client.write_request(3, 0, "abc", 1U << 9));
    CHECK(client.receive_reply().error == 22);
    CHECK(works());
    CHECK(device->content(kWritableSize - 1, 1) == std::string(1, '\0'));
  }
}

TEST_CASE("nbd write: with extended headers other commands may have a payload, too") {
  auto device = std::make_shared<MemoryDevice>(kWritableSize);
  TestSession session(device);
  RawClient& client = session.client();
  client.open("disk", Style::kExtended, {"base:allocation"});
  // A write has one without the flag, too.
  client.send(client.request(1, 1, 0, 4) + "also");
  CHECK(client.receive_reply().error == 0);
  CHECK(device->take_calls() == std::vector<Call>{{Kind::kWrite, 0, 4}});
  // Other commands have one that is not wanted.
  for (const uint16_t type : std::vector<uint16_t>{0, 3, 4, 5, 6, 7, 77}) {
    client.send(client.request(type, 2, 0, 12, 0x20) + "not a reques");
    const RawClient::Reply reply = client.receive_reply();
    CHECK(reply.error == 22);
    CHECK(reply.cookie == 2);
  }
  client.send(client.write_request(3, 100, "fine"));
  CHECK(client.receive_reply().error == 0);
  CHECK(device->take_calls() == std::vector<Call>{{Kind::kWrite, 100, 4}});
  client.send_request(5, 4, 0, (uint64_t{32} << 20) + 1, 0x20);
  CHECK(client.at_end());
}

TEST_CASE("nbd write: a client that goes in the middle of a payload leaves nothing behind") {
  auto device = std::make_shared<MemoryDevice>(kWritableSize);
  TestSession session(device);
  RawClient& client = session.client();
  client.open("disk", Style::kSimple);
  client.send(client.write_request(1, 0, std::string(300'000, 'x')).substr(0, 280'000));
  client.shut_down_sending();
  // The part of it that came may be written, but nobody is told that the whole was.
  CHECK(client.receive_reply().error == 5);
  CHECK(client.at_end());
  session.join();
  CHECK(session.payload_bytes_left() == NbdShared::kPayloadBytes);
  CHECK(device.use_count() > 0);
}

TEST_CASE("nbd write: stop() lets writes that the device has end, and refuses half ones") {
  auto device = std::make_shared<MemoryDevice>(kWritableSize);
  TestSession session(device);
  RawClient& client = session.client();
  client.open("disk", Style::kStructured);
  device->hold();
  client.send(client.write_request(1, 0, "whole"));
  client.send(client.write_request(2, 4096, std::string(300'000, 'x')).substr(0, 290'000));
  device->wait_for(2);  // and the first part of the other
  session.stop();
  device->release(2);
  uint32_t errors[3] = {};
  for (int i = 0; i < 2; ++i) {
    const RawClient::Reply reply = client.receive_reply();
    REQUIRE(reply.cookie <= 2);
    errors[reply.cookie] = reply.error;
  }
  CHECK(errors[1] == 0);
  CHECK(errors[2] == 108);
  CHECK(client.at_end());
  CHECK(device->content(0, 5) == "whole");
}

TEST_CASE("nbd write: on a device that can only be read all of it is refused") {
  TestStore store(kMiB);
  for (const Style style : kStyles) {
    TestSession session(store.object());
    RawClient& client = session.client();
    client.open("disk", style);
    client.send(client.write_request(1, 0, std::string(5000, 'x')));
    CHECK(client.receive_reply().error == 1);
    client.send_request(kRawTrim, 2, 0, 4096);
    CHECK(client.receive_reply().error == 1);
    client.send_request(kRawZeroes, 3, 0, 4096);
    CHECK(client.receive_reply().error == 1);
    client.send_request(kRawZeroes, 4, 0, 4096, kRawFastZero);
    CHECK(client.receive_reply().error == 22);
    client.send_request(kRawFlush, 5, 0, 0);
    CHECK(client.receive_reply().error == 0);
    CHECK(client.read(7, 100) == pattern(7, 100));
  }
}

}  // namespace
}  // namespace blobcache::blockdev
