#include "blockdev/impl/meta_contexts.h"

#include <doctest/doctest.h>

#include <string>
#include <utility>
#include <vector>

#include "blockdev/impl/block_status.h"
#include "test/blockdev/handshake_driver.h"
#include "test/blockdev/raw_client.h"

namespace blobcache::blockdev {
namespace {

using State = Handshake::State;

constexpr uint32_t kList = 9;
constexpr uint32_t kSet = 10;

std::string context(uint32_t number, uint32_t id, std::string_view name) {
  return reply(number, 4, be32(id) + std::string(name));
}

/// A handshake with structured replies.
Driver negotiating() {
  Driver driver;
  REQUIRE(driver.feed(be32(3) + option(8, "")) == State::kNegotiating);
  driver.said.clear();
  return driver;
}

/// What one option is answered.
std::string answer(Driver& driver, uint32_t number, std::string_view name,
                   const std::vector<std::string>& queries) {
  driver.said.clear();
  REQUIRE(driver.feed(option(number, meta_request(name, queries))) == State::kNegotiating);
  return driver.said;
}

TEST_CASE("meta contexts: a list has what queries find, each once") {
  Driver driver = negotiating();
  const std::string allocation = context(kList, 0, "base:allocation");
  const std::string tier = context(kList, 0, "blobcache:tier");
  const std::string end = reply(kList, 1);
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, allocation + tier + end},
      {{"base:"}, allocation + end},
      {{"blobcache:"}, tier + end},
      {{"blobcache:", "base:", "base:allocation"}, allocation + tier + end},
      {{"base:allocation"}, allocation + end},
      {{"blobcache:tier", "blobcache:tier"}, tier + end},
      {{"base:alloc", "base:allocations", "base::", "x-other:", "qemu:dirty-bitmap:b"}, end},
      {{"Base:allocation"}, end},
  };
  for (const auto& [queries, expected] : cases) {
    CHECK(answer(driver, kList, "files/a", queries) == expected);
  }
}

TEST_CASE("meta contexts: what is set is numbered, and holds for the export that is opened") {
  Driver driver = negotiating();
  CHECK(answer(driver, kSet, "files/a", {"blobcache:tier", "base:allocation", "base:unknown"}) ==
        context(kSet, 1, "base:allocation") + context(kSet, 2, "blobcache:tier") + reply(kSet, 1));
  REQUIRE(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
  CHECK(driver.handshake.meta_contexts().allocation);
  CHECK(driver.handshake.meta_contexts().tier);
}

TEST_CASE("meta contexts: wildcards and no queries select nothing") {
  for (const std::vector<std::string>& queries :
       {std::vector<std::string>{}, {"base:"}, {"blobcache:"}, {"base:", "blobcache:"}}) {
    Driver driver = negotiating();
    CHECK(answer(driver, kSet, "files/a", queries) == reply(kSet, 1));
    REQUIRE(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
    CHECK(driver.handshake.meta_contexts().empty());
  }
}

TEST_CASE("meta contexts: the default export and its name are one export") {
  Driver driver = negotiating();
  (void)answer(driver, kSet, "", {"base:allocation"});
  REQUIRE(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
  CHECK(driver.handshake.meta_contexts().allocation);
  CHECK_FALSE(driver.handshake.meta_contexts().tier);
}

TEST_CASE("meta contexts: those of another export are void") {
  Driver driver = negotiating();
  (void)answer(driver, kSet, "files/w", {"base:allocation"});
  REQUIRE(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
  CHECK(driver.handshake.meta_contexts().empty());
}

TEST_CASE("meta contexts: EXPORT_NAME keeps them") {
  Driver driver = negotiating();
  (void)answer(driver, kSet, "files/a", {"base:allocation"});
  REQUIRE(driver.feed(option(1, "files/a")) == State::kTransmission);
  CHECK(driver.handshake.meta_contexts().allocation);
}

TEST_CASE("meta contexts: the last choice counts, also one that fails") {
  const std::vector<std::pair<std::string, uint32_t>> failing = {
      {meta_request("files/nope", {"base:allocation"}), kUnknown},
      {meta_request("files/a", {"base:allocation", "nocolon"}), kInvalid},
      {meta_request("files/a", {":leaf"}), kInvalid},
      {meta_request("files/a", {"base:" + std::string(4096, 'x')}), kInvalid},
      {meta_request(std::string(4097, 'n'), {"base:allocation"}), kInvalid},
      {"", kInvalid},
      {be32(0) + be32(3) + be32(1) + "x", kInvalid},
      {meta_request("files/a", {"base:allocation"}) + "x", kInvalid},
  };
  for (const auto& [data, error] : failing) {
    Driver driver = negotiating();
    (void)answer(driver, kSet, "files/a", {"base:allocation"});
    driver.said.clear();
    REQUIRE(driver.feed(option(kSet, data)) == State::kNegotiating);
    CHECK(driver.said_type() == error);
    REQUIRE(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
    CHECK(driver.handshake.meta_contexts().empty());
    // The same in a list, which changes nothing.
    Driver other = negotiating();
    (void)answer(other, kSet, "files/a", {"base:allocation"});
    other.said.clear();
    REQUIRE(other.feed(option(kList, data)) == State::kNegotiating);
    CHECK(other.said_type() == error);
    REQUIRE(other.feed(option(7, info_request("files/a"))) == State::kTransmission);
    CHECK(other.handshake.meta_contexts().allocation);
  }
}

TEST_CASE("meta contexts: replies in chunks come first; TLS makes it all void") {
  for (const uint32_t number : {kList, kSet}) {
    Driver driver;
    CHECK(driver.feed(be32(3) + option(number, meta_request("files/a", {"base:allocation"}))) ==
          State::kNegotiating);
    CHECK(driver.said_type() == kInvalid);
  }
  Driver extended;
  CHECK(extended.feed(be32(3) + option(11, "")) == State::kNegotiating);
  CHECK(answer(extended, kSet, "files/a", {"base:allocation"}) ==
        context(kSet, 1, "base:allocation") + reply(kSet, 1));

  Driver driver(TlsMode::kAllow);
  REQUIRE(driver.feed(be32(3) + option(11, "")) == State::kNegotiating);
  (void)answer(driver, kSet, "files/a", {"base:allocation"});
  REQUIRE(driver.feed(option(5, "")) == State::kStartTls);
  driver.handshake.tls_started();
  CHECK(driver.handshake.style() == nbd::HeaderStyle::kSimple);
  REQUIRE(driver.feed(option(7, info_request("files/a"))) == State::kTransmission);
  CHECK(driver.handshake.meta_contexts().empty());
}

TEST_CASE("block status: what the contexts say of each place") {
  using page::Place;
  const std::vector<page::MapRun> runs = {{1, Place::kMemory},
                                          {2, Place::kDisk},
                                          {4, Place::kZero},
                                          {8, Place::kRemote},
                                          {16, Place::kLost}};
  using Runs = std::vector<nbd::StatusRun>;
  CHECK(status_runs(MetaContext::kAllocation, runs, false) == Runs{{3, 0}, {4, 3}, {24, 0}});
  CHECK(status_runs(MetaContext::kTier, runs, false) ==
        Runs{{1, 0}, {2, 1}, {4, 3}, {8, 2}, {16, 4}});
  CHECK(status_runs(MetaContext::kAllocation, runs, true) == Runs{{3, 0}});
  CHECK(status_runs(MetaContext::kTier, runs, true) == Runs{{1, 0}});
}

}  // namespace
}  // namespace blobcache::blockdev
