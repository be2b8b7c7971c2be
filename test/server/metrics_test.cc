#include "server/metrics.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <map>
#include <set>
#include <string>

#include "base/unique_fd.h"
#include "server/impl/metric_families.h"
#include "server/status_page.h"

namespace blobcache::server {
namespace {

Snapshot sample() {
  Snapshot now;
  now.version = "9.8.7";
  now.pid = 4711;
  now.started = absl::FromUnixSeconds(1'000'000);
  now.store_path = "/srv/<script>&\"'";
  now.store.memory_hit_pages = 3;
  now.store.disk_hit_pages = 5;
  now.store.memory_evicted_extents = 2;
  now.store.disk_used_bytes = 1234567;
  now.counts = tree::Namespace::Counts{7, 8192, 9, 1};
  now.mounts = {{.mountpoint = "/mnt/a", .subtree = "files/<x>", .read_only = true}};
  now.listeners = {{"nbd", "unix:/run/<b>"}};
  now.fuse.requests = 11;
  now.nbd.bytes_out = 12;
  now.grpc.open = 13;
  now.scrub.checked_pages = 14;
  now.scrub.damaged_pages = 15;
  now.scrub.last.emplace();
  now.scrub.last->ended = absl::FromUnixSeconds(2'000'000);
  now.scrub.last->damaged_objects = 16;
  OriginState origin{"hub", "nbd <there>", {}};
  origin.health.tried = true;
  origin.health.connections = 17;
  origin.health.bytes_read = 18;
  now.origins.push_back(origin);
  origin = {"far", "nbd", {}};
  origin.health.reachable = false;
  origin.health.tried = true;
  origin.health.trouble = "no <route>";
  now.origins.push_back(origin);
  now.origins.push_back({"new", "nbd", {}});
  return now;
}

class FixedSource final : public SnapshotSource {
 public:
  Snapshot snapshot() override { return sample(); }
};

double value_of(const std::vector<prometheus::MetricFamily>& families, std::string_view name,
                std::string_view label) {
  for (const prometheus::MetricFamily& family : families) {
    if (family.name != name) continue;
    for (const prometheus::ClientMetric& metric : family.metric) {
      if (!label.empty() && metric.label.at(0).value != label) continue;
      return family.type == prometheus::MetricType::Counter ? metric.counter.value
                                                            : metric.gauge.value;
    }
  }
  return -1;
}

TEST_CASE("metrics carry the snapshot's numbers") {
  const auto families = metric_families(sample());
  CHECK(value_of(families, "blobcache_read_pages_total", "L0") == 3);
  CHECK(value_of(families, "blobcache_read_pages_total", "L1") == 5);
  CHECK(value_of(families, "blobcache_read_pages_total", "L2") == 0);
  CHECK(value_of(families, "blobcache_tier_evicted_bytes_total", "L0") == 524288);
  CHECK(value_of(families, "blobcache_tier_used_bytes", "L1") == 1234567);
  CHECK(value_of(families, "blobcache_blobs", "") == 7);
  CHECK(value_of(families, "blobcache_origin_reachable", "hub") == 1);
  CHECK(value_of(families, "blobcache_origin_reachable", "far") == 0);
  CHECK(value_of(families, "blobcache_origin_reachable", "new") == -1);
  CHECK(value_of(families, "blobcache_origin_connections", "hub") == 17);
  CHECK(value_of(families, "blobcache_origin_read_bytes_total", "hub") == 18);
  CHECK(value_of(families, "blobcache_door_requests_total", "fuse") == 11);
  CHECK(value_of(families, "blobcache_door_sent_bytes_total", "nbd") == 12);
  CHECK(value_of(families, "blobcache_door_open", "grpc") == 13);
  CHECK(value_of(families, "blobcache_mounts", "") == 1);
  CHECK(value_of(families, "blobcache_scrub_checked_pages_total", "") == 14);
  CHECK(value_of(families, "blobcache_scrub_damaged_pages_total", "") == 15);
  CHECK(value_of(families, "blobcache_scrub_running", "") == 0);
  CHECK(value_of(families, "blobcache_scrub_last_end_time_seconds", "") == 2'000'000);
  CHECK(value_of(families, "blobcache_scrub_last_damaged_objects", "") == 16);
  CHECK(value_of(families, "blobcache_start_time_seconds", "") == 1'000'000);
  CHECK(value_of(families, "blobcache_build_info", "9.8.7") == 1);
}

TEST_CASE("metrics follow Prometheus's conventions") {
  std::set<std::string> names;
  for (const prometheus::MetricFamily& family : metric_families(sample())) {
    INFO(family.name);
    CHECK(names.insert(family.name).second);
    CHECK(family.name.starts_with("blobcache_"));
    CHECK(family.help.ends_with('.'));
    CHECK(family.name.ends_with("_total") == (family.type == prometheus::MetricType::Counter));
    for (const prometheus::ClientMetric& metric : family.metric) {
      for (const prometheus::ClientMetric::Label& label : metric.label) {
        const std::map<std::string, std::set<std::string>> known = {
            {"tier", {"L0", "L1", "L2"}},
            {"door", {"fuse", "nbd", "grpc"}},
            {"origin", {"hub", "far", "new"}},
            {"end", {"used", "evicted", "failed"}},
            {"version", {"9.8.7"}}};
        CHECK(known.at(label.name).contains(label.value));
      }
    }
  }
}

TEST_CASE("without a catalog the other metrics remain") {
  Snapshot now = sample();
  now.counts.reset();
  const auto families = metric_families(now);
  CHECK(value_of(families, "blobcache_blobs", "") == -1);
  CHECK(value_of(families, "blobcache_read_pages_total", "L0") == 3);
  CHECK(status_page(now, absl::Now()).find("does not answer") != std::string::npos);
}

TEST_CASE("the status page escapes what comes from outside") {
  const std::string page = status_page(sample(), absl::FromUnixSeconds(1'003'661));
  CHECK(page.find("nbd &lt;there&gt;") != std::string::npos);
  CHECK(page.find("away: no &lt;route&gt;") != std::string::npos);
  CHECK(page.find("<script>") == std::string::npos);
  CHECK(page.find("/srv/&lt;script&gt;&amp;&quot;&#39;") != std::string::npos);
  CHECK(page.find("unix:/run/&lt;b&gt;") != std::string::npos);
  CHECK(page.find("up 1h1m1s") != std::string::npos);
  CHECK(page.find("http://") == std::string::npos);
  CHECK(page.find("https://") == std::string::npos);
}

/// Sends one request to 127.0.0.1 and returns all that comes back.
std::string ask(uint16_t port, const std::string& request) {
  const base::UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const auto* generic = static_cast<const sockaddr*>(static_cast<const void*>(&address));
  REQUIRE(::connect(fd.get(), generic, sizeof(address)) == 0);
  REQUIRE(::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) ==
          static_cast<ssize_t>(request.size()));
  std::string reply;
  std::array<char, 4096> buffer;
  for (ssize_t got = 0; (got = ::read(fd.get(), buffer.data(), buffer.size())) > 0;) {
    reply.append(buffer.data(), static_cast<size_t>(got));
  }
  return reply;
}

base::ListenAddress loopback(uint16_t port) {
  return {base::ListenAddress::Kind::kTcp, "", "127.0.0.1", port};
}

TEST_CASE("the server answers /metrics and /, and nothing else") {
  FixedSource source;
  auto server = MetricsServer::start(loopback(0), source);
  REQUIRE_MESSAGE(server.ok(), server.status().ToString());
  const uint16_t port = (*server)->address().port;
  REQUIRE(port != 0);

  const std::string metrics = ask(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(metrics.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(metrics.find("Content-Type: text/plain; version=0.0.4") != std::string::npos);
  CHECK(metrics.find("\n# TYPE blobcache_read_pages_total counter\n") != std::string::npos);
  CHECK(metrics.find("\nblobcache_read_pages_total{tier=\"L1\"} 5\n") != std::string::npos);

  const std::string page = ask(port, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(page.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(page.find("Content-Security-Policy: default-src 'none'") != std::string::npos);
  CHECK(page.ends_with("</body></html>\n"));

  const std::string head = ask(port, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(head.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(head.ends_with("\r\n\r\n"));

  CHECK(ask(port, "GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
  CHECK(ask(port, "GET /../metrics/x HTTP/1.1\r\nHost: x\r\n\r\n").starts_with("HTTP/1.1 404 "));
  CHECK(ask(port, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
            .starts_with("HTTP/1.1 405 "));
}

TEST_CASE("a port in use is one clear error, and stopping gives it back") {
  FixedSource source;
  auto first = MetricsServer::start(loopback(0), source);
  REQUIRE(first.ok());
  const base::ListenAddress address = (*first)->address();
  const auto second = MetricsServer::start(address, source);
  REQUIRE_FALSE(second.ok());
  CHECK(absl::IsAlreadyExists(second.status()));
  CHECK(second.status().ToString().find(address.to_string()) != std::string::npos);
  first->reset();
  const auto third = MetricsServer::start(address, source);
  CHECK_MESSAGE(third.ok(), third.status().ToString());
}

}  // namespace
}  // namespace blobcache::server
