#include "server/metrics.h"

#include <civetweb.h>
#include <fmt/format.h>
#include <prometheus/text_serializer.h>
#include <spdlog/spdlog.h>

#include <array>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "server/impl/metric_families.h"
#include "server/status_page.h"

namespace blobcache::server {
namespace {

/// Headers of every answer: nothing is cached, and a browser runs nothing and fetches nothing for
/// the page.
constexpr std::string_view kCommonHeaders =
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n"
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
    "Connection: close\r\n";

struct Answer {
  int status = 200;
  std::string_view reason = "OK";
  std::string_view type = "text/plain; charset=utf-8";
  std::string body;
};

Answer metrics_answer(const Snapshot& snapshot) {
  std::ostringstream text;
  prometheus::TextSerializer().Serialize(text, metric_families(snapshot));
  return {200, "OK", "text/plain; version=0.0.4; charset=utf-8", text.str()};
}

Answer answer(std::string_view method, std::string_view path, SnapshotSource& source) {
  if (method != "GET" && method != "HEAD") {
    return {405, "Method Not Allowed", "text/plain; charset=utf-8", "only GET and HEAD\n"};
  }
  if (path == "/metrics") return metrics_answer(source.snapshot());
  if (path == "/") {
    return {200, "OK", "text/html; charset=utf-8", status_page(source.snapshot(), absl::Now())};
  }
  return {404, "Not Found", "text/plain; charset=utf-8", "there are / and /metrics\n"};
}

class CivetMetricsServer final : public MetricsServer {
 public:
  CivetMetricsServer(const base::ListenAddress& address, SnapshotSource& source)
      : address_(address), source_(source) {}
  CivetMetricsServer(const CivetMetricsServer&) = delete;
  CivetMetricsServer& operator=(const CivetMetricsServer&) = delete;
  ~CivetMetricsServer() override {
    if (context_ != nullptr) stop();
  }

  absl::Status listen();
  [[nodiscard]] const base::ListenAddress& address() const override { return address_; }

 private:
  void stop();
  void nudge() const;
  static int handle(mg_connection* connection, void* self);
  static int log_message(const mg_connection* connection, const char* message);

  base::ListenAddress address_;
  SnapshotSource& source_;
  mg_context* context_ = nullptr;
};

absl::Status CivetMetricsServer::listen() {
  // civetweb's own reasons are terse: the address is tried first, by the code that the doors listen
  // with.
  base::ListenAddress probe = address_;
  BLOBCACHE_ASSIGN_OR_RETURN(base::UniqueFd fd, base::listen_on(probe));
  fd.reset();

  const std::string ports = address_.to_string().substr(std::string_view("tcp:").size());
  const std::array options = {"listening_ports",
                              ports.c_str(),
                              "num_threads",
                              "4",
                              "connection_queue",
                              "16",
                              "request_timeout_ms",
                              "3000",
                              "max_request_size",
                              "8192",
                              "enable_keep_alive",
                              "no",
                              static_cast<const char*>(nullptr)};
  mg_callbacks callbacks{};
  callbacks.log_message = &CivetMetricsServer::log_message;
  context_ = ::mg_start(&callbacks, this, const_cast<const char**>(options.data()));
  if (context_ == nullptr) {
    return absl::UnavailableError(
        fmt::format("{}: cannot listen; was the port just taken?", address_.to_string()));
  }
  ::mg_set_request_handler(context_, "/", &CivetMetricsServer::handle, this);
  std::array<mg_server_port, 1> in_use{};
  if (::mg_get_server_ports(context_, in_use.size(), in_use.data()) == 1) {
    address_.port = static_cast<uint16_t>(in_use[0].port);
  }
  return absl::OkStatus();
}

void CivetMetricsServer::stop() {
  // civetweb sees that it shall stop when its listener wakes up, which takes it up to two seconds
  // by itself: too long for a daemon that is told to go. A connection wakes it at once.
  constexpr absl::Duration kBetweenNudges = absl::Milliseconds(10);
  absl::Notification stopped;
  std::thread stopper([&] {
    ::mg_stop(context_);
    stopped.Notify();
  });
  do {
    nudge();
  } while (!stopped.WaitForNotificationWithTimeout(kBetweenNudges));
  stopper.join();
}

void CivetMetricsServer::nudge() const {
  std::array<char, 128> reason{};
  mg_connection* connection =
      ::mg_connect_client(address_.host.c_str(), address_.port, 0, reason.data(), reason.size());
  // Without a connection the wait is longer, and that is all.
  if (connection != nullptr) ::mg_close_connection(connection);
}

int CivetMetricsServer::handle(mg_connection* connection, void* self) {
  const mg_request_info* request = ::mg_get_request_info(connection);
  const Answer reply = answer(request->request_method, request->local_uri,
                              static_cast<CivetMetricsServer*>(self)->source_);
  const std::string head =
      fmt::format("HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}\r\n",
                  reply.status, reply.reason, reply.type, reply.body.size(), kCommonHeaders);
  ::mg_write(connection, head.data(), head.size());
  if (std::string_view(request->request_method) != "HEAD") {
    ::mg_write(connection, reply.body.data(), reply.body.size());
  }
  return reply.status;
}

int CivetMetricsServer::log_message(const mg_connection* /*connection*/, const char* message) {
  spdlog::debug("metrics: {}", message);
  return 1;  // civetweb need not log it itself
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::start(
    const base::ListenAddress& address, SnapshotSource& source) {
  auto server = std::make_unique<CivetMetricsServer>(address, source);
  BLOBCACHE_RETURN_IF_ERROR(server->listen());
  return server;
}

}  // namespace blobcache::server
