#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/unique_fd.h"

namespace blobcache::net {

/// A request as HttpServer read it. Value type.
struct TestRequest {
  std::string method;
  std::string target;                          ///< path and query
  std::map<std::string, std::string> headers;  ///< names in lower case

  [[nodiscard]] std::string header(const std::string& name) const {
    const auto at = headers.find(name);
    return at == headers.end() ? "" : at->second;
  }
};

/// What it answers. Value type.
struct TestReply {
  std::string bytes;    ///< head and body, as they are sent
  bool closes = false;  ///< the connection, after it
};

/// Serves HTTP/1.1 on a port of this machine's, a thread each connection, and answers what its
/// handler says, which may wait. Thread-safe.
class HttpServer {
 public:
  using Handler = std::function<TestReply(const TestRequest& request)>;

  explicit HttpServer(Handler handler);
  /// Ends all connections; no handler may wait then.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  [[nodiscard]] std::string url() const;
  [[nodiscard]] std::vector<TestRequest> requests() const;
  [[nodiscard]] size_t count(const std::string& method) const;
  /// Nobody gets a connection, or an answer, from now on.
  void go_away();

 private:
  void accept_all();
  void serve(int connection);

  const Handler handler_;
  const base::UniqueFd listener_;
  uint16_t port_ = 0;
  std::atomic<bool> ended_ = false;
  mutable absl::Mutex mutex_;
  std::vector<TestRequest> requests_ ABSL_GUARDED_BY(mutex_);
  std::vector<int> connections_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_ ABSL_GUARDED_BY(mutex_);
  std::thread acceptor_;
};

/// A reply with a body and its length; `headers` are whole lines, each with "\r\n".
[[nodiscard]] TestReply test_reply(int status, const std::string& headers, const std::string& body);

}  // namespace blobcache::net
