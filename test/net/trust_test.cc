// Who may call: tokens and certificates over TCP, users over unix sockets.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <grp.h>
#include <grpcpp/create_channel_posix.h>
#include <grpcpp/grpcpp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "base/unique_fd.h"
#include "blobcache.grpc.pb.h"
#include "test/net/fixture.h"

namespace blobcache::net {
namespace {

/// An Admin service that knows only its version.
class FakeAdmin final : public v1::Admin::Service {
 public:
  grpc::Status Status(grpc::ServerContext* /*context*/, const v1::StatusRequest* /*request*/,
                      v1::StatusResponse* response) override {
    response->set_version("fake");
    return grpc::Status::OK;
  }
};

grpc::Status ask_admin(const std::shared_ptr<grpc::ChannelInterface>& channel,
                       const std::string& token = "") {
  grpc::ClientContext context;
  if (!token.empty()) context.AddMetadata("authorization", "Bearer " + token);
  v1::StatusResponse response;
  const grpc::Status status =
      v1::Admin::NewStub(channel)->Status(&context, v1::StatusRequest(), &response);
  if (status.ok()) CHECK(response.version() == "fake");
  return status;
}

void write_file(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path) << text;
  REQUIRE(chmod(path.c_str(), 0600) == 0);
}

TEST_CASE("a token guards every method on TCP and none on a unix socket") {
  const TempDir dir;
  write_file(dir.path() / "token", "right\n");
  FakeAdmin admin;
  RpcServerOptions options;
  options.listen = {Fixture::tcp_address(),
                    {base::ListenAddress::Kind::kUnix, (dir.path() / "s").string(), "", 0}};
  options.token_file = (dir.path() / "token").string();
  const Fixture fixture(options, {{&admin}, {&admin}});
  const Bytes content = random_bytes(100, 1);

  for (const std::string token : {"", "wrong", "righ", "right2"}) {
    CAPTURE(token);
    RpcClientOptions client_options;
    client_options.token = token;
    const auto client = fixture.client(client_options);
    CHECK(put(*client, "files/x", content).status().code() == absl::StatusCode::kUnauthenticated);
    CHECK(get(*client, "files/x").status().code() == absl::StatusCode::kUnauthenticated);
    const grpc::Status status = ask_admin(client->channel(), token);
    CHECK(status.error_code() == grpc::StatusCode::UNAUTHENTICATED);
    CHECK(status.error_message().find("token") != std::string::npos);
    CHECK(status.error_message().find("right") == std::string::npos);
  }
  CHECK(fixture.blobs() == 0);

  RpcClientOptions client_options;
  client_options.token = "right";
  const auto client = fixture.client(client_options);
  CHECK(put(*client, "files/x", content).ok());
  CHECK((value_of(get(*client, "files/x")) == content));
  CHECK(ask_admin(client->channel(), "right").ok());

  client_options.token = "";
  client_options.endpoint = fixture.server->addresses()[1];
  const auto local = value_of(RpcClient::connect(client_options));
  CHECK((value_of(get(*local, "files/x")) == content));
  CHECK(ask_admin(local->channel()).ok());
}

TEST_CASE("a TCP listener that asks for nothing serves Data, makes new names only, and no Admin") {
  FakeAdmin admin;
  const TempDir dir;
  RpcServerOptions options;
  options.listen = {Fixture::tcp_address(),
                    {base::ListenAddress::Kind::kUnix, (dir.path() / "s").string(), "", 0}};
  const Fixture fixture(options, {{&admin}, {&admin}});
  const Bytes content = random_bytes(100, 1);

  const auto stranger = fixture.client();
  const grpc::Status status = ask_admin(stranger->channel());
  CHECK(status.error_code() == grpc::StatusCode::PERMISSION_DENIED);
  CHECK(status.error_message() ==
        "/blobcache.v1.Admin/Status is refused on a TCP listener that asks for neither a token nor "
        "a client certificate; use the unix socket, or configure grpc.token_file or "
        "grpc.tls_client_ca");
  CHECK(put(*stranger, "files/x", content).ok());
  CHECK((value_of(get(*stranger, "files/x")) == content));

  RpcClientOptions client_options;
  client_options.endpoint = fixture.server->addresses()[1];
  const auto owner = value_of(RpcClient::connect(client_options));
  CHECK(ask_admin(owner->channel()).ok());
  // The daemon's own user made both, and a stranger is not he.
  CHECK(put(*owner, "files/y", content).ok());
  for (const char* name : {"files/x", "files/y"}) {
    CHECK(put(*stranger, name, random_bytes(100, 2)).status().code() ==
          absl::StatusCode::kPermissionDenied);
    CHECK((value_of(get(*owner, name)) == content));
  }
  CHECK(put(*owner, "files/x", random_bytes(100, 2)).ok());
}

TEST_CASE("a token file that cannot be used stops the start") {
  const TempDir dir;
  const Store store;
  RpcServerOptions options;
  options.listen = {Fixture::tcp_address()};
  options.token_file = (dir.path() / "none").string();
  const absl::Status status = RpcServer::start(options, *store.names, {}).status();
  CHECK(status.code() == absl::StatusCode::kNotFound);
  CHECK(base::message(status).find(options.token_file) != std::string_view::npos);
}

/// A certificate authority in a directory, made with the openssl command.
class Authority {
 public:
  Authority() {
    run("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-ca -keyout ca.key -out ca.pem");
    for (const std::string name : {"server", "client"}) {
      run(fmt::format("req -newkey rsa:2048 -nodes -subj /CN={0} -keyout {0}.key -out {0}.csr",
                      name));
      std::ofstream(dir_.path() / "ext") << "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
      run(
          fmt::format("x509 -req -in {0}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
                      "-extfile ext -out {0}.pem",
                      name));
    }
    run("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=stranger -keyout stranger.key -out "
        "stranger.pem");
  }
  [[nodiscard]] std::string file(const char* name) const { return (dir_.path() / name).string(); }
  [[nodiscard]] static bool available() {
    return std::system("openssl version > /dev/null 2>&1") == 0;
  }

 private:
  void run(const std::string& arguments) {
    const std::string command =
        fmt::format("cd {} && openssl {} > /dev/null 2>&1", dir_.path().string(), arguments);
    REQUIRE(std::system(command.c_str()) == 0);
  }
  TempDir dir_;
};

TEST_CASE("TLS") {
  if (!Authority::available()) {
    MESSAGE("skipped: there is no openssl command to make certificates with");
    return;
  }
  const Authority authority;
  RpcServerOptions options;
  options.listen = {Fixture::tcp_address()};
  options.tls_certificate = authority.file("server.pem");
  options.tls_key = authority.file("server.key");

  RpcClientOptions anonymous;
  anonymous.tls_ca = authority.file("ca.pem");
  RpcClientOptions known = anonymous;
  known.tls_certificate = authority.file("client.pem");
  known.tls_key = authority.file("client.key");
  const Bytes content = random_bytes(2'500'000, 1);

  SUBCASE("the server shows its certificate") {
    FakeAdmin admin;
    const Fixture fixture(options, {{&admin}, {&admin}});
    const auto client = fixture.client(anonymous);
    CHECK(put(*client, "files/x", content).ok());
    CHECK((value_of(get(*client, "files/x")) == content));
    // Which tells nothing of who the client is.
    CHECK(ask_admin(client->channel()).error_code() == grpc::StatusCode::PERMISSION_DENIED);

    RpcClientOptions other = anonymous;
    other.tls_ca = authority.file("stranger.pem");
    other.endpoint = fixture.server->addresses().front();
    const auto refusal = [&] {
      const absl::Status status = RpcClient::connect(other).status();
      CHECK(status.code() == absl::StatusCode::kUnavailable);
      const std::string text(base::message(status));
      const std::string prefix = fmt::format("cannot reach {}: ", other.endpoint.to_string());
      REQUIRE(text.starts_with(prefix));
      return text.substr(prefix.size());
    };
    CHECK(refusal() == "the TLS handshake failed: certificate verify failed");
    other.tls_ca = "";
    CHECK(refusal() == "what listens there does not speak gRPC without TLS");
  }
  SUBCASE("both show theirs") {
    options.tls_client_ca = authority.file("ca.pem");
    FakeAdmin admin;
    const Fixture fixture(options, {{&admin}, {&admin}});
    const auto client = fixture.client(known);
    CHECK(put(*client, "files/x", content).ok());
    CHECK(ask_admin(client->channel()).ok());

    RpcClientOptions stranger = anonymous;
    stranger.endpoint = fixture.server->addresses().front();
    for (const bool with_certificate : {false, true}) {
      CAPTURE(with_certificate);
      if (with_certificate) {
        stranger.tls_certificate = authority.file("stranger.pem");
        stranger.tls_key = authority.file("stranger.key");
      }
      // TLS 1.3 lets a client believe that it is connected until the first answer.
      const absl::Status refused = RpcClient::connect(stranger).status();
      CHECK(refused.code() == absl::StatusCode::kUnavailable);
      CHECK(base::message(refused) ==
            fmt::format("cannot reach {}: {}", stranger.endpoint.to_string(),
                        with_certificate ? "the TLS handshake failed: the server hung up; it may "
                                           "not accept our certificate"
                                         : "the TLS handshake failed: the server hung up; it may "
                                           "want a client certificate"));
    }
  }
  SUBCASE("TLS and a token") {
    const TempDir dir;
    write_file(dir.path() / "token", "t0ken");
    options.token_file = (dir.path() / "token").string();
    const Fixture fixture(options);
    CHECK(put(*fixture.client(anonymous), "files/x", content).status().code() ==
          absl::StatusCode::kUnauthenticated);
    anonymous.token = "t0ken";
    CHECK(put(*fixture.client(anonymous), "files/x", content).ok());
  }
  SUBCASE("files that do not fit") {
    const Store store;
    const auto fails_with = [&](absl::StatusCode code, const char* why) {
      const absl::Status status = RpcServer::start(options, *store.names, {}).status();
      CAPTURE(status.ToString());
      CHECK(status.code() == code);
      CHECK(base::message(status).find(why) != std::string_view::npos);
    };
    options.tls_key = authority.file("client.key");
    fails_with(absl::StatusCode::kInvalidArgument, "not the certificate's");
    options.tls_key = authority.file("server.pem");
    fails_with(absl::StatusCode::kInvalidArgument, "not a PEM private key");
    options.tls_key = "";
    fails_with(absl::StatusCode::kInvalidArgument, "go together");
    options.tls_key = authority.file("nothing");
    fails_with(absl::StatusCode::kNotFound, "nothing");
  }
}

TEST_CASE("a client with TLS of a server without it") {
  if (!Authority::available()) return;
  const Authority authority;
  RpcServerOptions options;
  options.listen = {Fixture::tcp_address()};
  const Fixture fixture(options);
  RpcClientOptions client;
  client.tls_ca = authority.file("ca.pem");
  client.endpoint = fixture.server->addresses().front();
  const absl::Status status = RpcClient::connect(client).status();
  CAPTURE(status.ToString());
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(base::message(status).find(": the TLS handshake failed: ") != std::string_view::npos);
  CHECK(base::message(status).find("last error") == std::string_view::npos);
}

/// A connection made as another user. Linux keeps credentials by thread; a thread of its own takes
/// them on.
base::UniqueFd connect_as(uid_t uid, gid_t gid, const std::vector<gid_t>& groups,
                          const base::ListenAddress& address) {
  base::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  bool connected = false;
  std::thread([&] {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    address.path.copy(name.sun_path, sizeof(name.sun_path) - 1);
    connected = syscall(SYS_setgroups, groups.size(), groups.data()) == 0 &&
                syscall(SYS_setresgid, gid, gid, gid) == 0 &&
                syscall(SYS_setresuid, uid, uid, uid) == 0 &&
                connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) == 0;
  }).join();
  REQUIRE(connected);
  return fd;
}

struct AdminHolder {
  FakeAdmin admin;
};

/// The admin service first: the server begins later and ends earlier.
struct Users : AdminHolder, Fixture {
  explicit Users(const RpcServerOptions& options = {}) : Users(options, {{&admin}, {&admin}}) {}
  Users(const RpcServerOptions& options, const RpcServices& services) : Fixture(options, services) {
    // The test stands in for the operator who lets everybody in.
    REQUIRE(chmod(sockets.path().c_str(), 0755) == 0);
    REQUIRE(chmod(server->addresses().front().path.c_str(), 0666) == 0);
  }

  std::shared_ptr<grpc::Channel> channel(uid_t uid, gid_t gid,
                                         const std::vector<gid_t>& groups = {}) {
    base::UniqueFd fd = connect_as(uid, gid, groups, server->addresses().front());
    return grpc::CreateInsecureChannelFromFd("user", fd.release());
  }

  /// Puts an empty file.
  grpc::Status try_put_as(const std::shared_ptr<grpc::Channel>& user, const std::string& name) {
    grpc::ClientContext context;
    v1::PutResponse response;
    const auto stream = v1::Data::NewStub(user)->Put(&context, &response);
    v1::PutRequest request;
    request.mutable_header()->set_name(name);
    // A put that is refused ends before its last message.
    bool more = stream->Write(request);
    request.mutable_finish()->set_size(0);
    more = more && stream->Write(request);
    if (more) stream->WritesDone();
    return stream->Finish();
  }

  /// The same, and returns its node.
  tree::Node put_as(const std::shared_ptr<grpc::Channel>& user, const std::string& name) {
    const grpc::Status status = try_put_as(user, name);
    CAPTURE(status.error_message());
    REQUIRE(status.ok());
    return value_of(store.names->resolve(name));
  }
};

bool is_root() {
  if (geteuid() == 0) return true;
  MESSAGE("skipped: only root can become other users");
  return false;
}

TEST_CASE("on a unix socket everybody may call Data, and only some Admin") {
  if (!is_root()) return;
  RpcServerOptions options;
  options.admin_group = gid_t{4242};
  Users users(options);
  const auto denied = [](const grpc::Status& status) {
    CAPTURE(status.error_message());
    CHECK(status.error_code() == grpc::StatusCode::PERMISSION_DENIED);
    CHECK(status.error_message().find("needs root") != std::string::npos);
  };
  const auto nobody = users.channel(65534, 65534);
  denied(ask_admin(nobody));
  const tree::Node node = users.put_as(nobody, "files/of-nobody");
  CHECK(node.uid == 65534);
  CHECK(node.gid == 65534);
  denied(ask_admin(users.channel(65534, 65534, {4241, 4243})));
  CHECK(ask_admin(users.channel(65534, 4242)).ok());
  CHECK(ask_admin(users.channel(65534, 65534, {7, 4242})).ok());
  CHECK(ask_admin(users.channel(0, 0)).ok());
  CHECK(users.put_as(users.channel(0, 0), "files/of-root").uid == 0);
  denied(ask_admin(nobody));  // still, after others came
}

TEST_CASE("owners of the daemon have services of their own, which other administrators do not") {
  if (!is_root()) return;
  RpcServerOptions options;
  options.admin_group = gid_t{4242};
  FakeAdmin owned;
  const auto answers = [&](const RpcServices& services, uid_t uid, gid_t gid) {
    Users some(options, services);
    // Many others first, who have all places of their own.
    for (uid_t i = 0; i < 40; ++i)
      some.put_as(some.channel(50'000 + i, 50'000), fmt::format("files/{}", i));
    return ask_admin(some.channel(uid, gid)).ok();
  };
  for (const auto& [uid, gid] : {std::pair<uid_t, gid_t>{0, 0}, {0, 7}}) {
    CHECK(answers({{}, {&owned}}, uid, gid));
    CHECK_FALSE(answers({{&owned}, {}}, uid, gid));
  }
  CHECK(answers({{&owned}, {}}, 60'000, 4242));
  CHECK_FALSE(answers({{}, {&owned}}, 60'000, 4242));
}

TEST_CASE("on a unix socket a name is replaced by its owner and by administrators alone") {
  if (!is_root()) return;
  RpcServerOptions options;
  options.admin_group = gid_t{4242};
  Users users(options);
  const auto alice = users.channel(50'001, 50'000);
  const auto bob = users.channel(50'002, 50'000);
  users.put_as(alice, "files/d/x");
  const grpc::Status denied = users.try_put_as(bob, "files/d/x");
  CHECK(denied.error_code() == grpc::StatusCode::PERMISSION_DENIED);
  CHECK(denied.error_message() ==
        "files/d/x: belongs to uid 50001; only its owner or an administrator may replace it");
  CHECK(value_of(users.store.names->resolve("files/d/x")).uid == 50'001);
  CHECK(users.put_as(alice, "files/d/x").uid == 50'001);
  CHECK(users.put_as(bob, "files/d/y").uid == 50'002);
  CHECK(users.put_as(users.channel(50'003, 4242), "files/d/x").uid == 50'003);
  CHECK(users.put_as(users.channel(0, 0), "files/d/y").uid == 0);
  CHECK_FALSE(users.try_put_as(bob, "files/d/y").ok());
}

TEST_CASE("users beyond the number that are kept apart are served and trusted no more") {
  if (!is_root()) return;
  Users users;
  for (uid_t i = 0; i < 40; ++i) {
    const auto channel = users.channel(50'000 + i, 50'000);
    const tree::Node node = users.put_as(channel, fmt::format("files/u/{}", i));
    CHECK(ask_admin(channel).error_code() == grpc::StatusCode::PERMISSION_DENIED);
    // The daemon's own user has one place of the 32.
    CHECK(node.uid == (i < 31 ? 50'000 + i : geteuid()));
  }
  CHECK(users.put_as(users.channel(50'003, 50'000), "files/again").uid == 50'003);
  // They own nothing, not even what belongs to the daemon's user for their sake.
  const auto last = users.channel(50'039, 50'000);
  CHECK(users.try_put_as(last, "files/u/39").error_code() == grpc::StatusCode::PERMISSION_DENIED);
  CHECK(users.try_put_as(last, "files/u/0").error_code() == grpc::StatusCode::PERMISSION_DENIED);
}

}  // namespace
}  // namespace blobcache::net
