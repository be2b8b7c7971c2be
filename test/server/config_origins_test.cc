#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "base/listen_address.h"
#include "server/config.h"
#include "server/config_keys.h"
#include "server/impl/origin_checks.h"
#include "test/temporary_directory.h"

namespace blobcache::server {
namespace {

ConfigResult parsed(std::string_view toml) { return parse_config(toml, "t.toml", {}); }

/// All problems of a configuration, a line each.
std::string problems(std::string_view toml) {
  std::string text;
  for (const std::string& each : parsed(toml).problems) text += each + "\n";
  return text;
}

/// Of an origin that is right but for what is added: the only problem, without its place.
std::string wrong(std::string_view lines, std::string_view url = "nbd://h/e") {
  return problems(
      fmt::format("[[origin]]\nname = \"a\"\ntype = \"nbd\"\nurl = \"{}\"\n{}", url, lines));
}

TEST_CASE("origins: none by default, and each key has a default") {
  CHECK(parsed("").config.origins.empty());
  const ConfigResult result =
      parsed("[[origin]]\nname = \"a\"\ntype = \"nbd\"\nurl = \"nbd://h\"\n");
  REQUIRE(result.problems.empty());
  REQUIRE(result.config.origins.size() == 1);
  const Config::Origin& origin = result.config.origins.front();
  CHECK(origin.name == "a");
  CHECK(origin.type == "nbd");
  CHECK(origin.url == "nbd://h");
  CHECK(origin.connections == 4);
  CHECK(origin.read_only);
  CHECK(!origin.immutable);
  CHECK(origin.connect_timeout == absl::Seconds(10));
  CHECK(origin.request_timeout == absl::Seconds(30));
  CHECK(origin.tls_certificates.empty());
  CHECK(origin.tls_psk.empty());
  CHECK(origin.stall_timeout == absl::Seconds(10));
  CHECK(origin.rate_limit == 0);
  CHECK(!origin.private_redirects);
  CHECK(origin.region == "us-east-1");
}

TEST_CASE("origins: several, with every key, and back again") {
  const std::string toml =
      "[[origin]]\nname = \"a\"\ntype = \"nbd\"\nurl = \"nbds://[::1]:99/x\"\nconnections = 16\n"
      "read_only = true\nimmutable = true\nconnect_timeout = \"1s\"\nrequest_timeout = \"2m\"\n"
      "tls_certificates = \"/certs\"\n\n"
      "[[origin]]\nname = \"b\"\ntype = \"nbd\"\nurl = \"nbds+unix://me@/x?socket=/s\"\n"
      "read_only = false\ntls_psk = \"/psk\"\n";
  const ConfigResult result = parsed(toml);
  REQUIRE_MESSAGE(result.problems.empty(), result.problems.front());
  REQUIRE(result.config.origins.size() == 2);
  const Config::Origin& first = result.config.origins[0];
  CHECK(first.connections == 16);
  CHECK(first.immutable);
  CHECK(first.connect_timeout == absl::Seconds(1));
  CHECK(first.request_timeout == absl::Minutes(2));
  CHECK(first.tls_certificates == "/certs");
  CHECK(!result.config.origins[1].read_only);
  const ConfigResult again = parsed(config_to_toml(result.config));
  REQUIRE_MESSAGE(again.problems.empty(), again.problems.front());
  CHECK(again.config.origins == result.config.origins);
}

TEST_CASE("origins: what is wrong is told with its line") {
  CHECK(problems("[origin]\nname = \"a\"") ==
        "t.toml:1: origin: must be sections, each written [[origin]]\n");
  CHECK(problems("origin = 3") == "t.toml:1: origin: must be sections, each written [[origin]]\n");
  CHECK(wrong("conections = 3") ==
        "t.toml:5: origin.conections: unknown key (did you mean \"connections\"?)\n");
  CHECK(wrong("connections = 0").starts_with("t.toml:5: origin.connections: "));
  CHECK(wrong("connections = 17").starts_with("t.toml:5: origin.connections: "));
  CHECK(wrong("connections = \"many\"").starts_with("t.toml:5: origin.connections: "));
  CHECK(wrong("read_only = 1").starts_with("t.toml:5: origin.read_only: "));
  CHECK(wrong("connect_timeout = \"0s\"").starts_with("t.toml:5: origin.connect_timeout: "));
  CHECK(wrong("tls_psk = \"psk\"", "nbds://h").starts_with("t.toml:5: origin.tls_psk: "));
  CHECK(wrong("immutable = true\nread_only = false") ==
        "t.toml:5: origin.immutable: what is written to through us changes: read_only = false\n");
  CHECK(wrong("tls_certificates = \"/c\"") ==
        "t.toml:5: origin.tls_certificates: the url asks for no TLS; nbds:// or nbds+unix:// do\n");
  CHECK(wrong("tls_psk = \"/c\"").starts_with("t.toml:5: origin.tls_psk: the url asks for no TLS"));
  CHECK(wrong("tls_certificates = \"/c\"\ntls_psk = \"/c\"", "nbds://me@h") ==
        "t.toml:6: origin.tls_psk: excludes tls_certificates\n");
  CHECK(wrong("", "nbds://h") == "t.toml:4: origin.url: TLS needs tls_certificates or tls_psk\n");
  CHECK(wrong("tls_certificates = \"/c\"", "nbds+unix:///?socket=/s") ==
        "t.toml:5: origin.tls_certificates: a server's certificate cannot be verified over a unix "
        "socket; tls_psk can\n");
  CHECK(wrong("tls_psk = \"/c\"", "nbds+unix://me@/?socket=/s").empty());
  CHECK(wrong("tls_psk = \"/c\"", "nbds+unix:///?socket=/s") ==
        "t.toml:4: origin.url: tls_psk needs the user whose key it is, as in nbds://USER@HOST/\n");
  CHECK(wrong("", "nbd://h/a/") ==
        "t.toml:4: origin.url: the export's name does not end in what a file can be called\n");
  CHECK(wrong("", "http://h") ==
        "t.toml:4: origin.url: an NBD url: only nbd, nbds, nbd+unix and nbds+unix are known\n");
}

TEST_CASE("origins: what is needed and not there") {
  CHECK(problems("\n[[origin]]\n") ==
        "t.toml:2: origin.name: is needed\nt.toml:2: origin.type: is needed: \"nbd\", \"http\", "
        "\"s3\" or \"dir\"\n");
  CHECK(problems("[[origin]]\nname = \"a\"\ntype = \"nbd\"") ==
        "t.toml:1: origin.url: is needed\n");
}

TEST_CASE("origins: names are components, each used once") {
  const auto named = [](std::string_view name) {
    return problems(
        fmt::format("[[origin]]\nname = \"{}\"\ntype = \"nbd\"\nurl = \"nbd://h\"\n"
                    "[[origin]]\nname = \"b\"\ntype = \"nbd\"\nurl = \"nbd://h\"\n",
                    name));
  };
  CHECK(named("a").empty());
  CHECK(named("a b \xc3\xa4").empty());
  CHECK(named("a/b") == "t.toml:2: origin.name: cannot be a name: a slash inside a name\n");
  CHECK(named("..").starts_with("t.toml:2: origin.name: cannot be a name: "));
  CHECK(named("b") == "t.toml:6: origin.name: \"b\" is another origin's\n");
}

TEST_CASE("origins: what is no type is told with those that are") {
  const auto typed = [](std::string_view type) {
    return problems(
        fmt::format("[[origin]]\nname = \"a\"\ntype = \"{}\"\nurl = \"https://h\"\n", type));
  };
  CHECK(typed("nfs") ==
        "t.toml:3: origin.type: \"nfs\" is no type of origin; \"nbd\", \"http\", \"s3\" or "
        "\"dir\" is\n");
}

/// Of an origin of a type, with a url: the only problem.
std::string of_type(std::string_view type, std::string_view url, std::string_view lines = "") {
  return problems(
      fmt::format("[[origin]]\nname = \"a\"\ntype = \"{}\"\nurl = \"{}\"\n{}", type, url, lines));
}

TEST_CASE("origins: what is wrong with those of HTTP and S3 servers") {
  CHECK(of_type("http", "https://h/a").empty());
  CHECK(of_type("http", "ftp://h/").find("only http:// and https:// are known") !=
        std::string::npos);
  const std::string secret = of_type("http", "https://me:sesame@h/");
  CHECK(secret.find("no user and no password") != std::string::npos);
  CHECK(secret.find("sesame") == std::string::npos);
  CHECK(of_type("http", "http://h/", "token_file = \"/t\"") ==
        "t.toml:5: origin.token_file: would go over the network in the clear; the url must be "
        "https://\n");
  CHECK(of_type("http", "http://127.0.0.1/", "token_file = \"/t\"").empty());
  CHECK(of_type("http", "https://h/", "read_only = false") ==
        "t.toml:5: origin.read_only: says nothing of an origin of type \"http\"\n");
  CHECK(of_type("http", "https://h/", "region = \"x\"") ==
        "t.toml:5: origin.region: says nothing of an origin of type \"http\"\n");
  CHECK(of_type("nbd", "nbd://h/", "rate_limit = \"1MiB\"") ==
        "t.toml:5: origin.rate_limit: says nothing of an origin of type \"nbd\"\n");
  CHECK(of_type("http", "https://h/", "proxy = \"http://p:1/x\"") ==
        "t.toml:5: origin.proxy: no path can stand in it\n");
  CHECK(of_type("s3", "s3://bucket/a", "endpoint = \"http://h:9000\"\npath_style = true").empty());
  CHECK(of_type("s3", "s3://B/").find("the bucket is not 3 to 63") != std::string::npos);
  CHECK(of_type("s3", "https://h/").find("must be as s3://BUCKET/") != std::string::npos);
  CHECK(of_type("s3", "s3://bucket/", "endpoint = \"http://h/a/\"") ==
        "t.toml:5: origin.endpoint: no path can stand in it\n");
  CHECK(of_type("s3", "s3://bucket/", "region = \"a/b\"") ==
        "t.toml:5: origin.region: must be a word of letters, digits and hyphens\n");
}

/// Of a directory that is right but for what is added: the problems.
std::string wrong_directory(std::string_view lines, std::string_view path = "/srv/x") {
  return problems(fmt::format(
      "[store]\npath = \"/var/lib/bc\"\n[fuse]\nmountpoint = \"/mnt/bc\"\n[[origin]]\nname = "
      "\"a\"\ntype = \"dir\"\npath = \"{}\"\n{}",
      path, lines));
}

TEST_CASE("origins: a directory has a path and nothing of a server's") {
  CHECK(wrong_directory("").empty());
  CHECK(wrong_directory("connections = 16\nrequest_timeout = \"1s\"").empty());
  CHECK(problems("[[origin]]\nname = \"a\"\ntype = \"dir\"") ==
        "t.toml:1: origin.path: is needed\n");
  CHECK(wrong_directory("", "relative").starts_with("t.toml:8: origin.path: "));
  CHECK(wrong("path = \"/x\"") ==
        "t.toml:5: origin.path: says nothing of an origin of type \"nbd\"\n");
  for (const char* line : {"url = \"nbd://h\"", "immutable = true", "connect_timeout = \"3s\"",
                           "tls_certificates = \"/c\"", "tls_psk = \"/c\""}) {
    const std::string key = std::string(line).substr(0, std::string(line).find(' '));
    CHECK(wrong_directory(line) ==
          fmt::format("t.toml:9: origin.{}: says nothing of an origin of type \"dir\"\n", key));
  }
  CHECK(wrong_directory("read_only = false") ==
        "t.toml:9: origin.read_only: says nothing of an origin of type \"dir\"\n");
  const ConfigResult result = parsed("[[origin]]\nname = \"a\"\ntype = \"dir\"\npath = \"/x\"");
  REQUIRE(result.problems.empty());
  CHECK(result.config.origins.front().path == "/x");
  CHECK(parsed(config_to_toml(result.config)).config.origins == result.config.origins);
}

TEST_CASE("origins: a directory of our own is refused, whatever it is called") {
  const auto refused = [](std::string_view path) {
    return wrong_directory("", path).starts_with("t.toml:8: origin.path: ");
  };
  CHECK(refused("/mnt/bc"));
  CHECK(refused("/mnt/bc/origins/b"));
  CHECK(refused("/mnt/x/../bc/"));
  CHECK_FALSE(refused("/mnt"));  // what is mounted in it is not shown
  CHECK_FALSE(refused("/mnt/bcd"));
  CHECK(refused("/var/lib/bc"));
  CHECK(refused("/var/lib/bc/objects"));
  CHECK(refused("/var/lib"));
  CHECK(refused("/"));
  const test::TemporaryDirectory folder;
  std::filesystem::create_symlink("/mnt/bc", folder.path() / "link");
  CHECK(refused((folder.path() / "link").native()));
}

base::ListenAddress address(std::string_view text) {
  return base::parse_listen_address(text).value();
}

TEST_CASE("origins: none leads back to us") {
  CHECK(leads_to(address("tcp:127.0.0.1:1"), address("tcp:127.0.0.1:1")));
  CHECK(leads_to(address("tcp:localhost:1"), address("tcp:127.0.0.1:1")));
  CHECK(leads_to(address("tcp:localhost:1"), address("tcp:[::1]:1")));
  CHECK(leads_to(address("tcp:127.0.0.1:1"), address("tcp:localhost:1")));
  CHECK(leads_to(address("tcp:127.0.0.1:1"), address("tcp:0.0.0.0:1")));
  CHECK(leads_to(address("tcp:[::1]:1"), address("tcp:[::]:1")));
  CHECK(leads_to(address("tcp:0.0.0.0:1"), address("tcp:0.0.0.0:1")));
  CHECK(leads_to(address("tcp:[::0:1]:1"), address("tcp:[::1]:1")));
  std::array<char, 256> name{};
  REQUIRE(::gethostname(name.data(), name.size() - 1) == 0);
  CHECK(leads_to(address(fmt::format("tcp:{}:1", name.data())), address("tcp:0.0.0.0:1")));
  CHECK(!leads_to(address("tcp:127.0.0.1:2"), address("tcp:127.0.0.1:1")));
  CHECK(!leads_to(address("tcp:192.0.2.77:1"), address("tcp:0.0.0.0:1")));
  CHECK(!leads_to(address("tcp:example.org:1"), address("tcp:0.0.0.0:1")));
  CHECK(!leads_to(address("tcp:192.0.2.77:1"), address("tcp:127.0.0.1:1")));
  CHECK(!leads_to(address("unix:/a"), address("tcp:127.0.0.1:1")));
  CHECK(leads_to(address("unix:/nowhere/../nowhere/s"), address("unix:/nowhere/s")));
  CHECK(!leads_to(address("unix:/nowhere/s"), address("unix:/nowhere/t")));
  // Links lead to a socket before anybody listens there.
  const test::TemporaryDirectory folder;
  std::filesystem::create_symlink("s", folder.path() / "to-s");
  std::filesystem::create_symlink(folder.path() / "to-s", folder.path() / "to-link");
  std::filesystem::create_symlink("circle", folder.path() / "circle");
  const auto at = [&](const char* link) {
    return address("unix:" + (folder.path() / link).native());
  };
  CHECK(leads_to(at("to-s"), at("s")));
  CHECK(leads_to(at("to-link"), at("s")));
  CHECK(leads_to(at("s"), at("to-link")));
  CHECK(!leads_to(at("circle"), at("s")));

  CHECK(problems("[nbd]\nlisten = [\"unix:/run/x.sock\"]\n[[origin]]\nname = \"a\"\ntype = "
                 "\"nbd\"\nurl = \"nbd+unix:///e?socket=/run/x.sock\"\n") ==
        "t.toml:6: origin.url: leads back to this daemon, which would wait for itself: "
        "unix:/run/x.sock is in nbd.listen\n");
}

std::string read_text(std::string_view name) {
  std::ifstream file(std::filesystem::path(BLOBCACHE_SOURCE_DIR) / name);
  REQUIRE_MESSAGE(file.good(), name);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST_CASE("origins: the manual and the packaged file have every key, with its default") {
  const std::string whole = read_text("man/blobcached.toml.5");
  const std::string manual = whole.substr(whole.find(".Ss Section origin\n"));
  const std::string packaged = read_text("packaging/blobcached.toml");
  const std::string example = packaged.substr(packaged.find("\n# [[origin]]\n"));
  Config config;
  config.origins.emplace_back();
  for (const ConfigKey& key : origin_keys()) {
    INFO(key.name);
    CHECK_FALSE(key.help.empty());
    const size_t at = manual.find(fmt::format(".It Ic {}\n", key.name));
    REQUIRE(at != std::string::npos);
    const std::string item = manual.substr(at, manual.find("\n.It ", at) - at);
    const std::string value = key.print(config);
    const bool needed = key.name == "name" || key.name == "type" || key.name == "url";
    const std::string says = value.empty() ? "Absent by default"
                             : needed      ? "Needed"
                                           : fmt::format("Default {}", value);
    CHECK(item.find(says) != std::string::npos);
    const std::string line = needed || value.empty()
                                 ? fmt::format("\n# {} = \"", key.name)
                                 : fmt::format("\n# {} = {}\n", key.name, value);
    CHECK(example.find(line) != std::string::npos);
  }
  // What it shows is right.
  std::string uncommented;
  for (size_t at = 1; at < example.size();) {
    const size_t end = std::min(example.find('\n', at), example.size());
    const std::string line = example.substr(at, end - at);
    if (line.find(" = ") != std::string::npos || line == "# [[origin]]") {
      if (line.find("tls_") == std::string::npos) uncommented += line.substr(2) + "\n";
    }
    at = end + 1;
  }
  CHECK(problems(uncommented).empty());
}

}  // namespace
}  // namespace blobcache::server
