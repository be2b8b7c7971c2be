#include "blockdev/impl/nbd_handshake.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "test/blockdev/handshake_driver.h"
#include "test/blockdev/raw_client.h"

namespace blobcache::blockdev {
namespace {

using State = Handshake::State;
using Style = nbd::HeaderStyle;

TEST_CASE("nbd handshake: the greeting offers fixed newstyle without zeroes") {
  std::string out;
  Handshake::greet(out);
  CHECK(out == "NBDMAGICIHAVEOPT" + be16(3));
}

TEST_CASE("nbd handshake: unknown client flags end it") {
  for (const uint32_t flags : {0U, 1U, 2U, 3U}) {
    CHECK(Driver().feed(be32(flags)) == State::kNegotiating);
  }
  for (const uint32_t flags : {4U, 7U, 0x80000001U, 0x00010001U}) {
    Driver driver;
    CHECK(driver.feed(be32(flags)) == State::kClose);
    CHECK_FALSE(driver.handshake.violation().empty());
    CHECK(driver.said.empty());
  }
}

TEST_CASE("nbd handshake: GO gives the export and what was asked for") {
  Driver driver;
  CHECK(driver.feed(be32(3) + option(7, info_request("files/a", {3, 1, 2, 99})) + "tail") ==
        State::kTransmission);
  CHECK(driver.left == 4);  // requests that came along stay where they are
  const std::string expected =
      reply(7, 3, be16(0) + be64(0x123456) + be16(0x507)) + reply(7, 3, be16(1) + "files/a") +
      reply(7, 3, be16(2) + "only a size") +
      reply(7, 3, be16(3) + be32(1) + be32(4096) + be32(32U << 20)) + reply(7, 1);
  CHECK(driver.said == expected);
  CHECK(driver.handshake.chosen().name == "files/a");
  CHECK(driver.handshake.style() == Style::kSimple);
}

TEST_CASE("nbd handshake: INFO tells the same and goes on") {
  Driver driver;
  CHECK(driver.feed(be32(3) + option(6, info_request(""))) == State::kNegotiating);
  CHECK(driver.said == reply(6, 3, be16(0) + be64(0x123456) + be16(0x507)) + reply(6, 1));
  driver.said.clear();
  CHECK(driver.feed(option(7, info_request(""))) == State::kTransmission);
}

TEST_CASE("nbd handshake: what is not there and what cannot be had now are told apart") {
  Driver driver;
  CHECK(driver.feed(be32(3) + option(7, info_request("files/none"))) == State::kNegotiating);
  CHECK(driver.said == reply(7, 0x80000006, "no such export"));
  driver.said.clear();
  CHECK(driver.feed(option(7, info_request("files/away"))) == State::kNegotiating);
  CHECK(driver.said == reply(7, 0x80000006, "the export cannot be opened: the server is away"));
}

TEST_CASE("nbd handshake: structured replies bring the don't-fragment flag") {
  Driver driver;
  CHECK(driver.feed(be32(1) + option(8, "")) == State::kNegotiating);
  CHECK(driver.said == reply(8, 1));
  driver.said.clear();
  CHECK(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
  CHECK(driver.said == reply(7, 3, be16(0) + be64(0x123456) + be16(0x587)) + reply(7, 1));
  CHECK(driver.handshake.style() == Style::kStructured);
}

TEST_CASE("nbd handshake: a device that can be written says so") {
  Driver driver;
  CHECK(driver.feed(be32(3) + option(8, "") + option(7, info_request("files/w"))) ==
        State::kTransmission);
  // FLUSH, FUA, TRIM, WRITE_ZEROES, DF, MULTI_CONN, CACHE and FAST_ZERO.
  CHECK(driver.said.substr(20) ==
        reply(7, 3, be16(0) + be64(0x123456) + be16(0xded)) + reply(7, 1));
}

TEST_CASE("nbd handshake: extended headers stand for structured replies, and above them") {
  for (const bool structured_first : {false, true}) {
    Driver driver;
    CHECK(driver.feed(be32(3) + (structured_first ? option(8, "") : "")) == State::kNegotiating);
    driver.said.clear();
    CHECK(driver.feed(option(11, "")) == State::kNegotiating);
    CHECK(driver.said == reply(11, 1));
    CHECK(driver.handshake.style() == Style::kExtended);
    driver.said.clear();
    CHECK(driver.feed(option(8, "")) == State::kNegotiating);
    CHECK(driver.said_type() == kExtHeaderReqd);
    driver.said.clear();
    CHECK(driver.feed(option(11, "")) == State::kNegotiating);
    CHECK(driver.said_type() == kInvalid);
    driver.said.clear();
    CHECK(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
    CHECK(driver.said == reply(7, 3, be16(0) + be64(0x123456) + be16(0x587)) + reply(7, 1));
    CHECK(driver.handshake.style() == Style::kExtended);
  }
  // An option that cannot tell of them must not be used with them.
  Driver old;
  CHECK(old.feed(be32(3) + option(11, "") + option(1, "files/a")) == State::kClose);
  CHECK_FALSE(old.handshake.violation().empty());
}

TEST_CASE("nbd handshake: EXPORT_NAME answers bare, with zeroes unless declined") {
  Driver with;
  CHECK(with.feed(be32(1) + option(1, "files/a")) == State::kTransmission);
  CHECK(with.said == be64(0x123456) + be16(0x507) + std::string(124, '\0'));
  Driver without;
  CHECK(without.feed(be32(3) + option(1, "")) == State::kTransmission);
  CHECK(without.said == be64(0x123456) + be16(0x507));
  Driver unknown;
  CHECK(unknown.feed(be32(3) + option(1, "files/nope")) == State::kClose);
  CHECK(unknown.said.empty());
}

TEST_CASE("nbd handshake: an unknown export is refused and may be followed by another try") {
  Driver driver;
  CHECK(driver.feed(be32(3) + option(7, info_request("files/nope"))) == State::kNegotiating);
  CHECK(driver.said_type() == kUnknown);
  CHECK(driver.said.size() > 20);  // with a message
  CHECK(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
}

TEST_CASE("nbd handshake: LIST names the exports, bounded") {
  Driver driver;
  CHECK(driver.feed(be32(3) + option(3, "")) == State::kNegotiating);
  CHECK(driver.said ==
        reply(3, 2, be32(7) + "files/a") + reply(3, 2, be32(7) + "files/b") + reply(3, 1));
  CHECK(driver.directory.listed_with == 10'000);
}

TEST_CASE("nbd handshake: ABORT is acknowledged, data and all, and closes") {
  Driver driver;
  CHECK(driver.feed(be32(3) + option(2, "bye")) == State::kClose);
  CHECK(driver.said == reply(2, 1));
  CHECK(driver.handshake.violation().empty());
}

TEST_CASE("nbd handshake: what is not supported is refused, its data skipped") {
  // The withdrawn PEEK_EXPORT and one from the future.
  for (const uint32_t number : {4U, 12345U}) {
    Driver driver;
    CHECK(driver.feed(be32(3) + option(number, std::string(1000, 'x'))) == State::kNegotiating);
    CHECK(driver.said_type() == kUnsup);
    driver.said.clear();
    CHECK(driver.feed(option(8, "")) == State::kNegotiating);
    CHECK(driver.said == reply(8, 1));
  }
}

TEST_CASE("nbd handshake: TLS that is switched off is refused as a matter of policy") {
  Driver driver;
  CHECK(driver.feed(be32(3) + option(5, "")) == State::kNegotiating);
  CHECK(driver.said_type() == kPolicy);
}

TEST_CASE("nbd handshake: where TLS is required nothing else is answered before it") {
  for (const uint32_t number : {3U, 6U, 7U, 8U, 9U, 10U, 11U, 12345U}) {
    Driver driver(TlsMode::kRequire);
    CHECK(driver.feed(be32(3) + option(number, "")) == State::kNegotiating);
    CHECK(driver.said_type() == kTlsReqd);
  }
  Driver abort(TlsMode::kRequire);
  CHECK(abort.feed(be32(3) + option(2, "")) == State::kClose);
  CHECK(abort.handshake.violation().empty());
  // This option cannot be refused in words.
  Driver old(TlsMode::kRequire);
  CHECK(old.feed(be32(3) + option(1, "files/a")) == State::kClose);
  CHECK(old.said.empty());
}

TEST_CASE("nbd handshake: TLS begins once, without data, and what was agreed before is void") {
  Driver driver(TlsMode::kAllow);
  CHECK(driver.feed(be32(3) + option(8, "")) == State::kNegotiating);
  CHECK(driver.handshake.style() == Style::kStructured);
  driver.said.clear();
  CHECK(driver.feed(option(5, "x")) == State::kNegotiating);
  CHECK(driver.said_type() == kInvalid);
  driver.said.clear();
  CHECK(driver.feed(option(5, "")) == State::kStartTls);
  CHECK(driver.said == reply(5, 1));
  // Nothing is taken before it has begun.
  CHECK(driver.feed(option(8, "")) == State::kStartTls);
  CHECK(driver.left == 16);
  driver.handshake.tls_started();
  CHECK(driver.handshake.style() == Style::kSimple);
  driver.said.clear();
  CHECK(driver.feed(option(5, "")) == State::kNegotiating);
  CHECK(driver.said_type() == kInvalid);
  CHECK(driver.feed(option(1, "files/a")) == State::kTransmission);
}

TEST_CASE("nbd handshake: options whose data is malformed are invalid, and it goes on") {
  const std::vector<std::pair<uint32_t, std::string>> malformed = {
      {3, "x"},
      {8, "x"},
      {11, "x"},
      {7, ""},
      {7, be32(100) + "short" + be16(0)},
      {6, info_request("files/a", {1}) + "x"},
      {6, be32(0) + be16(2) + be16(1)},
      {7, info_request(std::string(4097, 'n'))},
  };
  for (const auto& [number, data] : malformed) {
    Driver driver;
    CHECK(driver.feed(be32(3) + option(number, data)) == State::kNegotiating);
    CHECK(driver.said_type() == kInvalid);
    CHECK(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
  }
}

TEST_CASE("nbd handshake: too much data is skipped, absurd lengths end it") {
  Driver big;
  CHECK(big.feed(be32(3) + option(7, std::string(Handshake::kMaxOption + 1, 'x'))) ==
        State::kNegotiating);
  CHECK(big.said_type() == kTooBig);
  big.said.clear();
  CHECK(big.feed(option(7, info_request("files/a"))) == State::kTransmission);

  Driver absurd;
  CHECK(absurd.feed(be32(3) + "IHAVEOPT" + be32(7) + be32(0xffffffff)) == State::kClose);
  CHECK_FALSE(absurd.handshake.violation().empty());
  Driver name;
  CHECK(name.feed(be32(3) + option(1, std::string(4097, 'n'))) == State::kClose);
}

TEST_CASE("nbd handshake: a wrong option magic ends it") {
  Driver driver;
  CHECK(driver.feed(be32(3) + "IHAVEOPS" + be32(7) + be32(0)) == State::kClose);
  CHECK_FALSE(driver.handshake.violation().empty());
  CHECK(driver.feed(option(2, "")) == State::kClose);  // for good
}

TEST_CASE("nbd handshake: it does not matter how the bytes are cut up") {
  const std::string session = be32(3) + option(8, "") + option(3, "") + option(4242, "skipped") +
                              option(6, info_request("no")) +
                              option(7, info_request("files/a", {3}));
  Driver whole;
  CHECK(whole.feed(session) == State::kTransmission);
  Driver single;
  for (size_t i = 0; i < session.size(); ++i) {
    const State state = single.feed(std::string_view(session).substr(i, 1));
    CHECK(state == (i + 1 == session.size() ? State::kTransmission : State::kNegotiating));
  }
  CHECK(single.said == whole.said);
}

}  // namespace
}  // namespace blobcache::blockdev
