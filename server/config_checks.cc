#include "server/impl/config_checks.h"

#include <fmt/format.h>

#include <vector>

namespace blobcache::server {
namespace {

void check_listener(std::string_view section, const base::ListenAddress& address, bool guarded,
                    bool insecure, std::string_view remedy, const ReportProblem& report) {
  if (address.is_local() || guarded || insecure) return;
  report(fmt::format("{}.listen", section),
         fmt::format("{} lets other machines in unguarded; {} {}.insecure = true",
                     address.to_string(), remedy, section));
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
    check_listener("nbd", address, false, config.nbd.insecure, "listen on 127.0.0.1, or set",
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
  if (config.store.eviction != "s3-fifo") {
    report("store.eviction", fmt::format("\"{}\" is no policy of this version; use \"s3-fifo\"",
                                         config.store.eviction));
  }
  if (config.nbd.tls == "allow" || config.nbd.tls == "require") {
    report("nbd.tls", "this version does not serve NBD over TLS; use \"off\"");
  } else if (config.nbd.tls != "off") {
    report("nbd.tls",
           fmt::format("\"{}\" is none of \"off\", \"allow\", \"require\"", config.nbd.tls));
  }
  if (!config.nbd.tls_certificates.empty()) {
    report("nbd.tls_certificates", "this version does not serve NBD over TLS; leave it out");
  }
  if (config.cluster.registry != "static") {
    report("cluster.registry", fmt::format("\"{}\": this version serves no cluster; use \"static\"",
                                           config.cluster.registry));
  }
  if (!config.cluster.peers.empty()) {
    report("cluster.peers", "this version serves no cluster; leave the list empty");
  }
}

}  // namespace

void check_config(const Config& config, const ReportProblem& report) {
  check_served(config, report);
  check_grpc(config.grpc, report);
  check_listeners(config, report);
  check_shared_sockets(config, report);
  if (config.fuse.max_request % 4096 != 0) {
    report("fuse.max_request", "must be whole pages of 4KiB");
  }
  if (config.prefetch.max_window > config.prefetch.budget) {
    report("prefetch.max_window", "must not be larger than prefetch.budget");
  }
}

}  // namespace blobcache::server
