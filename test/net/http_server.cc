#include "test/net/http_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <stdexcept>
#include <utility>

namespace blobcache::net {

namespace {

/// Up to the empty line; false when the connection has ended.
bool read_head(int connection, std::string& buffer, std::string& head) {
  while (true) {
    const size_t end = buffer.find("\r\n\r\n");
    if (end != std::string::npos) {
      head = buffer.substr(0, end + 2);
      buffer.erase(0, end + 4);
      return true;
    }
    std::array<char, 4096> bytes{};
    const ssize_t length = ::recv(connection, bytes.data(), bytes.size(), 0);
    if (length <= 0) return false;
    buffer.append(bytes.data(), static_cast<size_t>(length));
  }
}

TestRequest parse_request(const std::string& head) {
  TestRequest request;
  const size_t end = head.find("\r\n");
  const std::string line = head.substr(0, end);
  const size_t first = line.find(' ');
  const size_t second = line.rfind(' ');
  request.method = line.substr(0, first);
  request.target = line.substr(first + 1, second - first - 1);
  for (size_t at = end + 2; at < head.size();) {
    const size_t next = head.find("\r\n", at);
    const std::string header = head.substr(at, next - at);
    const size_t colon = header.find(": ");
    std::string name = header.substr(0, colon);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (colon != std::string::npos) request.headers[name] = header.substr(colon + 2);
    at = next + 2;
  }
  return request;
}

}  // namespace

TestReply test_reply(int status, const std::string& headers, const std::string& body) {
  return {fmt::format("HTTP/1.1 {} x\r\nContent-Length: {}\r\n{}\r\n{}", status, body.size(),
                      headers, body)};
}

HttpServer::HttpServer(Handler handler)
    : handler_(std::move(handler)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  void* const bare = &address;
  socklen_t length = sizeof(address);
  if (::bind(listener_.get(), static_cast<sockaddr*>(bare), length) != 0 ||
      ::listen(listener_.get(), 16) != 0 ||
      ::getsockname(listener_.get(), static_cast<sockaddr*>(bare), &length) != 0) {
    throw std::runtime_error("no port to listen on");
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

HttpServer::~HttpServer() {
  go_away();
  std::vector<std::thread> threads;
  {
    const absl::MutexLock lock(&mutex_);
    threads.swap(threads_);
  }
  for (std::thread& each : threads) each.join();
}

std::string HttpServer::url() const { return fmt::format("http://127.0.0.1:{}/", port_); }

std::vector<TestRequest> HttpServer::requests() const {
  const absl::MutexLock lock(&mutex_);
  return requests_;
}

size_t HttpServer::count(const std::string& method) const {
  const std::vector<TestRequest> all = requests();
  return static_cast<size_t>(std::count_if(
      all.begin(), all.end(), [&](const auto& each) { return each.method == method; }));
}

void HttpServer::go_away() {
  if (!ended_.exchange(true)) {
    ::shutdown(listener_.get(), SHUT_RDWR);
    acceptor_.join();
  }
  const absl::MutexLock lock(&mutex_);
  for (const int each : connections_) ::shutdown(each, SHUT_RDWR);
}

void HttpServer::accept_all() {
  while (true) {
    const int connection = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) return;
    const absl::MutexLock lock(&mutex_);
    connections_.push_back(connection);
    threads_.emplace_back([this, connection] { serve(connection); });
  }
}

void HttpServer::serve(int connection) {
  std::string buffer;
  std::string head;
  while (read_head(connection, buffer, head)) {
    const TestRequest request = parse_request(head);
    {
      const absl::MutexLock lock(&mutex_);
      requests_.push_back(request);
    }
    TestReply reply = handler_(request);
    if (request.method == "HEAD") reply.bytes.erase(reply.bytes.find("\r\n\r\n") + 4);
    const ssize_t sent = ::send(connection, reply.bytes.data(), reply.bytes.size(), MSG_NOSIGNAL);
    if (sent != static_cast<ssize_t>(reply.bytes.size()) || reply.closes) break;
  }
  const absl::MutexLock lock(&mutex_);
  std::erase(connections_, connection);
  ::close(connection);
}

}  // namespace blobcache::net
