#include "blockdev/impl/nbd_handshake.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>

#include "test/blockdev/raw_client.h"

namespace blobcache::blockdev {
namespace {

using State = Handshake::State;

constexpr uint32_t kUnsup = 0x80000001;
constexpr uint32_t kInvalid = 0x80000003;
constexpr uint32_t kUnknown = 0x80000006;
constexpr uint32_t kTooBig = 0x80000009;

/// An object that only has a size.
class SizedObject : public page::Object {
 public:
  const page::ObjectKey& key() const override { return key_; }
  uint64_t size_bytes() const override { return 0x123456; }
  bool try_read(uint64_t, uint64_t, page::PinnedRange&) override { return false; }
  page::PendingRead read(uint64_t, uint64_t, ReadDone done) override {
    done(absl::UnavailableError("only a size"));
    return {};
  }
  absl::StatusOr<page::Residency> residency() override { return page::Residency{}; }

 private:
  page::ObjectKey key_;
};

class Directory : public ExportDirectory {
 public:
  absl::StatusOr<OpenExport> open(std::string_view name) override {
    if (name.empty()) name = "files/a";
    if (name != "files/a") return absl::NotFoundError("no");
    return OpenExport{std::string(name), std::make_shared<SizedObject>()};
  }
  absl::StatusOr<std::vector<Export>> list(size_t limit) override {
    listed_with = limit;
    return std::vector<Export>{{"files/a", 1}, {"files/b", 2}};
  }
  size_t listed_with = 0;
};

std::string option(uint32_t number, std::string_view data) {
  return "IHAVEOPT" + be32(number) + be32(static_cast<uint32_t>(data.size())) + std::string(data);
}

std::string reply(uint32_t number, uint32_t type, std::string_view data = {}) {
  return be64(0x3e889045565a9) + be32(number) + be32(type) +
         be32(static_cast<uint32_t>(data.size())) + std::string(data);
}

/// Feeds a handshake and remembers what it said.
struct Driver {
  Directory directory;
  Handshake handshake{directory};
  std::string said;

  State feed(std::string_view text) {
    nbd::Bytes bytes{reinterpret_cast<const std::byte*>(text.data()), text.size()};
    State state = State::kNegotiating;
    size_t before = 0;
    do {
      before = bytes.size();
      state = handshake.advance(bytes, said);
    } while (state == State::kNegotiating && bytes.size() < before);
    left = bytes.size();
    return state;
  }
  /// The error type of the last option reply.
  [[nodiscard]] uint32_t said_type() const {
    REQUIRE(said.size() >= 20);
    uint32_t type = 0;
    for (size_t i = 12; i < 16; ++i) type = type << 8 | static_cast<uint8_t>(said[i]);
    return type;
  }
  size_t left = 0;
};

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
      reply(7, 3, be16(2) + "1.1 MiB, read-only") +
      reply(7, 3, be16(3) + be32(1) + be32(4096) + be32(32U << 20)) + reply(7, 1);
  CHECK(driver.said == expected);
  CHECK(driver.handshake.chosen().name == "files/a");
  CHECK_FALSE(driver.handshake.structured_replies());
}

TEST_CASE("nbd handshake: INFO tells the same and goes on") {
  Driver driver;
  CHECK(driver.feed(be32(3) + option(6, info_request(""))) == State::kNegotiating);
  CHECK(driver.said == reply(6, 3, be16(0) + be64(0x123456) + be16(0x507)) + reply(6, 1));
  driver.said.clear();
  CHECK(driver.feed(option(7, info_request(""))) == State::kTransmission);
}

TEST_CASE("nbd handshake: structured replies bring the don't-fragment flag") {
  Driver driver;
  CHECK(driver.feed(be32(1) + option(8, "")) == State::kNegotiating);
  CHECK(driver.said == reply(8, 1));
  driver.said.clear();
  CHECK(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
  CHECK(driver.said == reply(7, 3, be16(0) + be64(0x123456) + be16(0x587)) + reply(7, 1));
  CHECK(driver.handshake.structured_replies());
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
  // STARTTLS, the meta contexts, EXTENDED_HEADERS, the withdrawn PEEK_EXPORT and one from the
  // future.
  for (const uint32_t number : {5U, 9U, 10U, 11U, 4U, 12345U}) {
    Driver driver;
    CHECK(driver.feed(be32(3) + option(number, std::string(1000, 'x'))) == State::kNegotiating);
    CHECK(driver.said_type() == kUnsup);
    driver.said.clear();
    CHECK(driver.feed(option(8, "")) == State::kNegotiating);
    CHECK(driver.said == reply(8, 1));
  }
}

TEST_CASE("nbd handshake: options whose data is malformed are invalid, and it goes on") {
  const std::vector<std::pair<uint32_t, std::string>> malformed = {
      {3, "x"},
      {8, "x"},
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
