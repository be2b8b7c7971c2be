#include "server/ctl/command_line.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "server/ctl/impl/command_table.h"
#include "server/ctl/impl/completion_words.h"

namespace blobcache::ctl {
namespace {

/// Where nobody listens, so that a command line that is understood ends with kUnreachable.
const std::vector<std::string> kNowhere = {"--endpoint", "unix:/nonexistent/socket"};

Outcome run_at_nowhere(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), kNowhere.begin(), kNowhere.end());
  return run(arguments);
}

bool is_usage(const Outcome& outcome, std::string_view reason) {
  return outcome.exit == ExitStatus::kUsage && outcome.message.find(reason) != std::string::npos &&
         outcome.message.find('\n') == std::string::npos;
}

TEST_CASE("commands are understood") {
  const std::vector<std::vector<std::string>> lines = {
      {"put", "/dev/null", "--name", "a"},
      {"put", "-", "--name=a", "--quiet"},
      {"get", "files/a", "-o", "x", "--offset", "1KiB", "--length", "2"},
      {"get", "--", "-dash"},
      {"ls"},
      {"ls", "-lF", "files"},
      {"stat", "files/status"},
      {"stat", "status"},  // a path that is called like a command
      {"rm", "files/a", "ls"},
      {"pin", "files/a", "files/b"},
      {"unpin", "files/a"},
      {"evict", "--tier", "ram", "files/a", "files/b"},
      {"evict", "files/a", "--tier=disk"},
      {"status", "--json"},  // an option of every command, after the command
      {"exports"},
      {"mount", "mnt"},
      {"mount", "mnt", "--read-only", "--subtree", "/files/a/"},
      {"umount", "mnt"},
      {"attach", "files/a"},
      {"attach", "files/a", "--device", "/dev/nbd0", "--connections=2", "--timeout", "5"},
      {"attach", "sha256:" + std::string(64, '0'), "--dead-timeout", "60"},
      {"attach", "files/a", "--ublk", "--device", "/dev/ublkb0"},
      {"detach", "/dev/ublkb0"},
      {"scrub"},
      {"scrub", "files/a", "--rate", "1GiB"},
      {"gc", "-n", "--expire-now"},
      {"config", "show"},
  };
  for (const std::vector<std::string>& line : lines) {
    const Outcome outcome = run_at_nowhere(line);
    CAPTURE(line.front());
    CAPTURE(outcome.message);
    CHECK(outcome.exit == ExitStatus::kUnreachable);
    CHECK(outcome.message == "cannot reach unix:/nonexistent/socket: is blobcached running?");
  }
}

TEST_CASE("what cannot be understood is one line that says where to read on") {
  CHECK(is_usage(run({}), "a command is missing; see blobcachectl --help"));
  CHECK(is_usage(run({"frobnicate"}), "unknown command frobnicate; see blobcachectl --help"));
  CHECK(is_usage(run({"config"}), "config: a command is missing; see blobcachectl config --help"));
  CHECK(is_usage(run({"config", "frob"}), "unknown command frob"));
  CHECK(is_usage(run({"put"}), "FILE"));
  CHECK(is_usage(run({"put", "a", "b"}), "one argument too many, b"));
  CHECK(is_usage(run({"volume", "rm"}), "volume rm: VOLUME is required"));
  CHECK(is_usage(run({"ls", "--frob"}), "unknown option --frob"));
  CHECK(is_usage(run({"--frob", "ls"}), "unknown option --frob"));
  CHECK(is_usage(run({"get", "a", "-o"}), "-o"));
  CHECK(is_usage(run({"bad\nname"}), "unknown command bad\\nname"));
}

TEST_CASE("command line: what no volume can be is not asked about") {
  for (const char* name : {"a/b", "../a", "files/a", "volumes/a/b", "", "volumes/", ".."}) {
    CAPTURE(name);
    CHECK(run({"volume", "rm", name}).exit == ExitStatus::kUsage);
    CHECK(run({"volume", "clone", "a", name}).exit == ExitStatus::kUsage);
  }
  for (const char* size : {"0", "513", "1k1", "-1"}) {
    CAPTURE(size);
    CHECK(run({"volume", "create", "a", "--size", size}).exit == ExitStatus::kUsage);
  }
}

TEST_CASE("values that can never be right are usage errors before anyone is asked") {
  CHECK(is_usage(run_at_nowhere({"get", "sha256:12"}), "64 hex"));
  CHECK(is_usage(run_at_nowhere({"get", ""}), "empty"));
  CHECK(is_usage(run_at_nowhere({"get", "a", "--offset", "-1"}), "--offset"));
  CHECK(is_usage(run_at_nowhere({"get", "a", "--length=-1"}), "--length"));
  CHECK(is_usage(run_at_nowhere({"--json", "get", "a"}), "-o FILE"));
  CHECK(is_usage(run_at_nowhere({"put", "/dev/null", "--name", ""}), "empty name"));
  CHECK(is_usage(run_at_nowhere({"put", "/dev/null", "--name", "blobs/a"}), "files/blobs/a"));
  CHECK(is_usage(run_at_nowhere({"put", "/dev/null", "--digest", "12"}), "64 hex"));
  CHECK(is_usage(run_at_nowhere({"name", "a", "12"}), "64 hex"));
  CHECK(is_usage(run_at_nowhere({"rm", "a", ""}), "empty"));
  CHECK(is_usage(run_at_nowhere({"pin", "a", ""}), "empty"));
  CHECK(is_usage(run_at_nowhere({"unpin", "sha256:12"}), "64 hex"));
  CHECK(is_usage(run_at_nowhere({"evict", "a", "--tier", "l3"}), "ram, disk and all"));
  CHECK(is_usage(run_at_nowhere({"mount", ""}), "empty"));
  CHECK(is_usage(run_at_nowhere({"mount", "m", "--subtree", "files/../a"}), "--subtree"));
  CHECK(is_usage(run_at_nowhere({"umount", ""}), "empty"));
  CHECK(is_usage(run_at_nowhere({"attach", ""}), "empty"));
  CHECK(is_usage(run_at_nowhere({"attach", "files/../a"}), ".."));
  CHECK(is_usage(run_at_nowhere({"attach", "a", "--device", "/dev/sda"}), "/dev/nbd0"));
  CHECK(is_usage(run_at_nowhere({"attach", "a", "--connections", "0"}), "0"));
  CHECK(is_usage(run_at_nowhere({"attach", "a", "--timeout", "soon"}), "soon"));
  CHECK(is_usage(run_at_nowhere({"attach", "a", "--ublk", "--timeout", "1"}), "--timeout"));
  CHECK(
      is_usage(run_at_nowhere({"attach", "a", "--ublk", "--device", "/dev/nbd0"}), "/dev/ublkb0"));
  CHECK(is_usage(run_at_nowhere({"attach", "a", "--device", "/dev/ublkb0"}), "/dev/nbd0"));
  CHECK(is_usage(run_at_nowhere({"attach", "--device", "/dev/nbd0"}), "a path is missing"));
  CHECK(is_usage(run({"detach", "/dev/nbd0p1"}), "/dev/nbd0"));
  CHECK(is_usage(run({"detach"}), "DEVICE"));
  CHECK(is_usage(run({"--endpoint", "nonsense", "status"}), "--endpoint"));
  CHECK(is_usage(run({"completion", "csh"}), "bash"));
}

TEST_CASE("what fails on this side fails before anyone is asked") {
  CHECK(run_at_nowhere({"put", "/"}).exit == ExitStatus::kFailed);
  CHECK(run_at_nowhere({"put", "/nonexistent/file"}).exit == ExitStatus::kFailed);
  CHECK(run_at_nowhere({"config", "check", "/nonexistent/file"}).exit == ExitStatus::kFailed);
}

TEST_CASE("completion knows each command, its options and what its arguments are") {
  const CommandTable table;
  const std::vector<CommandWords> commands = completion_words(*table.app);
  const auto find = [&](std::string_view name) -> const CommandWords& {
    for (const CommandWords& command : commands) {
      if (command.name == name) return command;
    }
    FAIL("no such command");
    return commands.front();
  };
  CHECK(find("").commands.size() >= 12);
  CHECK(find("put").arguments.front().kind == "file");
  CHECK(find("get").arguments.front().kind == "path");
  CHECK(find("mount").arguments.front().kind == "directory");
  CHECK(find("completion").arguments.front().kind == "shell");
  CHECK(find("attach").arguments.front().kind == "path");
  CHECK(find("detach").arguments.front().kind == "file");
  CHECK(find("rm").repeats);
  CHECK(find("pin").repeats);
  CHECK(find("evict").arguments.front().kind == "path");
  CHECK_FALSE(find("stat").repeats);
  CHECK(find("config check").arguments.front().kind == "file");
  std::string kinds;
  for (const Word& option : find("get").options) kinds += option.name + "=" + option.kind + " ";
  CHECK(kinds.find("--output=file ") != std::string::npos);
  CHECK(kinds.find("--offset=text ") != std::string::npos);
}

TEST_CASE("completion scripts hold every command and option") {
  const CommandTable table;
  for (const char* const shell : {"bash", "zsh", "fish"}) {
    const absl::StatusOr<std::string> script = completion_script(shell);
    REQUIRE(script.ok());
    for (const CommandWords& command : completion_words(*table.app)) {
      CHECK(script->find(command.name) != std::string::npos);
      for (const Word& option : command.options) {
        CAPTURE(option.name);
        CHECK(script->find(option.name.substr(option.name.rfind('-') + 1)) != std::string::npos);
      }
    }
  }
}

}  // namespace
}  // namespace blobcache::ctl
