#include "blockdev/nbd_server.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "store/page/geometry.h"
#include "store/page/page_store.h"
#include "store/tree/namespace.h"
#include "test/blockdev/raw_client.h"
#include "test/blockdev/test_export.h"
#include "test/eventually.h"

namespace blobcache::blockdev {
namespace {

/// A daemon's worth of it: a store, a tree with three files, and a server on a unix socket.
class TestServer {
 public:
  explicit TestServer(NbdServerOptions options = {}) {
    page::PageStoreOptions store_options;
    store_options.path = dir_.path();
    store_options.memory_bytes = uint64_t{16} << 20;
    auto store = page::PageStore::open(store_options);
    REQUIRE(store.ok());
    store_ = *std::move(store);
    tree::NamespaceOptions names_options;
    names_options.path = dir_.path();
    auto names = tree::Namespace::open(names_options, *store_);
    REQUIRE(names.ok());
    names_ = *std::move(names);
    put("files/images/a.img", 100'000);
    put("files/images/old/b.img", 5000);
    put("files/readme", 10);
    socket_ = (dir_.path() / "nbd.sock").string();
    options.listen.push_back(*base::parse_listen_address("unix:" + socket_));
    auto server = NbdServer::start(options, *names_);
    REQUIRE(server.ok());
    server_ = *std::move(server);
  }

  [[nodiscard]] NbdServer& server() { return *server_; }
  [[nodiscard]] tree::Namespace& names() { return *names_; }
  [[nodiscard]] page::PageStore& store() { return *store_; }
  [[nodiscard]] RawClient connect() const { return RawClient::connect(socket_); }
  [[nodiscard]] const std::string& socket() const { return socket_; }
  void put(const std::string& path, uint64_t size) {
    auto put = names_->put(path, {}, size);
    REQUIRE(put.ok());
    const std::string bytes = pattern(0, size);
    REQUIRE((*put)->append({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()}).ok());
    REQUIRE((*put)->commit().ok());
  }

 private:
  TempDir dir_;
  std::unique_ptr<page::PageStore> store_;
  std::unique_ptr<tree::Namespace> names_;
  std::unique_ptr<NbdServer> server_;
  std::string socket_;
};

std::vector<std::string> names_of(const std::vector<Export>& exports) {
  std::vector<std::string> names;
  for (const Export& item : exports) names.push_back(item.name);
  std::sort(names.begin(), names.end());
  return names;
}

TEST_CASE("nbd server: the export's name is the path, with or without a leading slash") {
  TestServer test;
  for (const char* name : {"files/images/a.img", "/files/images/a.img"}) {
    RawClient client = test.connect();
    CHECK(client.open(name, true) == 100'000);
    client.send_request(0, 1, 99'000, 1000);
    CHECK(client.receive_reply().data == pattern(99'000, 1000));
  }
  for (const char* name : {"", "files", "files/nope", "files//readme", "files/../files/readme",
                           "files/readme/x", "/", "blobs/12"}) {
    RawClient client = test.connect();
    client.greet();
    CHECK(client.ask(7, info_request(name)).back().type == 0x80000006);
  }
}

TEST_CASE("nbd server: exports lists files, then blobs, and LIST says the same") {
  TestServer test;
  const std::vector<Export> all = test.server().exports(100).value().exports;
  REQUIRE(all.size() == 6);
  CHECK(names_of({all.begin(), all.begin() + 3}) ==
        std::vector<std::string>{"files/images/a.img", "files/images/old/b.img", "files/readme"});
  for (size_t i = 3; i < 6; ++i) CHECK(all[i].name.starts_with("blobs/"));
  CHECK(test.server().exports(2).value().exports.size() == 2);

  RawClient client = test.connect();
  client.greet();
  const auto replies = client.ask(3, {});
  REQUIRE(replies.size() == 7);
  for (size_t i = 0; i < 6; ++i) CHECK(replies[i].data.substr(4) == all[i].name);
}

TEST_CASE("nbd server: the allow-list hides what it does not admit") {
  NbdServerOptions options;
  options.exports = {"files/images/*"};
  options.default_export = "files/images/a.img";
  TestServer test(options);
  const auto listed = test.server().exports(100);
  REQUIRE(listed.ok());
  CHECK(names_of(listed->exports) == std::vector<std::string>{"files/images/a.img"});
  CHECK(test.connect().open("", true) == 100'000);
  for (const char* hidden : {"files/readme", "/files/readme", "files/images/old/b.img"}) {
    RawClient client = test.connect();
    client.greet();
    CHECK(client.ask(7, info_request(hidden)).back().type == 0x80000006);
  }
}

TEST_CASE("nbd server: a bad pattern and a socket in use are refused at the start") {
  TestServer test;
  NbdServerOptions options;
  options.exports = {"/files"};
  CHECK(absl::IsInvalidArgument(NbdServer::start(options, test.names()).status()));
  options.exports = {"**"};
  options.listen.push_back(*base::parse_listen_address("unix:" + test.socket()));
  CHECK_FALSE(NbdServer::start(options, test.names()).ok());
  CHECK(test.connect().open("files/readme", true) == 10);  // the first one is unharmed
}

TEST_CASE("nbd server: connections over the limit are closed, and room comes back") {
  NbdServerOptions options;
  options.max_connections = 2;
  TestServer test(options);
  RawClient first = test.connect();
  first.open("files/readme", true);
  {
    RawClient second = test.connect();
    second.open("files/readme", true);
    CHECK(test.server().stats().open == 2);
    RawClient third = test.connect();
    CHECK(third.at_end());
    second.send_request(2, 0, 0, 0);
    CHECK(second.at_end());
  }
  REQUIRE(test::eventually([&] { return test.server().stats().open == 1; }));
  RawClient fourth = test.connect();
  CHECK(fourth.open("files/readme", true) == 10);
  first.send_request(0, 1, 0, 10);
  CHECK(first.receive_reply().data == pattern(0, 10));
}

TEST_CASE("nbd server: clients that go with replies on their way leave nothing pinned") {
  NbdServerOptions options;
  // Nothing is let go by these.
  options.stall_copy = absl::Hours(1);
  options.stall_cut = absl::Hours(1);
  TestServer test(options);
  constexpr uint32_t kPiece = uint32_t{1} << 20;
  constexpr uint64_t kPieces = 8;
  test.put("files/large", kPieces * kPiece);
  const auto pinned = [&] { return test.store().stats().memory_pinned_frames; };
  const bool structured = true;
  for (int round = 0; round < 3; ++round) {
    RawClient stays = test.connect();
    stays.open("files/readme", structured);
    {
      RawClient goes = test.connect();
      goes.open("files/large", structured);
      for (uint64_t i = 0; i < kPieces; ++i) goes.send_request(0, i, i * kPiece, kPiece);
      // The socket takes less than one piece; some go before all are read from disk.
      REQUIRE(test::eventually([&] { return pinned() > kPiece / page::kExtentSize; }));
      if (round == 1) goes.shut_down_sending();
      if (round == 2) CHECK(goes.receive(kPiece).size() == kPiece);
    }
    CHECK(test::eventually([&] { return pinned() == 0 && test.server().stats().open == 1; }));
    stays.send_request(0, 1, 0, 10);
    CHECK(stays.receive_reply().data == pattern(0, 10));
    stays.send_request(2, 0, 0, 0);
    REQUIRE(stays.at_end());
    REQUIRE(test::eventually([&] { return test.server().stats().open == 0; }));
  }
}

TEST_CASE("nbd server: TCP works and tells its port") {
  TestServer test;
  NbdServerOptions options;
  options.listen.push_back(*base::parse_listen_address("tcp:127.0.0.1:0"));
  auto server = NbdServer::start(options, test.names());
  REQUIRE(server.ok());
  REQUIRE((*server)->addresses().size() == 1);
  CHECK((*server)->addresses()[0].port != 0);
  RawClient client = RawClient::connect_tcp((*server)->addresses()[0].port);
  CHECK(client.open("files/readme", false) == 10);
  client.send_request(0, 1, 0, 10);
  CHECK(client.receive_reply(10).data == pattern(0, 10));
}

TEST_CASE("nbd server: strangers from the network leave room for others") {
  NbdServerOptions options;
  options.max_connections = 6;
  options.listen.push_back(*base::parse_listen_address("tcp:127.0.0.1:0"));
  TestServer test(options);
  const uint16_t port = test.server().addresses().at(0).port;
  std::vector<RawClient> strangers;
  for (int i = 0; i < 3; ++i) {
    strangers.push_back(RawClient::connect_tcp(port));
    REQUIRE(test::eventually([&] { return test.server().stats().open == strangers.size(); }));
  }
  CHECK(RawClient::connect_tcp(port).at_end());
  RawClient local = test.connect();
  CHECK(local.open("files/readme", true) == 10);
  // Who has agreed on something is no stranger, and leaves the place to the next one.
  CHECK(strangers[0].open("files/readme", true) == 10);
  REQUIRE(test::eventually([&] {
    RawClient next = RawClient::connect_tcp(port);
    return !next.receive(1).empty();
  }));
}

TEST_CASE("nbd server: stop ends connections, removes the socket and may be repeated") {
  TestServer test;
  RawClient idle = test.connect();
  idle.open("files/readme", true);
  RawClient negotiating = test.connect();
  negotiating.greet();
  CHECK(std::filesystem::exists(test.socket()));
  test.server().stop();
  CHECK(idle.at_end());
  CHECK(negotiating.at_end());
  CHECK_FALSE(std::filesystem::exists(test.socket()));
  CHECK(test.server().stats().open == 0);
  test.server().stop();
}

TEST_CASE("nbd server: an open export stays readable when its name and blob are removed") {
  TestServer test;
  RawClient client = test.connect();
  client.open("files/images/a.img", true);
  const auto node = test.names().resolve("files/images/a.img");
  REQUIRE(node.ok());
  REQUIRE(node->digest);
  REQUIRE(test.names().remove("files/images/a.img").ok());
  REQUIRE(test.names().remove("blobs/" + node->digest->hex()).ok());
  client.send_request(0, 1, 50'000, 5000);
  CHECK(client.receive_reply().data == pattern(50'000, 5000));
}

}  // namespace
}  // namespace blobcache::blockdev
