#include "blockdev/nbd_client.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/listen_address.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "blockdev/impl/nbd_client_handshake.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/tls.h"
#include "test/blockdev/raw_client.h"
#include "test/blockdev/test_export.h"

namespace blobcache::blockdev {
namespace {

using ClientState = ClientHandshake::State;

constexpr uint64_t kExportSize = 123'456;
constexpr uint32_t kGo = 7;
constexpr uint32_t kAck = 1;
constexpr uint32_t kInfo = 3;

absl::Time soon() { return absl::Now() + absl::Seconds(20); }

/// Our end of a session's connection.
base::UniqueFd end_of(TestSession& session) { return base::UniqueFd(::dup(session.client().fd())); }

std::string greeting(uint16_t flags = 3) { return "NBDMAGICIHAVEOPT" + be16(flags); }

std::string option_reply(uint32_t type, std::string_view data = {}, uint32_t option = kGo) {
  return be64(0x3e889045565a9) + be32(option) + be32(type) +
         be32(static_cast<uint32_t>(data.size())) + std::string(data);
}

std::string export_info(uint64_t size, uint16_t flags) {
  return be16(0) + be64(size) + be16(flags);
}

/// What a handshake came to that was told `bytes`, all of which it had to want.
struct Told {
  ClientState state = ClientState::kNegotiating;
  std::string said;
  absl::Status error;
  size_t left = 0;
};

Told tell(ClientHandshake& handshake, const std::string& bytes) {
  Told told;
  nbd::Bytes rest(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size());
  while (told.state == ClientState::kNegotiating && rest.size() >= handshake.wanted()) {
    const nbd::Bytes part = rest.first(handshake.wanted());
    rest.remove_prefix(part.size());
    told.state = handshake.take(part, told.said);
  }
  told.error = handshake.error();
  told.left = rest.size();
  return told;
}

Told tell(const std::string& bytes) {
  ClientHandshake handshake("files/a");
  return tell(handshake, bytes);
}

TEST_CASE("nbd client: opens an export and leaves the connection to requests") {
  TestStore store(kExportSize);
  TestSession session(store.object());
  const auto opened = open_export(end_of(session), "disk", soon());
  REQUIRE(opened.ok());
  CHECK(opened->size_bytes == kExportSize);
  CHECK(opened->read_only());
  CHECK(opened->can_multi_conn());
  CHECK(opened->min_block_bytes == 1);
  session.client().send_request(0, 9, 4000, 200);
  const RawClient::Reply reply = session.client().receive_reply(200);
  CHECK_FALSE(reply.structured);
  CHECK(reply.data == pattern(4000, 200));
}

TEST_CASE("nbd client: what the server refuses") {
  TestStore store(kExportSize);
  SUBCASE("an export that is not there") {
    TestSession session(store.object());
    const auto opened = open_export(end_of(session), "files/nope", soon());
    CHECK(absl::IsNotFound(opened.status()));
  }
  SUBCASE("to go on without TLS") {
    NbdSessionOptions options = TestSession::default_options();
    options.tls = TlsMode::kRequire;
    TestSession session(store.object(), options);
    const auto opened = open_export(end_of(session), "disk", soon());
    CHECK(absl::IsFailedPrecondition(opened.status()));
    CHECK(base::message(opened.status()).find("TLS") != std::string_view::npos);
  }
  SUBCASE("to talk at all") {
    std::array<int, 2> fds{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
    base::UniqueFd ours(fds[0]);
    base::UniqueFd(fds[1]).reset();
    CHECK(absl::IsUnavailable(open_export(std::move(ours), "disk", soon()).status()));
  }
}

TEST_CASE("nbd client: nobody there, nobody who answers, no name that long") {
  const auto nowhere = base::parse_listen_address("unix:/nowhere/nbd.sock");
  REQUIRE(nowhere.ok());
  const auto opened = open_export(*nowhere, "disk", soon());
  CHECK(absl::IsUnavailable(opened.status()));
  CHECK(base::message(opened.status()).find("/nowhere/nbd.sock") != std::string_view::npos);

  std::array<int, 2> fds{};
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) == 0);
  const base::UniqueFd theirs(fds[1]);
  base::UniqueFd ours(fds[0]);
  CHECK(absl::IsDeadlineExceeded(
      open_export(base::UniqueFd(::dup(ours.get())), "disk", absl::InfinitePast()).status()));
  CHECK(absl::IsInvalidArgument(
      open_export(std::move(ours), std::string(4097, 'a'), soon()).status()));
}

TEST_CASE("nbd client handshake: says its flags and NBD_OPT_GO, and wants no byte too many") {
  ClientHandshake handshake("files/a");
  CHECK(handshake.wanted() == 18);
  const std::string go = be32(7) + "files/a" + be16(1) + be16(3);
  const Told greeted = tell(handshake, greeting());
  CHECK(greeted.said == be32(3) + "IHAVEOPT" + be32(kGo) + be32(15) + go);
  const Told open =
      tell(handshake, option_reply(kInfo, export_info(kExportSize, 0x103)) +
                          option_reply(kInfo, be16(2) + "a description") +
                          option_reply(kInfo, be16(3) + be32(512) + be32(4096) + be32(65536)) +
                          option_reply(kAck) + "the reply to a request");
  CHECK(open.state == ClientState::kOpen);
  CHECK(open.said.empty());
  CHECK(open.left == std::string_view("the reply to a request").size());
  CHECK(handshake.size_bytes() == kExportSize);
  CHECK(handshake.transmission_flags() == 0x103);
  CHECK(handshake.min_block_bytes() == 512);
}

TEST_CASE("nbd client handshake: offers only what the server has") {
  CHECK(tell(greeting(1)).said.starts_with(be32(1)));
  CHECK(absl::IsUnimplemented(tell(greeting(2)).error));
  CHECK(absl::IsUnimplemented(tell("NBDMAGIC" + be64(0x420281861253) + be16(0)).error));
}

TEST_CASE("nbd client handshake: refusals") {
  const auto refused = [](uint32_t type, std::string_view text = {}) {
    const Told told = tell(greeting() + option_reply(0x80000000 + type, text));
    CHECK(told.state == ClientState::kFailed);
    return told.error;
  };
  CHECK(absl::IsUnimplemented(refused(1)));
  CHECK(absl::IsPermissionDenied(refused(2)));
  CHECK(absl::IsInternal(refused(3)));
  CHECK(absl::IsFailedPrecondition(refused(5)));
  const absl::Status unknown = refused(6, "try another");
  CHECK(absl::IsNotFound(unknown));
  CHECK(base::message(unknown).ends_with(": try another"));
  CHECK(base::message(refused(2, std::string(60'000, 'x'))).size() < 5000);
}

TEST_CASE("nbd client handshake: what is no NBD server") {
  const std::string info = option_reply(kInfo, export_info(kExportSize, 3));
  std::string many = greeting();
  for (int i = 0; i < 100; ++i) many += option_reply(kInfo, be16(1) + "a");
  const std::vector<std::string> nonsense = {
      std::string("HTTP/1.1 400 Bad Request"),
      greeting() + std::string(20, 'x'),
      greeting() + option_reply(kAck, {}, 3),               // an answer to another option
      greeting() + option_reply(kAck),                      // no size
      greeting() + option_reply(2),                         // NBD_REP_SERVER
      greeting() + option_reply(kInfo),                     // too short
      greeting() + option_reply(kInfo, be16(0) + be64(1)),  // too short
      greeting() +
          option_reply(kInfo, export_info(kExportSize, 2)),   // NBD_FLAG_HAS_FLAGS is not there
      greeting() + option_reply(kInfo, be16(3) + be32(512)),  // too short
      greeting() + option_reply(kInfo, be16(3) + be32(0) + be64(0)),  // no block size
      greeting() + option_reply(kInfo, be16(3) + be32(3) + be64(0)),
      greeting() + be64(0x3e889045565a9) + be32(kGo) + be32(kInfo) + be32(1U << 30),
      many,
  };
  for (const std::string& bytes : nonsense) {
    CAPTURE(bytes.size());
    const Told told = tell(bytes);
    CHECK(told.state == ClientState::kFailed);
    CHECK(absl::IsInternal(told.error));
  }
}

}  // namespace
}  // namespace blobcache::blockdev
