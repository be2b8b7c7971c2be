#include "server/impl/config_checks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <grp.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "base/resolve_links.h"
#include "base/size.h"
#include "base/status.h"
#include "blockdev/export_filter.h"
#include "server/impl/config_value.h"
#include "server/impl/origin_checks.h"
#include "server/limits.h"
#include "store/page/eviction.h"
#include "store/tree/path.h"

namespace blobcache::server {
namespace {

void check_listener(std::string_view section, const base::ListenAddress& address, bool guarded,
                    bool insecure, std::string_view remedy, const ReportProblem& report) {
  if (address.is_local() || guarded || insecure) return;
  report(fmt::format("{}.listen", section),
         fmt::format("{} lets other machines in unguarded; {} {}.insecure = true",
                     address.to_string(), remedy, section));
}

/// Whether every client has to show who it is.
bool knows_clients(const Config::Nbd& nbd) {
  if (nbd.tls != "require") return false;
  return nbd.tls_certificates.empty() ? !nbd.tls_psk.empty() : nbd.tls_verify_clients;
}

void check_nbd_tls(const Config::Nbd& nbd, const ReportProblem& report) {
  if (nbd.tls != "off" && nbd.tls != "allow" && nbd.tls != "require") {
    report("nbd.tls", fmt::format("\"{}\" is none of \"off\", \"allow\", \"require\"", nbd.tls));
  } else if (nbd.tls != "off" && nbd.tls_certificates.empty() && nbd.tls_psk.empty()) {
    report("nbd.tls", "needs nbd.tls_certificates or nbd.tls_psk");
  }
  if (nbd.tls == "off" && !nbd.tls_certificates.empty()) {
    report("nbd.tls_certificates", "nbd.tls is \"off\"; \"require\" makes use of it");
  }
  if (nbd.tls == "off" && !nbd.tls_psk.empty()) {
    report("nbd.tls_psk", "nbd.tls is \"off\"; \"require\" makes use of it");
  }
  if (nbd.tls_verify_clients && nbd.tls_certificates.empty()) {
    report("nbd.tls_verify_clients", "needs nbd.tls_certificates");
  }
}

void check_listeners(const Config& config, const ReportProblem& report) {
  // A certificate of the server's own tells clients who we are, and nothing of who they are.
  const bool grpc_guarded = !config.grpc.tls_client_ca.empty() || !config.grpc.token_file.empty();
  for (const base::ListenAddress& address : config.grpc.listen) {
    check_listener("grpc", address, grpc_guarded, config.grpc.insecure,
                   "configure grpc.tls_client_ca or grpc.token_file, listen on 127.0.0.1, or set",
                   report);
  }
  for (const base::ListenAddress& address : config.nbd.listen) {
    check_listener("nbd", address, knows_clients(config.nbd), config.nbd.insecure,
                   "require TLS with nbd.tls_verify_clients or nbd.tls_psk, listen on 127.0.0.1, "
                   "or set",
                   report);
  }
  if (config.metrics.listen.has_value()) {
    check_listener("metrics", *config.metrics.listen, false, config.metrics.insecure,
                   "listen on 127.0.0.1, or set", report);
  }
}

void check_grpc(const Config::Grpc& grpc, const ReportProblem& report) {
  if (grpc.tls_certificate.empty() != grpc.tls_key.empty()) {
    report(grpc.tls_key.empty() ? "grpc.tls_certificate" : "grpc.tls_key",
           "grpc.tls_certificate and grpc.tls_key go together");
  }
  if (!grpc.tls_client_ca.empty() && grpc.tls_certificate.empty()) {
    report("grpc.tls_client_ca", "needs grpc.tls_certificate and grpc.tls_key");
  }
  if (grpc.stream_window > grpc.connection_window) {
    report("grpc.stream_window", "must not be larger than grpc.connection_window");
  }
}

/// Budgets that this machine cannot give.
void check_budgets(const Config::Store& store, const ReportProblem& report) {
  if (store.disk_reserve.percent.value_or(0) >= 100) {
    report("store.disk_reserve", "100% leaves nothing of the file system to the store");
  }
  if (store.memory.percent.has_value()) return;
  const absl::StatusOr<MemoryLimit> limit = memory_limit();
  // A machine that does not tell its memory cannot be compared with.
  if (!limit.ok() || store.memory.bytes <= limit->bytes) return;
  report("store.memory", fmt::format("{} is more than this {}'s {}", exact_size(store.memory.bytes),
                                     limit->of_group ? "control group" : "machine",
                                     base::format_size(limit->bytes)));
}

/// The same socket for two doors would fail at start with a less helpful message.
void check_shared_sockets(const Config& config, const ReportProblem& report) {
  for (const base::ListenAddress& address : config.nbd.listen) {
    if (address.kind == base::ListenAddress::Kind::kTcp && address.port == 0) continue;
    for (const base::ListenAddress& other : config.grpc.listen) {
      if (address == other) {
        report("nbd.listen", fmt::format("{} is in grpc.listen too", address.to_string()));
      }
    }
  }
}

void check_served(const Config& config, const ReportProblem& report) {
  const std::span<const std::string_view> policies = page::eviction_policy_names();
  if (std::find(policies.begin(), policies.end(), config.store.eviction) == policies.end()) {
    report("store.eviction", fmt::format("\"{}\" is none of \"{}\"", config.store.eviction,
                                         fmt::join(policies, "\", \"")));
  }
  if (config.cluster.registry != "static") {
    report("cluster.registry", fmt::format("\"{}\": this version serves no cluster; use \"static\"",
                                           config.cluster.registry));
  }
  if (!config.cluster.peers.empty()) {
    report("cluster.peers", "this version serves no cluster; leave the list empty");
  }
}

void check_paths(const Config& config, const ReportProblem& report) {
  const absl::Status subtree = tree::split_path(config.fuse.subtree).status();
  if (!subtree.ok()) report("fuse.subtree", std::string(base::message(subtree)));
  // As fusefs has it.
  if (config.fuse.writeback_cache && !tree::is_within_files(config.fuse.subtree)) {
    report("fuse.writeback_cache", "needs a fuse.subtree within files/");
  }
  if (config.fuse.writeback_cache && config.fuse.read_only) {
    report("fuse.writeback_cache", "excludes fuse.read_only");
  }
  if (config.fuse.mountpoint.empty()) return;
  const absl::Status apart = check_apart(config.fuse.mountpoint, config.store.path);
  if (apart.ok()) return;
  report("fuse.mountpoint",
         fmt::format("{}: {}", config.fuse.mountpoint.native(), base::message(apart)));
}

/// What the machine, or a door, must make sense of.
void check_names(const Config& config, const ReportProblem& report) {
  if (!config.grpc.admin_group.empty()) {
    const absl::Status group = group_id(config.grpc.admin_group).status();
    if (!group.ok()) report("grpc.admin_group", std::string(base::message(group)));
  }
  const absl::Status patterns = blockdev::ExportFilter::parse(config.nbd.exports).status();
  if (!patterns.ok()) report("nbd.exports", std::string(base::message(patterns)));
}

bool is_within(const std::filesystem::path& path, const std::filesystem::path& directory) {
  return std::mismatch(directory.begin(), directory.end(), path.begin(), path.end()).first ==
         directory.end();
}

}  // namespace

absl::StatusOr<gid_t> group_id(const std::string& name) {
  std::array<char, 65536> buffer;
  group entry{};
  group* found = nullptr;
  const int error = ::getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found != nullptr) return found->gr_gid;
  if (error == 0) return absl::NotFoundError(fmt::format("there is no group \"{}\"", name));
  return base::errno_error(error, fmt::format("group \"{}\"", name));
}

absl::Status check_apart(const std::filesystem::path& mountpoint,
                         const std::filesystem::path& store) {
  const std::filesystem::path point = base::resolve_links(mountpoint);
  const std::filesystem::path pages = base::resolve_links(store);
  const char* how = nullptr;
  if (point == pages) {
    how = "is the store";
  } else if (is_within(point, pages)) {
    how = "lies beneath the store";
  } else if (is_within(pages, point)) {
    how = "contains the store";
  }
  if (how == nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(fmt::format("it {}, {}", how, store.native()));
}

void check_config(const Config& config, const ReportProblem& report) {
  check_served(config, report);
  check_budgets(config.store, report);
  check_grpc(config.grpc, report);
  check_nbd_tls(config.nbd, report);
  check_listeners(config, report);
  check_shared_sockets(config, report);
  check_paths(config, report);
  check_names(config, report);
  check_origins(config, report);
  if (config.fuse.max_request % 4096 != 0) {
    report("fuse.max_request", "must be whole pages of 4KiB");
  }
  if (config.prefetch.max_window > config.prefetch.budget) {
    report("prefetch.max_window", "must not be larger than prefetch.budget");
  }
}

}  // namespace blobcache::server
