#include "server/ctl/mount_helper.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/mount_call.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/outcome.h"
#include "server/ctl/session.h"
#include "server/ctl/text.h"
#include "server/version.h"

namespace blobcache::ctl {
namespace {

constexpr std::string_view kHelperName = "mount.blobcache";
/// What /proc/mounts shows as the source, so that mount -a knows what is mounted already.
constexpr std::string_view kSource = "blobcache";
constexpr uint32_t kLongestWaitSeconds = 3600;
constexpr absl::Duration kUsualWait = absl::Seconds(30);

constexpr const char* kHelperUsage =
    "Usage: mount.blobcache blobcache MOUNTPOINT [-sfnvrw] [-o OPTIONS]\n"
    "Has blobcached mount its tree; mount(8) calls it for the type blobcache.\n"
    "Options: ro, rw, subtree=PATH, noexec, writeback_cache, endpoint=unix:/PATH,\n"
    "wait[=SECONDS]\n"
    "mount.blobcache(8) tells about them.\n";

enum class MountExit : int { kDone = 0, kNotUnderstood = 1, kFailed = 32 };

/// What is for mount(8), for systemd or for those who read /etc/fstab, or holds in any case.
constexpr auto kIgnored = std::to_array<std::string_view>({"defaults",
                                                           "auto",
                                                           "noauto",
                                                           "user",
                                                           "users",
                                                           "nouser",
                                                           "owner",
                                                           "noowner",
                                                           "group",
                                                           "nogroup",
                                                           "_netdev",
                                                           "nofail",
                                                           "nosuid",
                                                           "nodev",
                                                           "async",
                                                           "atime",
                                                           "noatime",
                                                           "diratime",
                                                           "nodiratime",
                                                           "relatime",
                                                           "norelatime",
                                                           "strictatime",
                                                           "nostrictatime",
                                                           "lazytime",
                                                           "nolazytime",
                                                           "silent",
                                                           "loud",
                                                           "nomand",
                                                           "default_permissions"});

/// What somebody may well want and cannot have here, and why.
constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kRefused = {{
    {"suid", "a mount of blobcache has no set-user-ID programs"},
    {"dev", "a mount of blobcache has no devices"},
    {"allow_other", "fuse.allow_other of the daemon's configuration says who may enter"},
    {"remount", "a mount cannot be changed; unmount it, and mount it again"},
    {"bind", "mount --bind needs no type"},
}};

absl::Status not_valid(std::string_view why) {
  return base::error(absl::StatusCode::kInvalidArgument, why);
}

/// The options in "a,b=c,d=\"e,f\"". Quotes keep a comma in a value, as mount(8) has it, and go.
absl::StatusOr<std::vector<std::string>> split_options(std::string_view text) {
  std::vector<std::string> out(1);
  bool quoted = false;
  for (const char c : text) {
    if (c == '"') {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      out.emplace_back();
    } else {
      out.back().push_back(c);
    }
  }
  if (quoted) return not_valid("-o: a quotation mark is missing");
  std::erase(out, "");
  return out;
}

bool is_ignored(std::string_view name) {
  return name.starts_with("x-") || name.starts_with("X-") || name == "comment" ||
         std::find(kIgnored.begin(), kIgnored.end(), name) != kIgnored.end();
}

absl::Status take_wait(const std::optional<std::string>& value, MountOrder& order) {
  order.wait = kUsualWait;
  if (!value.has_value()) return absl::OkStatus();
  uint32_t seconds = 0;
  if (!absl::SimpleAtoi(*value, &seconds) || seconds > kLongestWaitSeconds) {
    return not_valid(fmt::format("option wait={}: must be 0 to {} seconds", escape(*value),
                                 kLongestWaitSeconds));
  }
  order.wait = absl::Seconds(seconds);
  return absl::OkStatus();
}

absl::Status take_endpoint(const std::string& value, MountOrder& order) {
  const absl::StatusOr<base::ListenAddress> address = parse_endpoint(value);
  if (!address.ok()) return base::annotate(address.status(), "option endpoint");
  // A daemon mounts where it runs.
  if (address->kind != base::ListenAddress::Kind::kUnix) {
    return not_valid(fmt::format("option endpoint={}: must be a unix socket", escape(value)));
  }
  order.endpoint = value;
  return absl::OkStatus();
}

absl::Status take_subtree(const std::string& value, MountOrder& order) {
  absl::StatusOr<std::string> subtree = parse_path(value);
  if (!subtree.ok()) return base::annotate(subtree.status(), "option subtree");
  order.subtree = *std::move(subtree);
  return absl::OkStatus();
}

/// One option of -o. False when nobody knows it.
absl::StatusOr<bool> take_option(const std::string& text, MountOrder& order) {
  const size_t equals = text.find('=');
  const std::string name = text.substr(0, equals);
  std::optional<std::string> value;
  if (equals != std::string::npos) value = text.substr(equals + 1);
  const bool alone = !value.has_value();
  absl::Status status;
  if (name == "ro" && alone) {
    order.read_only = true;
  } else if (name == "rw" && alone) {
    order.read_only = false;
  } else if (name == "noexec" && alone) {
    order.no_exec = true;
  } else if (name == "exec" && alone) {
    order.no_exec = false;
  } else if (name == "writeback_cache" && alone) {
    order.writeback_cache = true;
  } else if (name == "wait") {
    status = take_wait(value, order);
  } else if (name == "endpoint" && !alone) {
    status = take_endpoint(*value, order);
  } else if (name == "subtree" && !alone) {
    status = take_subtree(*value, order);
  } else if (!is_ignored(name)) {
    return false;
  }
  BLOBCACHE_RETURN_IF_ERROR(status);
  return true;
}

absl::Status unknown_option(const std::string& text) {
  const std::string name = text.substr(0, text.find('='));
  for (const auto& [refused, why] : kRefused) {
    if (name == refused) return not_valid(fmt::format("option {}: {}", name, why));
  }
  const bool wants_value = text == "endpoint" || text == "subtree";
  return not_valid(wants_value
                       ? fmt::format("option {} needs a value", text)
                       : fmt::format("unknown option {}; see mount.blobcache(8)", escape(text)));
}

/// The arguments as they are written: letters of flags may stand together, values may follow theirs
/// at once.
struct HelperArguments {
  std::vector<std::string> words;
  std::vector<std::string> options;  ///< of every -o, in their order
  bool sloppy = false;
};

absl::Status take_value(char flag, const std::string& value, HelperArguments& out) {
  if (flag == 't') {
    if (value == kSource || value == "fuse.blobcache") return absl::OkStatus();
    return not_valid(fmt::format("-t {}: the type is blobcache", escape(value)));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<std::string> options, split_options(value));
  out.options.insert(out.options.end(), options.begin(), options.end());
  return absl::OkStatus();
}

/// A flag without a value. False for what is none.
bool take_flag(char flag, MountOrder& order, HelperArguments& out) {
  switch (flag) {
    case 's':
      out.sloppy = true;
      return true;
    case 'f':
      order.fake = true;
      return true;
    case 'v':
      order.verbose = true;
      return true;
    case 'r':
      out.options.emplace_back("ro");
      return true;
    case 'w':
      out.options.emplace_back("rw");
      return true;
    case 'n':  // there is no /etc/mtab to be written
      return true;
    default:
      return false;
  }
}

absl::StatusOr<HelperArguments> read_arguments(const std::vector<std::string>& arguments,
                                               MountOrder& order) {
  HelperArguments out;
  bool only_words = false;
  for (auto at = arguments.begin(); at != arguments.end(); ++at) {
    if (only_words || at->size() < 2 || at->front() != '-') {
      out.words.push_back(*at);
      continue;
    }
    only_words = *at == "--";
    for (size_t i = 1; i < at->size() && !only_words; ++i) {
      const char flag = (*at)[i];
      if (take_flag(flag, order, out)) continue;
      if (flag != 'o' && flag != 't') {
        return not_valid(fmt::format("unknown option {}; see mount.blobcache(8)", escape(*at)));
      }
      std::string value = at->substr(i + 1);
      if (value.empty()) {
        if (++at == arguments.end()) return not_valid(fmt::format("-{} needs a value", flag));
        value = *at;
      }
      BLOBCACHE_RETURN_IF_ERROR(take_value(flag, value, out));
      break;
    }
  }
  return out;
}

void complain(std::string_view what) {
  (void)std::fputs(fmt::format("{}: {}\n", kHelperName, what).c_str(), stderr);
}

/// Has the daemon mount, and waits for a daemon that is not there yet.
absl::Status mount_as_ordered(const MountOrder& order) {
  v1::MountRequest request;
  request.set_mountpoint(order.mountpoint);
  request.set_subtree(order.subtree);
  request.set_read_only(order.read_only);
  request.set_no_exec(order.no_exec);
  request.set_writeback_cache(order.writeback_cache);
  constexpr absl::Duration kPause = absl::Milliseconds(200);
  const absl::Time end = absl::Now() + order.wait;
  while (true) {
    GlobalOptions options;
    options.endpoint = order.endpoint;
    Session session(std::move(options));
    const absl::StatusOr<base::ListenAddress> endpoint = session.endpoint();
    if (!endpoint.ok()) return endpoint.status();
    absl::Status status = ask_to_mount(request, session);
    const bool nobody = Outcome::failed("", status).exit == ExitStatus::kUnreachable;
    if (status.ok() || !nobody || absl::Now() + kPause > end) return status;
    absl::SleepFor(kPause);
  }
}

}  // namespace

absl::StatusOr<MountOrder> parse_mount_order(const std::vector<std::string>& arguments) {
  MountOrder order;
  BLOBCACHE_ASSIGN_OR_RETURN(const HelperArguments given, read_arguments(arguments, order));
  for (const std::string& option : given.options) {
    BLOBCACHE_ASSIGN_OR_RETURN(const bool known, take_option(option, order));
    if (!known && !given.sloppy) return unknown_option(option);
  }
  if (given.words.size() != 2) {
    return not_valid(given.words.size() < 2
                         ? "needs blobcache and a mountpoint"
                         : fmt::format("one argument too many, {}", escape(given.words[2])));
  }
  const std::string& source = given.words[0];
  if (source != kSource && source != "none") {
    return not_valid(
        fmt::format("source {}: must be blobcache; a directory of the tree is -o subtree=PATH",
                    escape(source)));
  }
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error);
  absl::StatusOr<std::string> mountpoint = absolute_path(given.words[1], here);
  if (!mountpoint.ok()) return base::annotate(mountpoint.status(), "mountpoint");
  order.mountpoint = *std::move(mountpoint);
  return order;
}

bool is_mount_helper(std::string_view program) {
  const size_t slash = program.rfind('/');
  return program.substr(slash == std::string_view::npos ? 0 : slash + 1) == kHelperName;
}

int run_mount_helper(const std::vector<std::string>& arguments) {
  const auto has = [&arguments](std::string_view option) {
    return std::find(arguments.begin(), arguments.end(), option) != arguments.end();
  };
  if (arguments.empty() || has("-h") || has("--help")) {
    return print(kHelperUsage).exit == ExitStatus::kDone ? 0 : static_cast<int>(MountExit::kFailed);
  }
  if (has("-V") || has("--version")) {
    const Outcome told = print(fmt::format("{} {}\n", kHelperName, server::version()));
    return told.exit == ExitStatus::kDone ? 0 : static_cast<int>(MountExit::kFailed);
  }
  const absl::StatusOr<MountOrder> order = parse_mount_order(arguments);
  if (!order.ok()) {
    complain(base::message(order.status()));
    return static_cast<int>(MountExit::kNotUnderstood);
  }
  const absl::Status status = order->fake ? absl::OkStatus() : mount_as_ordered(*order);
  if (!status.ok()) {
    complain(Outcome::failed(escape(order->mountpoint), status).message);
    const bool not_allowed = absl::IsPermissionDenied(status) || absl::IsUnauthenticated(status);
    return static_cast<int>(not_allowed ? MountExit::kNotUnderstood : MountExit::kFailed);
  }
  if (order->verbose) {
    const std::string what = order->subtree.empty() ? "the tree" : escape(order->subtree);
    (void)print(fmt::format("{}: {} on {}{}\n", kHelperName, what, escape(order->mountpoint),
                            order->read_only ? ", read-only" : ""));
  }
  return static_cast<int>(MountExit::kDone);
}

}  // namespace blobcache::ctl
