// An NBD origin and a real server: what it shows, reads, and the ways in which a server fails.
#include "net/nbd_origin.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "net/impl/nbd_tree.h"
#include "store/page/object.h"
#include "store/tree/origin.h"
#include "test/net/fixture.h"
#include "test/net/nbd_fixture.h"

namespace blobcache::net {
namespace {

using Kind = tree::OriginEntry::Kind;
using absl::StatusCode;

const bool kHaveQemu = NbdServer::can_run("qemu-nbd") && NbdServer::can_run("qemu-img");

void list_names(NbdWorld& world) {
  world.server.nbdkit({"eval", "list_exports=printf 'NAMES\\na\\nb/one\\nb/two\\n/bad\\nb//bad\\n'",
                       "open=case \"$3\" in a|b/one|b/two|hidden) echo h;; *) echo 'ENOENT none' "
                       ">&2; exit 1;; esac",
                       "get_size=echo 5000", "pread=dd if=/dev/zero count=$3 bs=1 status=none"});
}

TEST_CASE("exports are files, their slashes directories, and what is not there is not found") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  list_names(world);
  const auto origin = NbdWorld::origin(world.options(""));
  const auto top = value_of(origin->list(""));
  REQUIRE(top.size() == 2);
  CHECK(top[0].name == "a");
  CHECK(top[0].kind == Kind::kFile);
  CHECK(top[0].size_bytes == 5000);
  CHECK(top[1].name == "b");
  CHECK(top[1].kind == Kind::kDirectory);
  CHECK(value_of(origin->list("b")).size() == 2);
  CHECK(origin->list("a").status().code() == StatusCode::kFailedPrecondition);
  CHECK(origin->list("c").status().code() == StatusCode::kNotFound);
  CHECK(value_of(origin->look_up("")).kind == Kind::kDirectory);
  CHECK(value_of(origin->look_up("b")).kind == Kind::kDirectory);
  CHECK(value_of(origin->look_up("b/two")).name == "two");
  CHECK(value_of(origin->look_up("hidden")).size_bytes == 5000);  // not listed, and there
  CHECK(origin->look_up("c").status().code() == StatusCode::kNotFound);
  CHECK(origin->open("c").status().code() == StatusCode::kNotFound);
  CHECK(origin->open("b").status().code() == StatusCode::kFailedPrecondition);
  CHECK(origin->open("").status().code() == StatusCode::kFailedPrecondition);
  CHECK(origin->health().reachable);
}

TEST_CASE("a url with an export shows that one, by the last part of its name") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  list_names(world);
  const auto origin = NbdWorld::origin(world.options("b/two"));
  const auto top = value_of(origin->list(""));
  REQUIRE(top.size() == 1);
  CHECK(top[0].name == "two");
  CHECK(origin->list("two").status().code() == StatusCode::kFailedPrecondition);
  CHECK(origin->look_up("a").status().code() == StatusCode::kNotFound);
  CHECK(value_of(origin->open("two")).version.size_bytes == 5000);
  const auto missing = NbdWorld::origin(world.options("b/none"));
  CHECK(missing->look_up("none").status().code() == StatusCode::kNotFound);
  CHECK(value_of(missing->list("")).empty());
}

TEST_CASE("what qemu-nbd offers without a name is seen as default, also while the server is away") {
  NEEDS(kHaveQemu)
  NbdWorld world;
  const Bytes content = random_bytes(kMib, 3);
  const std::string image = world.file(content).string();
  world.server.qemu_nbd({"-f", "raw", "-r", image});
  const auto origin = NbdWorld::origin(world.options(""));
  const auto top = value_of(origin->list(""));
  REQUIRE(top.size() == 1);
  CHECK(top[0].name == "default");
  CHECK(top[0].size_bytes == kMib);
  const auto fresh = NbdWorld::origin(world.options(""));  // which has listed nothing yet
  const tree::OriginFile file = value_of(fresh->open("default"));
  CHECK(value_of(fetch(*file.version.source, 0, kMib)) == content);
  CHECK(fresh->url_of("default") == world.server.url());
  CHECK(fresh->url_of("other") == world.server.url("other"));
  world.server.kill();
  CHECK(value_of(fresh->look_up("default")).size_bytes == kMib);
}

TEST_CASE("a default with a name and one without are different versions") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  NbdOriginOptions options = world.options("");
  options.immutable = true;
  const auto serve = [&](const std::string& listed) {
    world.server.kill();
    world.server.nbdkit({"eval", "list_exports=printf 'NAMES\n" + listed + "'", "open=echo \"h$3\"",
                         "get_size=echo 512", "pread=printf %-512s \"$2\""});
  };
  const auto read = [](const tree::OriginFile& file) {
    const Bytes bytes = value_of(fetch(*file.version.source, 0, 512));
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return text.substr(0, text.find(' '));
  };
  serve("\\n");
  const auto origin = NbdWorld::origin(options);
  const tree::OriginEntry nameless = value_of(origin->look_up("default"));
  {
    const tree::OriginFile file = value_of(origin->open("default"));
    CHECK(file.version.key == *nameless.version);
    CHECK(read(file) == "h");
  }
  serve("\\ndefault\\n");
  const auto later = NbdWorld::origin(options);
  CHECK(value_of(later->list("")).size() == 1);
  const tree::OriginFile file = value_of(later->open("default"));
  CHECK(file.version.key != *nameless.version);
  CHECK(read(file) == "hdefault");
}

TEST_CASE("bytes come as they are, in parts of any length, and many at once") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  const Bytes content = random_bytes(5 * kMib + 1234, 1);
  world.server.nbdkit({"file", world.file(content).string()});
  const auto origin = NbdWorld::origin(world.options());
  const tree::OriginFile file = value_of(origin->open("x"));
  CHECK(file.version.size_bytes == content.size());
  CHECK_FALSE(file.lasting);
  CHECK_FALSE(file.make_image);
  CHECK(value_of(fetch(*file.version.source, 0, content.size())) == content);
  CHECK(value_of(fetch(*file.version.source, 5 * kMib, 1234)) ==
        Bytes(content.end() - 1234, content.end()));
  Bytes together(content.size());
  std::vector<Answer> answers;
  std::vector<std::unique_ptr<page::Source::Fetch>> fetches;
  for (uint64_t at = 0; at < content.size(); at += 4096) {
    const uint64_t length = std::min<uint64_t>(4096, content.size() - at);
    answers.emplace_back();
    fetches.push_back(file.version.source->fetch(at, absl::MakeSpan(together).subspan(at, length),
                                                 answers.back().done()));
  }
  for (const Answer& answer : answers) CHECK(answer.wait().ok());
  CHECK(together == content);
  CHECK(origin->health().connections > 1);  // as the server can, and there was much to do
  CHECK(origin->health().connections <= 4);
}

TEST_CASE("a server that cannot serve several connections as one gets one") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  // Nor if it is read-only.
  world.server.nbdkit({"-r", "--filter=multi-conn", "memory", "1M", "multi-conn-mode=disable"});
  const auto origin = NbdWorld::origin(world.options());
  const tree::OriginFile file = value_of(origin->open("x"));
  std::vector<Answer> answers(200);
  Bytes bytes(200 * 4096);
  std::vector<std::unique_ptr<page::Source::Fetch>> fetches;
  for (size_t i = 0; i < answers.size(); ++i) {
    fetches.push_back(file.version.source->fetch(
        i * 4096, absl::MakeSpan(bytes).subspan(i * 4096, 4096), answers[i].done()));
  }
  for (const Answer& answer : answers) CHECK(answer.wait().ok());
  CHECK(origin->health().connections == 1);
}

TEST_CASE("of a sparse export only the data is moved") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  const std::filesystem::path path = world.dir.path() / "sparse";
  const Bytes piece = random_bytes(kMib, 7);
  {
    std::ofstream out(path, std::ios::binary);
    for (uint64_t i = 0; i < 8; ++i) {
      out.seekp(static_cast<std::streamoff>(i * 128 * kMib + 3 * kMib));
      out.write(reinterpret_cast<const char*>(piece.data()), kMib);
    }
  }
  std::filesystem::resize_file(path, 1024 * kMib);
  world.server.nbdkit({"file", path.string()});
  const auto origin = NbdWorld::origin(world.options());
  const tree::OriginFile file = value_of(origin->open("x"));
  Bytes buffer(kMib);
  const Bytes zeros(kMib);
  for (uint64_t at = 0; at < 1024 * kMib; at += kMib) {
    const bool data = at % (128 * kMib) == 3 * kMib;
    REQUIRE(fetch(*file.version.source, at, absl::MakeSpan(buffer)).ok());
    REQUIRE(buffer == (data ? piece : zeros));
  }
  CHECK(origin->health().bytes_read == 8 * kMib);
  CHECK(origin->vitals().bytes_zero == 1016 * kMib);
}

TEST_CASE("while somebody has it open all share one key; a later open has another") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"memory", "1M"});
  const auto origin = NbdWorld::origin(world.options());
  page::ObjectKey first;
  {
    const tree::OriginFile one = value_of(origin->open("x"));
    const tree::OriginFile two = value_of(origin->open("x"));
    first = one.version.key;
    CHECK(two.version.key == first);
    CHECK(two.version.source == one.version.source);
    CHECK_FALSE(value_of(origin->look_up("x")).version);
  }
  CHECK(value_of(origin->open("x")).version.key != first);
}

TEST_CASE("what is immutable has a key that lasts, of all that it is") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"memory", "1M"});
  NbdOriginOptions options = world.options();
  options.immutable = true;
  const auto origin = NbdWorld::origin(options);
  const tree::OriginFile file = value_of(origin->open("x"));
  CHECK(file.lasting);
  CHECK(value_of(origin->look_up("x")).version == file.version.key);
  CHECK(value_of(NbdWorld::origin(options)->open("x")).version.key == file.version.key);
  NbdOriginOptions renamed = options;
  renamed.name = "other";
  CHECK(value_of(NbdWorld::origin(renamed)->open("x")).version.key != file.version.key);
  const auto all = NbdWorld::origin([&] {
    NbdOriginOptions any = options;
    any.url = world.server.url();
    return any;
  }());
  CHECK(value_of(all->open("x")).version.key != value_of(all->open("y")).version.key);
  world.server.kill();
  world.server.nbdkit({"memory", "2M"});
  CHECK(value_of(NbdWorld::origin(options)->open("x")).version.key != file.version.key);
}

TEST_CASE("errors of the server come as what they are; EIO is asked for twice") {
  NEEDS(kHaveNbdkit)
  const std::vector<std::pair<const char*, StatusCode>> kinds = {
      {"EPERM", StatusCode::kPermissionDenied}, {"ENOSPC", StatusCode::kResourceExhausted},
      {"EINVAL", StatusCode::kInvalidArgument}, {"ENOMEM", StatusCode::kUnavailable},
      {"ESHUTDOWN", StatusCode::kUnavailable},  {"EIO", StatusCode::kUnavailable}};
  for (const auto& [error, code] : kinds) {
    CAPTURE(error);
    NbdWorld world;
    world.server.nbdkit({"--filter=error", "memory", "1M", std::string("error-pread=") + error,
                         "error-pread-rate=100%"});
    const auto origin = NbdWorld::origin(world.options());
    const tree::OriginFile file = value_of(origin->open("x"));
    CHECK(fetch(*file.version.source, 0, 4096).status().code() == code);
    const bool twice = std::string(error) == "EIO" || std::string(error) == "ESHUTDOWN";
    CHECK(origin->health().requests == (twice ? 2 : 1));
  }
}

TEST_CASE("an error that passes is not told") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"eval", "get_size=echo 1M",
                       "pread=if [ -e $tmpdir/once ]; then dd if=/dev/zero bs=$3 count=1 "
                       "status=none; else touch $tmpdir/once; echo 'EIO no' >&2; exit 1; fi"});
  const auto origin = NbdWorld::origin(world.options());
  const tree::OriginFile file = value_of(origin->open("x"));
  CHECK(value_of(fetch(*file.version.source, 0, 4096)) == Bytes(4096));
  CHECK(origin->health().retries == 1);
}

TEST_CASE("a server that is killed in the middle of reads and comes back loses none") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  const Bytes content = random_bytes(4 * kMib, 3);
  const std::string path = world.file(content).string();
  world.server.nbdkit({"file", path});
  const auto origin = NbdWorld::origin(world.options());
  const tree::OriginFile file = value_of(origin->open("x"));
  REQUIRE(fetch(*file.version.source, 0, 4096).ok());
  world.server.stop();  // so that what is sent now has no answer
  Bytes bytes(content.size());
  std::vector<Answer> answers(64);
  std::vector<std::unique_ptr<page::Source::Fetch>> fetches;
  for (size_t i = 0; i < answers.size(); ++i) {
    fetches.push_back(file.version.source->fetch(
        i * 65536, absl::MakeSpan(bytes).subspan(i * 65536, 65536), answers[i].done()));
  }
  world.server.kill();
  world.server.nbdkit({"file", path});
  for (const Answer& answer : answers) CHECK(answer.wait().ok());
  CHECK(bytes == content);
  CHECK(origin->health().reachable);
}

TEST_CASE("a server that does not answer costs its time limit and no more") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"memory", "1M"});
  NbdOriginOptions options = world.options();
  options.request_timeout = absl::Milliseconds(200);
  options.connect_timeout = absl::Milliseconds(200);
  const auto origin = NbdWorld::origin(options);
  const tree::OriginFile file = value_of(origin->open("x"));
  world.server.stop();
  CHECK(fetch(*file.version.source, 0, 4096).status().code() == StatusCode::kUnavailable);
  CHECK_FALSE(origin->health().reachable);
  CHECK_FALSE(origin->health().trouble.empty());
  const auto other = NbdWorld::origin(options);
  CHECK(other->look_up("x").status().code() == StatusCode::kUnavailable);
  CHECK(other->list("").status().code() == StatusCode::kUnavailable);
  CHECK(other->open("x").status().code() == StatusCode::kUnavailable);
  CHECK_FALSE(other->health().reachable);
}

TEST_CASE("a server that is not there is unavailable, and found once it is") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  const auto origin = NbdWorld::origin(world.options());
  CHECK_FALSE(origin->health().tried);
  CHECK(origin->look_up("x").status().code() == StatusCode::kUnavailable);
  CHECK(origin->health().tried);
  CHECK(origin->open("x").status().code() == StatusCode::kUnavailable);
  CHECK_FALSE(origin->health().reachable);
  CHECK(origin->health().trouble.find("nbd_") == std::string::npos);  // a function's name
  world.server.nbdkit({"memory", "1M"});
  CHECK(origin->open("x").ok());
  CHECK(origin->health().reachable);
}

TEST_CASE("another size is another export: all fail, and a new open sees it") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"memory", "1M"});
  const auto origin = NbdWorld::origin(world.options());
  const tree::OriginFile file = value_of(origin->open("x"));
  world.server.kill();
  world.server.nbdkit({"memory", "2M"});
  CHECK(fetch(*file.version.source, 0, 4096).status().code() == StatusCode::kUnavailable);
  const absl::Status broken = fetch(*file.version.source, 0, 4096).status();
  CHECK(broken.code() == StatusCode::kUnavailable);
  CHECK(broken.message().find("another export") != absl::string_view::npos);
  const tree::OriginFile anew = value_of(origin->open("x"));
  CHECK(anew.version.size_bytes == 2 * kMib);
  CHECK(anew.version.key != file.version.key);
  CHECK(fetch(*anew.version.source, kMib, 4096).ok());
}

TEST_CASE("what is cancelled before it is sent ends at once, what is under way with its buffer") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"memory", "1M"});
  NbdOriginOptions options = world.options();
  options.connections = 1;
  options.request_timeout = absl::Seconds(5);
  const auto origin = NbdWorld::origin(options);
  const tree::OriginFile file = value_of(origin->open("x"));
  world.server.stop();
  std::vector<Answer> answers(NbdConnection::kMaxRequests + 1);
  std::vector<std::unique_ptr<page::Source::Fetch>> fetches;
  Bytes bytes(answers.size() * 4096);
  for (size_t i = 0; i < answers.size(); ++i) {
    fetches.push_back(file.version.source->fetch(
        i * 4096, absl::MakeSpan(bytes).subspan(i * 4096, 4096), answers[i].done()));
  }
  // A request that is posted after another was over finds sent what came before that.
  for (int i = 0; i < 2; ++i) {
    const Answer passing;
    Bytes page(4096);
    const auto fetch = file.version.source->fetch(0, absl::MakeSpan(page), Answer(passing).done());
    fetch->cancel();
    CHECK(passing.wait().code() == StatusCode::kCancelled);
  }
  fetches.front()->cancel();
  fetches.back()->cancel();
  CHECK(answers.back().wait().code() == StatusCode::kCancelled);
  CHECK_FALSE(answers.front().there());
  CHECK(answers.front().wait().code() == StatusCode::kCancelled);
  fetches.front()->cancel();  // too late
  CHECK(answers[1].wait().code() == StatusCode::kUnavailable);
}

TEST_CASE("what outlives its origin is unavailable") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  world.server.nbdkit({"memory", "1M"});
  std::shared_ptr<NbdTree> origin = NbdWorld::origin(world.options());
  const tree::OriginFile file = value_of(origin->open("x"));
  world.server.stop();
  Bytes bytes(4096);
  Answer answer;
  const auto under_way = file.version.source->fetch(0, absl::MakeSpan(bytes), answer.done());
  origin.reset();
  CHECK(answer.wait().code() == StatusCode::kUnavailable);
  CHECK(fetch(*file.version.source, 0, 4096).status().code() == StatusCode::kUnavailable);
}

TEST_CASE("TLS with pre-shared keys, and without the right one nothing") {
  NEEDS(kHaveNbdkit)
  NbdWorld world;
  const std::string keys = (world.dir.path() / "keys.psk").string();
  const std::string wrong = (world.dir.path() / "wrong.psk").string();
  std::ofstream(keys) << "alice:" << std::string(64, 'a') << '\n';
  std::ofstream(wrong) << "alice:" << std::string(64, 'b') << '\n';
  world.server.nbdkit({"--tls=require", "--tls-psk=" + keys, "memory", "1M"});
  NbdOriginOptions options = world.options();
  options.url = "nbds+unix://alice@/x?socket=" + (world.dir.path() / "nbd.sock").string();
  options.tls_psk = keys;
  const auto origin = NbdWorld::origin(options);
  const tree::OriginFile file = value_of(origin->open("x"));
  CHECK(value_of(fetch(*file.version.source, 0, kMib)) == Bytes(kMib));
  options.tls_psk = wrong;
  CHECK(NbdWorld::origin(options)->open("x").status().code() == StatusCode::kUnavailable);
  options.tls_psk = (world.dir.path() / "nowhere").string();
  CHECK(NbdWorld::origin(options)->open("x").status().code() == StatusCode::kUnavailable);
  const absl::Status clear = NbdWorld::origin(world.options())->open("x").status();
  CHECK(clear.message().find("requires TLS") != absl::string_view::npos);
  const absl::Status listed = NbdWorld::origin(world.options(""))->list("").status();
  CHECK(listed.code() == StatusCode::kUnavailable);
  CHECK(listed.message().find("requires TLS") != absl::string_view::npos);
}

TEST_CASE("TLS with certificates, of the authority that is trusted and with the host's name") {
  NEEDS(kHaveNbdkit && NbdServer::can_run("openssl"))
  NbdWorld world;
  const std::string dir = world.dir.path().string();
  const std::string make =
      "cd '" + dir +
      "' && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority "
      "-keyout ca-key.pem -out ca-cert.pem 2>/dev/null && openssl req -newkey rsa:2048 -nodes "
      "-subj /CN=localhost -addext subjectAltName=DNS:localhost -keyout server-key.pem -out r.pem "
      "2>/dev/null && openssl x509 -req -in r.pem -CA ca-cert.pem -CAkey ca-key.pem -days 2 "
      "-CAcreateserial -copy_extensions copy -out server-cert.pem 2>/dev/null && mkdir other && "
      "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=other -keyout other/k.pem -out "
      "other/ca-cert.pem 2>/dev/null";
  REQUIRE(std::system(make.c_str()) == 0);
  const int port =
      world.server.nbdkit_tcp({"--tls=require", "--tls-certificates=" + dir, "memory", "1M"});
  NbdOriginOptions options = world.options();
  options.url = "nbds://localhost:" + std::to_string(port) + "/x";
  options.tls_certificates = dir;
  const auto origin = NbdWorld::origin(options);
  const absl::StatusOr<tree::OriginFile> file = origin->open("x");
  INFO(file.status().ToString());
  REQUIRE(file.ok());
  CHECK(value_of(fetch(*file->version.source, 0, 4096)) == Bytes(4096));
  const auto refused = [](const NbdOriginOptions& other) {
    return NbdWorld::origin(other)->open("x").status().code() == StatusCode::kUnavailable;
  };
  NbdOriginOptions by_address = options;  // which the certificate does not name
  by_address.url = "nbds://127.0.0.1:" + std::to_string(port) + "/x";
  CHECK(refused(by_address));
  options.tls_certificates = dir + "/other";  // another authority
  CHECK(refused(options));
  std::ofstream(dir + "/other/ca-cert.pem") << "no certificate\n";
  CHECK(refused(options));
  options.tls_certificates = dir + "/nowhere";  // which is not to mean: believe anybody
  CHECK(refused(options));
}

TEST_CASE("qemu-nbd serves a qcow2 image by its name") {
  NEEDS(kHaveQemu)
  NbdWorld world;
  const Bytes content = random_bytes(2 * kMib, 9);
  const std::string raw = world.file(content).string();
  const std::string image = (world.dir.path() / "q.qcow2").string();
  REQUIRE(std::system(("qemu-img convert -O qcow2 '" + raw + "' '" + image + "'").c_str()) == 0);
  world.server.qemu_nbd({"-r", "-x", "disk", "-f", "qcow2", image});
  const auto origin = NbdWorld::origin(world.options(""));
  const auto top = value_of(origin->list(""));
  REQUIRE(top.size() == 1);
  CHECK(top[0].name == "disk");
  CHECK(top[0].size_bytes == content.size());
  const tree::OriginFile file = value_of(origin->open("disk"));
  CHECK(value_of(fetch(*file.version.source, 0, content.size())) == content);
  CHECK(origin->look_up("other").status().code() == StatusCode::kNotFound);
}

}  // namespace
}  // namespace blobcache::net
