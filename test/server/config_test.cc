#include "server/config.h"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "server/config_keys.h"
#include "store/page/eviction.h"

namespace blobcache::server {
namespace {

ConfigResult parse(std::string_view toml, const std::vector<std::string>& overrides = {}) {
  return parse_config(toml, "t.toml", overrides);
}

/// The only problem of a configuration; "" when there is none, and a complaint when there are
/// several.
std::string problem(std::string_view toml, const std::vector<std::string>& overrides = {}) {
  const ConfigResult result = parse(toml, overrides);
  if (result.problems.empty()) return "";
  if (result.problems.size() > 1) return fmt::format("{} problems", result.problems.size());
  return result.problems.front();
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path);
  REQUIRE_MESSAGE(file.good(), path.native());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

TEST_CASE("budgets that no machine can give are refused by their keys") {
  const std::string memory = problem("[store]\n\nmemory = \"100TiB\"");
  CHECK_MESSAGE(memory.starts_with("t.toml:3: store.memory: 100TiB is more than this "), memory);
  CHECK(problem("", {"store.memory=100TiB"}).starts_with("--set: store.memory: 100TiB is more"));
  CHECK(problem("[store]\nmemory = \"100%\"").empty());
  CHECK(problem("[store]\ndisk_reserve = \"100%\"") ==
        "t.toml:2: store.disk_reserve: 100% leaves nothing of the file system to the store");
  CHECK(problem("[store]\ndisk_reserve = \"99.9%\"").empty());
  // What a disk can give is for the start to say, where the store is.
  CHECK(problem("[store]\ndisk = \"100TiB\"\ndisk_reserve = \"1PiB\"").empty());
}

TEST_CASE("the defaults are those of the manual") {
  const ConfigResult result = parse("");
  REQUIRE(result.problems.empty());
  const Config& config = result.config;
  CHECK(config.store.path == "/var/lib/blobcache");
  CHECK(config.store.memory == SizeOrShare{uint64_t{1} << 30, std::nullopt});
  CHECK(config.store.disk == SizeOrShare{uint64_t{50} << 30, std::nullopt});
  CHECK(config.store.disk_reserve == SizeOrShare{0, 5.0});
  CHECK(config.store.direct_io == DirectIoMode::kAuto);
  CHECK(config.store.unnamed_ttl == absl::Hours(24));
  CHECK(config.fuse.mountpoint.empty());
  CHECK(config.fuse.subtree.empty());
  CHECK_FALSE(config.fuse.read_only);
  CHECK(config.fuse.entry_timeout == absl::Seconds(5));
  CHECK(config.fuse.max_request == 1048576);
  REQUIRE(config.nbd.listen.size() == 1);
  CHECK(config.nbd.listen[0].to_string() == "unix:/run/blobcache/nbd.sock");
  CHECK(config.nbd.exports == std::vector<std::string>{"**"});
  REQUIRE(config.grpc.listen.size() == 1);
  CHECK(config.grpc.listen[0].to_string() == "unix:/run/blobcache/blobcached.sock");
  CHECK(config.grpc.stream_window == 4 << 20);
  CHECK(config.grpc.connection_window == 32 << 20);
  CHECK(config.grpc.max_streams == 1024);
  REQUIRE(config.metrics.listen.has_value());
  CHECK(config.metrics.listen->to_string() == "tcp:127.0.0.1:9440");
}

TEST_CASE("a file changes what it names and nothing else") {
  const ConfigResult result = parse(
      "[store]\npath = \"/srv/b\"\nmemory = \"60%\"\ndisk_reserve = \"1.5GiB\"\ndirect_io = "
      "\"on\"\n"
      "unnamed_ttl = \"250ms\"\n[fuse]\nmountpoint = \"/mnt/b\"\nallow_other = "
      "true\nmax_background = 7\n"
      "[nbd]\nlisten = [\"unix:/a.sock\", \"tcp:127.0.0.1:10809\"]\n[metrics]\nlisten = \"\"\n"
      "[log]\nlevel = \"debug\"\n");
  REQUIRE(result.problems.empty());
  const Config& config = result.config;
  CHECK(config.store.path == "/srv/b");
  CHECK(config.store.memory.percent == 60.0);
  CHECK(config.store.memory.resolve(1000) == 600);
  CHECK(config.store.disk_reserve == SizeOrShare{uint64_t{3} << 29, std::nullopt});
  CHECK(config.store.disk_reserve.resolve(1000) == uint64_t{3} << 29);
  CHECK(config.store.direct_io == DirectIoMode::kOn);
  CHECK(config.store.unnamed_ttl == absl::Milliseconds(250));
  CHECK(config.fuse.mountpoint == "/mnt/b");
  CHECK(config.fuse.allow_other);
  CHECK(config.fuse.max_background == 7);
  CHECK(config.nbd.listen.size() == 2);
  CHECK_FALSE(config.metrics.listen.has_value());
  CHECK(config.log.level == LogLevel::kDebug);
  CHECK(config.store.disk == Config{}.store.disk);
}

TEST_CASE("each kind of mistake is one line that says where and why") {
  CHECK(problem("\n\n[store]\nmemry = \"1GiB\"") ==
        "t.toml:4: store.memry: unknown key (did you mean \"memory\"?)");
  CHECK(problem("[store]\nentirely_else = 1") == "t.toml:2: store.entirely_else: unknown key");
  CHECK(problem("[stor]\n") == "t.toml:1: [stor]: unknown section (did you mean \"store\"?)");
  CHECK(problem("[stroe]\n") == "t.toml:1: [stroe]: unknown section (did you mean \"store\"?)");
  CHECK(problem("memory = \"1GiB\"") == "t.toml:1: memory: a key outside of a section");
  CHECK(problem("store = 3") == "t.toml:1: store: must be a section, written [store]");
  CHECK(problem("[store]\nmemory = \"12Q\"") ==
        "t.toml:2: store.memory: bad size \"12Q\": unknown unit; use KiB, MiB, GiB, TiB or PiB");
  CHECK(
      problem("[store]\nmemory = 1024") ==
      "t.toml:2: store.memory: must be a size such as \"64MiB\" or a share such as \"60%\", not a "
      "number");
  CHECK(problem("[store]\nmemory = \"1MiB\"") ==
        "t.toml:2: store.memory: 1MiB is too little; at least 8MiB");
  CHECK(problem("[store]\nmemory = \"101%\"") ==
        "t.toml:2: store.memory: bad share \"101%\": must be from 0% to 100%");
  CHECK(problem("[store]\nmemory = \"%\"") ==
        "t.toml:2: store.memory: bad share \"%\": a number must come before \"%\"");
  CHECK(problem("[store]\nmemory = \"nan%\"").starts_with("t.toml:2: store.memory: bad share"));
  CHECK(problem("[store]\nmemory = \"0%\"") == "t.toml:2: store.memory: 0% is too little");
  CHECK(
      problem("[store]\nunnamed_ttl = \"5 parsecs\"") ==
      "t.toml:2: store.unnamed_ttl: bad duration \"5 parsecs\": numbers with ms, s, m or h, as in "
      "\"250ms\" or \"1h30m\"");
  CHECK(problem("[store]\nunnamed_ttl = \"-5s\"") ==
        "t.toml:2: store.unnamed_ttl: bad duration \"-5s\": must be finite and not negative");
  CHECK(problem("[store]\nunnamed_ttl = \"inf\"") ==
        "t.toml:2: store.unnamed_ttl: bad duration \"inf\": must be finite and not negative");
  CHECK(problem("[store]\npath = \"\"") == "t.toml:2: store.path: must not be empty");
  CHECK(problem("[store]\npath = \"a\\u0000b\"") ==
        "t.toml:2: store.path: must not contain a NUL byte");
  CHECK(problem("[store]\ndirect_io = \"maybe\"") ==
        "t.toml:2: store.direct_io: \"maybe\" is none of \"auto\", \"on\", \"off\"");
  CHECK(problem("[store]\ndirect_io = true") ==
        "t.toml:2: store.direct_io: must be one of \"auto\", \"on\", \"off\", not a boolean");
  CHECK(problem("[fuse]\nallow_other = \"true\"") ==
        "t.toml:2: fuse.allow_other: must be true or false, not a string");
  CHECK(problem("[fuse]\nmax_background = 1.5") ==
        "t.toml:2: fuse.max_background: must be a whole number, not a fraction");
  CHECK(problem("[fuse]\nmax_background = -1") == "t.toml:2: fuse.max_background: -1 is negative");
  CHECK(problem("[fuse]\nmax_background = 0") ==
        "t.toml:2: fuse.max_background: 0 is too little; at least 1");
  CHECK(problem("[fuse]\nmax_background = 99999999999") ==
        "t.toml:2: fuse.max_background: 99999999999 is too much; at most 65535");
  CHECK(problem("[fuse]\nmax_request = \"2MiB\"") ==
        "t.toml:2: fuse.max_request: 2MiB is too much; at most 1MiB");
  CHECK(problem("[fuse]\nentry_timeout = \"48h\"") ==
        "t.toml:2: fuse.entry_timeout: 48h is too much; at most 24h");
  CHECK(problem("[fuse]\nentry_timeout = 2024-01-01").find("not a date or time") !=
        std::string::npos);
  CHECK(problem("[nbd]\nlisten = \"unix:/a\"") ==
        "t.toml:2: nbd.listen: must be a list of strings such as [\"a\", \"b\"], not a string");
  CHECK(problem("[nbd]\nlisten = [1]").find("not a list of other things") != std::string::npos);
  CHECK(problem("[nbd]\nlisten = [\"/run/a.sock\"]") ==
        "t.toml:2: nbd.listen: bad address \"/run/a.sock\": it must be \"unix:/PATH\" or "
        "\"tcp:HOST:PORT\"");
  CHECK(problem("[nbd]\nlisten = [\"unix:/a\", \"unix:/a\"]") ==
        "t.toml:2: nbd.listen: unix:/a twice");
  CHECK(problem("[nbd]\nexports = [\"\"]") == "t.toml:2: nbd.exports: an empty string in the list");
  CHECK(problem("[metrics]\nlisten = \"unix:/a\"").find("only TCP") != std::string::npos);
  CHECK(problem("[metrics]\nlisten = \"127.0.0.1\"").find("no port") != std::string::npos);
  CHECK(problem("[log]\nlevel = \"loud\"").find("\"debug\", \"info\"") != std::string::npos);
}

TEST_CASE("what TOML itself forbids is told with line and column") {
  CHECK(problem("[store]\nmemory = \"1GiB\n").starts_with("t.toml:2:"));
  CHECK(problem("[store]\nmemory = \"1GiB\"\nmemory = \"2GiB\"\n").starts_with("t.toml:3:"));
  CHECK(problem("[store\n").starts_with("t.toml:1:"));
  CHECK(problem("a = \xff\xfe\n").starts_with("t.toml:1:"));
  const std::string deep = "a = " + std::string(100000, '[');
  CHECK(problem(deep).starts_with("t.toml:1:"));
}

TEST_CASE("problems come in the order of the file, and a message is one short line") {
  const ConfigResult result =
      parse("[store]\nz = 1\ndisk = 1\n[fuse]\nx = 1\n[bad]\n[nbd]\n\"a\\nb\" = 1\n");
  REQUIRE(result.problems.size() == 5);
  CHECK(result.problems[0].starts_with("t.toml:2: store.z"));
  CHECK(result.problems[1].starts_with("t.toml:3: store.disk"));
  CHECK(result.problems[2].starts_with("t.toml:5: fuse.x"));
  CHECK(result.problems[3].starts_with("t.toml:6: [bad]"));
  CHECK(result.problems[4] == "t.toml:8: nbd.a?b: unknown key");
  CHECK(problem("[store]\n" + std::string(5000, 'k') + " = 1").size() < 300);
  CHECK(problem("[store]\nmemory = \"" + std::string(5000, '9') + "\"").size() < 300);
}

TEST_CASE("what this version does not serve is refused, never ignored") {
  CHECK(problem("[[origin]]\nname = \"hub\"\ntype = \"ftp\"\n").find("is no type of origin") !=
        std::string::npos);
  CHECK(problem("[cluster]\nregistry = \"redis://h:1/0\"").find("serves no cluster") !=
        std::string::npos);
  CHECK(problem("[cluster]\npeers = [\"b=tcp:192.0.2.2:7440\"]") ==
        "t.toml:2: cluster.peers: this version serves no cluster; leave the list empty");
  CHECK(problem("[nbd]\ntls = \"require\"") ==
        "t.toml:2: nbd.tls: needs nbd.tls_certificates or nbd.tls_psk");
  CHECK(problem("[nbd]\ntls = \"perhaps\"").find("none of") != std::string::npos);
  CHECK(problem("[nbd]\ntls_certificates = \"/etc/x\"").find("nbd.tls is \"off\"") !=
        std::string::npos);
  CHECK(problem("[nbd]\ntls_psk = \"/etc/x\"").find("nbd.tls is \"off\"") != std::string::npos);
  CHECK(problem("[nbd]\ntls = \"allow\"\ntls_psk = \"/p\"\ntls_verify_clients = true")
            .find("needs nbd.tls_certificates") != std::string::npos);
  const std::string without = problem("[fuse]\npassthrough = \"on\"");
  CHECK(without == (can_pass_through()
                        ? ""
                        : "t.toml:2: fuse.passthrough: this program was built with a libfuse that "
                          "has no passthrough, which 3.17 has"));
  CHECK(problem("[store]\neviction = \"lru\"") ==
        "t.toml:2: store.eviction: \"lru\" is none of \"s3-tinylfu\", \"s3-fifo\", \"w-tinylfu\", "
        "\"sieve\", \"clock\"");
  for (const std::string_view name : page::eviction_policy_names()) {
    CHECK(problem(fmt::format("[store]\neviction = \"{}\"", name)).empty());
  }
  CHECK(Config().store.eviction == page::kDefaultEvictionPolicy);
  CHECK(problem("[cluster]\nregistry = \"static\"\nnode = \"a\"\naddress = \"tcp:192.0.2.1:7440\"\n"
                "peers = []\nreplicas = 2\n")
            .empty());
}

TEST_CASE("a listener that strangers reach unguarded is refused on every door") {
  CHECK(
      problem("[nbd]\nlisten = [\"tcp:0.0.0.0:10809\"]") ==
      "t.toml:2: nbd.listen: tcp:0.0.0.0:10809 lets other machines in unguarded; require TLS with "
      "nbd.tls_verify_clients or nbd.tls_psk, listen on 127.0.0.1, or set nbd.insecure = true");
  CHECK(problem("[grpc]\nlisten = [\"tcp:[::]:7440\"]")
            .starts_with("t.toml:2: grpc.listen: tcp:[::]:7440 lets"));
  CHECK(problem("[metrics]\nlisten = \"0.0.0.0:9440\"").starts_with("t.toml:2: metrics.listen: "));
  CHECK(problem("[nbd]\nlisten = [\"tcp:0.0.0.0:10809\"]\ninsecure = true").empty());
  CHECK(problem("[grpc]\nlisten = [\"tcp:[::]:7440\"]\ninsecure = true").empty());
  CHECK(problem("[metrics]\nlisten = \"0.0.0.0:9440\"\ninsecure = true").empty());
  CHECK(problem("[grpc]\nlisten = [\"tcp:[::]:7440\"]\ntoken_file = \"/t\"").empty());
  // Whoever may come without showing who he is is as good as nobody we know.
  const std::string nbd = "[nbd]\nlisten = [\"tcp:[::]:10809\"]\n";
  CHECK(problem(nbd).find("lets other machines in unguarded") != std::string::npos);
  CHECK(problem(nbd + "tls = \"require\"\ntls_certificates = \"/c\"").find("unguarded") !=
        std::string::npos);
  CHECK(problem(nbd + "tls = \"allow\"\ntls_psk = \"/p\"").find("unguarded") != std::string::npos);
  CHECK(problem(nbd + "tls = \"require\"\ntls_psk = \"/p\"").empty());
  CHECK(problem(nbd + "tls = \"require\"\ntls_certificates = \"/c\"\ntls_psk = \"/p\"")
            .find("unguarded") != std::string::npos);
  CHECK(problem(nbd + "tls = \"require\"\ntls_certificates = \"/c\"\ntls_verify_clients = true")
            .empty());
  const std::string tls =
      "[grpc]\nlisten = [\"tcp:[::]:7440\"]\ntls_certificate = \"/c\"\ntls_key = \"/k\"\n";
  CHECK(problem(tls).find("configure grpc.tls_client_ca or grpc.token_file") != std::string::npos);
  CHECK(problem(tls + "tls_client_ca = \"/a\"").empty());
  CHECK(problem("[nbd]\nlisten = [\"tcp:127.0.0.1:1\", \"tcp:[::1]:1\", \"tcp:localhost:2\"]")
            .empty());
  // One door's guard is not another's.
  CHECK_FALSE(problem("[nbd]\nlisten = [\"tcp:0.0.0.0:1\"]\n[grpc]\ntoken_file = \"/t\"").empty());
}

TEST_CASE("keys that need one another") {
  CHECK(problem("[grpc]\ntls_certificate = \"/c\"").find("go together") != std::string::npos);
  CHECK(problem("[grpc]\ntls_key = \"/k\"").find("go together") != std::string::npos);
  CHECK(problem("[grpc]\ntls_client_ca = \"/a\"").find("needs grpc.tls_certificate") !=
        std::string::npos);
  CHECK(problem("[grpc]\nstream_window = \"64MiB\"").find("must not be larger") !=
        std::string::npos);
  CHECK(problem("[fuse]\nmax_request = \"5000\"") ==
        "t.toml:2: fuse.max_request: must be whole pages of 4KiB");
  CHECK(problem("[prefetch]\nbudget = \"32MiB\"").find("must not be larger") != std::string::npos);
  CHECK(problem("[nbd]\nlisten = [\"unix:/s\"]\n[grpc]\nlisten = [\"unix:/s\"]")
            .find("in grpc.listen too") != std::string::npos);
}

TEST_CASE("paths that a working directory would change, and a mountpoint on the store") {
  CHECK(problem("[store]\npath = \"data/store\"") ==
        "t.toml:2: store.path: \"data/store\": must be an absolute path (begin with a slash)");
  CHECK(problem("[fuse]\nmountpoint = \"./mnt\"") ==
        "t.toml:2: fuse.mountpoint: \"./mnt\": must be an absolute path (begin with a slash)");
  CHECK(problem("", {"store.path=store"}) ==
        "--set: store.path: \"store\": must be an absolute path (begin with a slash)");
  CHECK(problem("", {"fuse.mountpoint=mnt"}).starts_with("--set: fuse.mountpoint: \"mnt\": must"));
  CHECK(problem("", {"grpc.listen=unix:s"}).find("needs an absolute path") != std::string::npos);
  CHECK(problem("[nbd]\nlisten = [\"unix:a/s\"]").starts_with("t.toml:2: nbd.listen: bad address"));
  CHECK(problem("[fuse]\nmountpoint = \"\"").empty());

  const auto mounted = [](const std::string& mountpoint) {
    return problem("[store]\npath = \"/no/such/s\"\n[fuse]\nmountpoint = \"" + mountpoint + "\"");
  };
  CHECK(mounted("/no/such/s") ==
        "t.toml:4: fuse.mountpoint: /no/such/s: it is the store, /no/such/s");
  CHECK(
      mounted("/no/such/s/objects/../m") ==
      "t.toml:4: fuse.mountpoint: /no/such/s/objects/../m: it lies beneath the store, /no/such/s");
  CHECK(mounted("/no//such/") ==
        "t.toml:4: fuse.mountpoint: /no//such/: it contains the store, /no/such/s");
  CHECK(mounted("/").find("it contains the store") != std::string::npos);
  CHECK(mounted("/no/such/s2").empty());
  CHECK(mounted("/no/such/s/../m").empty());
  CHECK(mounted("/no/such/m").empty());
}

TEST_CASE("a subtree is a path of the tree") {
  CHECK(problem("[fuse]\nsubtree = \"files/a\"").empty());
  CHECK(problem("[fuse]\nsubtree = \"\"").empty());
  CHECK(problem("[fuse]\nsubtree = \"files/../a\"").starts_with("t.toml:2: fuse.subtree: "));
  CHECK(problem("[fuse]\nsubtree = \"files//a\"").starts_with("t.toml:2: fuse.subtree: "));
}

TEST_CASE("a mountpoint on the store is seen through symbolic links") {
  std::string directory = (std::filesystem::temp_directory_path() / "blobcache.XXXXXX").string();
  REQUIRE(::mkdtemp(directory.data()) != nullptr);
  std::filesystem::create_directory(directory + "/store");
  std::filesystem::create_directory_symlink(directory + "/store", directory + "/link");
  CHECK(problem("", {"store.path=" + directory + "/store",
                     "fuse.mountpoint=" + directory + "/link/mnt"})
            .find("it lies beneath the store") != std::string::npos);
  CHECK(problem("",
                {"store.path=" + directory + "/link/s", "fuse.mountpoint=" + directory + "/store"})
            .find("it contains the store") != std::string::npos);
  std::filesystem::remove_all(directory);
}

TEST_CASE("a group that is not there, and export patterns that cannot be") {
  CHECK(problem("[grpc]\nadmin_group = \"no_such_group\"") ==
        "t.toml:2: grpc.admin_group: there is no group \"no_such_group\"");
  CHECK(problem("[grpc]\nadmin_group = \"root\"").empty());
  CHECK(problem("[nbd]\nexports = [\"**\", \"[\"]") ==
        "t.toml:2: nbd.exports: export pattern \"[\": brackets have no meaning here; \"?\" stands "
        "for "
        "any one character");
  CHECK(problem("", {"nbd.exports=/a"}).starts_with("--set: nbd.exports: export pattern \"/a\": "));
}

TEST_CASE("KEY=VALUE texts go over the file, with or without TOML's quotes") {
  const ConfigResult result = parse(
      "[store]\nmemory = \"1GiB\"\n",
      {"store.memory=2GiB", "store.path=\"/a b\"", "fuse.allow_other=true", "fuse.max_background=9",
       "nbd.listen=unix:/a,tcp:127.0.0.1:0", "grpc.listen=[]", "nbd.exports=[\"files/a,b\"]",
       "metrics.listen=", "store.unnamed_ttl=1h", "nbd.default_export=files/x=y"});
  REQUIRE_MESSAGE(result.problems.empty(), result.problems.front());
  CHECK(result.config.store.memory.bytes == uint64_t{2} << 30);
  CHECK(result.config.store.path == "/a b");
  CHECK(result.config.fuse.allow_other);
  CHECK(result.config.fuse.max_background == 9);
  CHECK(result.config.nbd.listen.size() == 2);
  CHECK(result.config.grpc.listen.empty());
  CHECK(result.config.nbd.exports == std::vector<std::string>{"files/a,b"});
  CHECK_FALSE(result.config.metrics.listen.has_value());
  CHECK(result.config.nbd.default_export == "files/x=y");
}

TEST_CASE("mistakes in KEY=VALUE texts") {
  CHECK(problem("", {"store.memry=1GiB"}) ==
        "--set: store.memry: unknown key (did you mean \"store.memory\"?)");
  CHECK(problem("", {"store.memory=12Q"}) ==
        "--set: store.memory: bad size \"12Q\": unknown unit; use KiB, MiB, GiB, TiB or PiB");
  CHECK(problem("", {"store.memory"}) ==
        "--set: \"store.memory\": must be KEY=VALUE, as in store.memory=2GiB");
  CHECK(problem("", {"store=1"}).starts_with("--set: store: unknown key"));
  CHECK(problem("", {"fuse.allow_other=yes"}) ==
        "--set: fuse.allow_other: must be true or false, not \"yes\"");
  CHECK(problem("", {"fuse.max_background=9x"}) ==
        "--set: fuse.max_background: must be a whole number, not \"9x\"");
  CHECK(problem("", {"nbd.exports=[\"a\""}).find("not a TOML value") != std::string::npos);
  CHECK(problem("", {"store.path=\"a\"\nb = \"c\""}).find("not a TOML value") != std::string::npos);
  CHECK(problem("", {"nbd.listen=tcp:0.0.0.0:1"})
            .starts_with("--set: nbd.listen: tcp:0.0.0.0:1 lets"));
}

TEST_CASE("a mount that holds writes back is of files/ and can be written") {
  const std::string bad = "--set: fuse.writeback_cache: ";
  CHECK(problem("", {"fuse.writeback_cache=true"}) == bad + "needs a fuse.subtree within files/");
  CHECK(problem("", {"fuse.writeback_cache=true", "fuse.subtree=volumes"}) ==
        bad + "needs a fuse.subtree within files/");
  CHECK(problem("", {"fuse.writeback_cache=true", "fuse.subtree=files", "fuse.read_only=true"}) ==
        bad + "excludes fuse.read_only");
  const ConfigResult good = parse("", {"fuse.writeback_cache=true", "fuse.subtree=files/a"});
  REQUIRE_MESSAGE(good.problems.empty(), good.problems.front());
  CHECK(good.config.fuse.writeback_cache);
  CHECK_FALSE(Config{}.fuse.writeback_cache);
}

TEST_CASE("a configuration that is printed reads back the same") {
  const ConfigResult changed =
      parse("", {"store.memory=60%", "store.disk=100000001", "store.unnamed_ttl=1h30m",
                 "fuse.mountpoint=/m", "fuse.subtree=files/a b", "fuse.read_only=true",
                 "nbd.default_export=\"a\\\"b\\\\c\\u0001\"", "nbd.listen=tcp:[::1]:7",
                 "metrics.listen=[::1]:8", "log.level=warning", "store.direct_io=off",
                 "fuse.passthrough=off"});
  REQUIRE_MESSAGE(changed.problems.empty(), changed.problems.front());
  const std::array<Config, 2> configs = {Config{}, changed.config};
  for (const Config& config : configs) {
    const std::string toml = config_to_toml(config);
    const ConfigResult again = parse(toml);
    REQUIRE_MESSAGE(again.problems.empty(), again.problems.front());
    CHECK(config_to_toml(again.config) == toml);
    CHECK(changed_keys(config, again.config).empty());
  }
  CHECK(changed_keys(Config{}, changed.config).size() == 12);
}

TEST_CASE("a share may have a space before its percent sign, as a size may before its unit") {
  const ConfigResult spaced = parse("", {"store.memory=60 %", "store.disk=1 GiB"});
  REQUIRE_MESSAGE(spaced.problems.empty(), spaced.problems.front());
  CHECK(config_to_toml(spaced.config) ==
        config_to_toml(parse("", {"store.memory=60%", "store.disk=1GiB"}).config));
  CHECK_FALSE(parse("", {"store.memory=6 0%"}).problems.empty());
  CHECK_FALSE(parse("", {"store.memory= %"}).problems.empty());
}

TEST_CASE("files that cannot be read are told by name") {
  CHECK(read_config({"/nonexistent/b.toml", {}}).problems ==
        std::vector<std::string>{"/nonexistent/b.toml: No such file or directory"});
  CHECK(read_config({"/", {}}).problems == std::vector<std::string>{"/: Is a directory"});
  CHECK(read_config({"/dev/zero", {}}).problems ==
        std::vector<std::string>{"/dev/zero: too long for a configuration (over 1 MiB)"});
  const absl::StatusOr<Config> loaded = load_config({"/nonexistent/b.toml", {}});
  CHECK(loaded.status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("every key has a name of its own, a help text and a default that it takes back") {
  std::set<std::string> names;
  for (const ConfigKey& key : config_keys()) {
    INFO(key.full_name());
    CHECK(names.insert(key.full_name()).second);
    CHECK_FALSE(key.help.empty());
    CHECK_FALSE(key.help.ends_with('.'));
    CHECK(find_config_key(key.section, key.name) == &key);
  }
  CHECK(find_config_key("store", "nothing") == nullptr);
}

/// What the manual says of one key: from its item to the next one.
std::string manual_item(const std::string& manual, const ConfigKey& key) {
  const size_t section = manual.find(fmt::format(".Ss Section {}\n", key.section));
  REQUIRE(section != std::string::npos);
  const std::string text = manual.substr(section, manual.find("\n.Ss ", section) - section);
  const size_t item = text.find(fmt::format(".It Ic {}\n", key.name));
  REQUIRE(item != std::string::npos);
  return text.substr(item, text.find("\n.It ", item) - item);
}

TEST_CASE("the manual has every key, with its default and when it takes effect") {
  const std::filesystem::path root = BLOBCACHE_SOURCE_DIR;
  const std::string manual = read_text(root / "man/blobcached.toml.5");
  for (const ConfigKey& key : config_keys()) {
    INFO(key.full_name());
    const std::string item = manual_item(manual, key);
    const std::string value = key.print(Config{});
    if (value.empty()) {
      CHECK(item.find("Absent by default") != std::string::npos);
    } else {
      CHECK(item.find(fmt::format("Default {}", value)) != std::string::npos);
    }
    CHECK((item.find("Reloadable.") != std::string::npos) == (key.effect == Effect::kReload));
    CHECK((item.find("Reserved.") != std::string::npos) == (key.effect == Effect::kReserved));
  }
}

TEST_CASE("the packaged file has every key, commented out, with its default") {
  const std::filesystem::path root = BLOBCACHE_SOURCE_DIR;
  const std::string packaged = read_text(root / "packaging/blobcached.toml");
  const ConfigResult result = parse(packaged);
  CHECK(result.problems.empty());
  CHECK(changed_keys(Config{}, result.config).empty());
  for (const ConfigKey& key : config_keys()) {
    INFO(key.full_name());
    const std::string value = key.print(Config{});
    const size_t section = packaged.find(fmt::format("\n[{}]\n", key.section));
    REQUIRE(section != std::string::npos);
    const std::string text = packaged.substr(section, packaged.find("\n[", section + 1) - section);
    // A key that is absent by default shows an example.
    const std::string line = value.empty() ? fmt::format("\n# {} = \"/", key.name)
                                           : fmt::format("\n# {} = {}\n", key.name, value);
    CHECK(text.find(line) != std::string::npos);
  }
}

}  // namespace
}  // namespace blobcache::server
