#include "blockdev/nbd_server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <list>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "blockdev/impl/nbd_session.h"
#include "blockdev/impl/nbd_transmission.h"
#include "blockdev/impl/tree_exports.h"
#include "store/page/object.h"

namespace blobcache::blockdev {
namespace {

using base::ListenAddress;
using base::UniqueFd;

/// How long a listener rests when the process or the machine is out of descriptors or memory.
constexpr int kAcceptPauseMs = 100;

/// Signals are for the daemon's main thread.
void prepare_thread(const char* name) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  pthread_setname_np(pthread_self(), name);
}

void set_option(int fd, int level, int name, int value) {
  // An option that cannot be set makes the connection slower, not wrong.
  if (::setsockopt(fd, level, name, &value, sizeof(value)) != 0) {
    spdlog::debug("nbd: setsockopt {}/{}: {}", level, name, errno);
  }
}

/// What the kernel may hold of a unix socket's replies. It doubles the number. Four 256 KiB
/// replies: with less the two sides wait for each other more, with more the bytes fall out of the
/// processor's cache meanwhile.
constexpr int kUnixSendBuffer = 512 << 10;

void tune_socket(int fd, ListenAddress::Kind kind) {
  if (kind == ListenAddress::Kind::kTcp) {
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    return;
  }
  // Only a privileged daemon may pass the system's limit; others get as much as there is.
  const int size = kUnixSendBuffer;
  if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) != 0) {
    set_option(fd, SOL_SOCKET, SO_SNDBUF, size);
  }
}

TransmissionLimits limits_of(const NbdServerOptions& options) {
  TransmissionLimits limits;
  limits.max_requests = options.max_requests;
  if (options.memory_bytes == 0) return limits;
  limits.share_bytes =
      std::clamp(options.memory_bytes / 8, page::Object::kMaxRead, TransmissionLimits::kShareBytes);
  limits.warm_bytes = options.memory_bytes / 4;
  return limits;
}

std::string describe_peer(int fd, ListenAddress::Kind kind) {
  if (kind == ListenAddress::Kind::kUnix) {
    ucred who{};
    socklen_t length = sizeof(who);
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &length) != 0) return "unix client";
    return fmt::format("client pid {} uid {}", who.pid, who.uid);
  }
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  std::array<char, NI_MAXHOST> host{};
  std::array<char, NI_MAXSERV> port{};
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::getpeername(fd, generic, &length) != 0 ||
      ::getnameinfo(generic, length, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
    return "tcp client";
  }
  return fmt::format("client {} port {}", host.data(), port.data());
}

/// The server: listeners, the connections they accepted, and the threads of both.
class Server final : public NbdServer {
 public:
  Server(const NbdServerOptions& options, tree::Namespace& names, ExportFilter filter,
         std::shared_ptr<TlsContext> tls)
      : options_(options),
        exports_(names, std::move(filter), options.default_export),
        shared_(std::max(1U, std::thread::hardware_concurrency())),
        tls_(std::move(tls)) {}
  ~Server() override { stop(); }

  absl::Status listen();

  void stop() override;
  absl::StatusOr<std::vector<UniqueFd>> keep_listening() override;
  absl::Status reload_tls() override;
  std::vector<ListenAddress> addresses() const override;
  base::DoorStats stats() const override;
  absl::StatusOr<ExportList> exports(size_t limit) override { return exports_.list(limit); }

 private:
  struct Listener {
    ListenAddress address;
    UniqueFd socket;
    std::thread thread;
  };
  struct Connection {
    std::unique_ptr<NbdSession> session;
    ListenAddress::Kind kind;
    std::thread thread;
  };
  using Connections = std::list<Connection>;

  void accept_loop(Listener& listener);
  bool accept_one(Listener& listener);
  void admit(UniqueFd socket, const ListenAddress& listener);
  [[nodiscard]] std::string full_for(ListenAddress::Kind kind) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status start_connection(UniqueFd socket, ListenAddress::Kind kind)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void serve(Connections::iterator self);

  const NbdServerOptions options_;
  TreeExports exports_;
  NbdShared shared_;
  LogLimiter accept_log_;
  UniqueFd stop_fd_;  // readable for good once stop() was called
  std::list<Listener> listeners_;
  std::atomic<bool> keeps_listening_{false};  // another process goes on with the sockets

  mutable absl::Mutex mutex_;
  std::shared_ptr<TlsContext> tls_ ABSL_GUARDED_BY(mutex_);  // of those that come next
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Connections live_ ABSL_GUARDED_BY(mutex_);
  Connections ended_ ABSL_GUARDED_BY(mutex_);  // run() is through; their threads wait to be joined
};

absl::Status Server::listen() {
  stop_fd_ = UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_fd_.valid()) return base::errno_error(errno, "nbd: eventfd");
  for (const ListenAddress& address : options_.listen) {
    Listener listener{address, {}, {}};
    BLOBCACHE_ASSIGN_OR_RETURN(listener.socket, options_.listen_on(listener.address));
    listeners_.push_back(std::move(listener));
  }
  for (Listener& listener : listeners_) {
    listener.thread = std::thread([this, &listener] { accept_loop(listener); });
  }
  return absl::OkStatus();
}

void Server::accept_loop(Listener& listener) {
  prepare_thread("nbd-listen");
  std::array<pollfd, 2> fds{{{stop_fd_.get(), POLLIN, 0}, {listener.socket.get(), POLLIN, 0}}};
  nfds_t watched = fds.size();
  for (;;) {
    const int ready = ::poll(fds.data(), watched, watched == fds.size() ? -1 : kAcceptPauseMs);
    if (ready > 0 && fds[0].revents != 0) return;
    if (ready < 0) continue;  // EINTR
    // When nothing can be accepted the listener itself would stay readable: watch only for the
    // stop.
    watched = accept_one(listener) ? fds.size() : 1;
  }
}

/// False when the system is out of something and accepting must rest.
bool Server::accept_one(Listener& listener) {
  UniqueFd socket(::accept4(listener.socket.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (socket.valid()) {
    admit(std::move(socket), listener.address);
    return true;
  }
  const int error = errno;
  if (error != EMFILE && error != ENFILE && error != ENOBUFS && error != ENOMEM) return true;
  if (accept_log_.allow()) {
    spdlog::error("nbd: {}: cannot accept connections: {}; raise the limit on open files",
                  listener.address.to_string(), base::message(base::errno_error(error, "accept")));
  }
  return false;
}

void Server::admit(UniqueFd socket, const ListenAddress& listener) {
  absl::MutexLock lock(&mutex_);
  if (stopping_) return;
  if (const std::string full = full_for(listener.kind); !full.empty()) {
    if (accept_log_.allow()) {
      spdlog::warn("nbd: {}: a connection was refused: {}", listener.to_string(), full);
    }
    return;
  }
  const absl::Status started = start_connection(std::move(socket), listener.kind);
  if (!started.ok() && accept_log_.allow()) {
    spdlog::error("nbd: {}: a connection was refused: {}", listener.to_string(),
                  base::message(started));
  }
}

/// Why no more of this kind are taken; empty while they are. Strangers from the network, who need
/// to know nothing to be in a handshake, do not get all places.
std::string Server::full_for(ListenAddress::Kind kind) const {
  if (live_.size() >= options_.max_connections) {
    return fmt::format("{} are open, which is the limit", live_.size());
  }
  if (kind != ListenAddress::Kind::kTcp) return "";
  const auto shaking = std::count_if(live_.begin(), live_.end(), [](const Connection& each) {
    return each.kind == ListenAddress::Kind::kTcp && each.session->shakes_hands();
  });
  const size_t limit = std::max<size_t>(options_.max_connections / 2, 1);
  if (static_cast<size_t>(shaking) < limit) return "";
  return fmt::format("{} from the network are in their handshakes, half of the limit", shaking);
}

absl::Status Server::start_connection(UniqueFd socket, ListenAddress::Kind kind) {
  tune_socket(socket.get(), kind);
  std::string peer = describe_peer(socket.get(), kind);
  const NbdSessionOptions options{.limits = limits_of(options_),
                                  .tls = options_.tls.mode,
                                  .tls_context = tls_,
                                  .handshake_timeout = options_.handshake_timeout,
                                  .stall_copy = options_.stall_copy,
                                  .stall_cut = options_.stall_cut};
  BLOBCACHE_ASSIGN_OR_RETURN(
      std::unique_ptr<NbdSession> session,
      NbdSession::create(std::move(socket), std::move(peer), options, exports_, shared_));
  live_.push_back({std::move(session), kind, {}});
  const auto self = std::prev(live_.end());
  try {
    self->thread = std::thread([this, self] { serve(self); });
  } catch (const std::system_error& error) {
    live_.pop_back();
    return base::errno_error(error.code().value(), "a thread could not be started");
  }
  return absl::OkStatus();
}

/// A connection's thread. At its end it also joins those that ended before it, so that ended
/// connections do not wait for the next one to have their memory and descriptors freed; the last
/// one waits alone.
void Server::serve(Connections::iterator self) {
  prepare_thread("nbd-conn");
  NbdSession* session = nullptr;
  {
    absl::MutexLock lock(&mutex_);  // self is whole once admit() has let go
    session = self->session.get();
  }
  session->run();
  Connections earlier;
  {
    absl::MutexLock lock(&mutex_);
    earlier.swap(ended_);
    ended_.splice(ended_.end(), live_, self);
  }
  for (Connection& connection : earlier) connection.thread.join();
}

void Server::stop() {
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(stopping_, true)) return;
    for (Connection& connection : live_) connection.session->stop();
  }
  const uint64_t one = 1;
  if (stop_fd_.valid() && ::write(stop_fd_.get(), &one, sizeof(one)) < 0) {
    spdlog::error("nbd: the stop event could not be set");
  }
  for (Listener& listener : listeners_) {
    if (listener.thread.joinable()) listener.thread.join();
    listener.socket.reset();
    if (!keeps_listening_.load()) base::remove_socket_file(listener.address);
  }
  Connections gone;
  {
    absl::MutexLock lock(&mutex_);
    const auto none_live = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return live_.empty(); };
    mutex_.Await(absl::Condition(&none_live));
    gone.swap(ended_);
  }
  for (Connection& connection : gone) connection.thread.join();
}

absl::StatusOr<std::vector<UniqueFd>> Server::keep_listening() {
  std::vector<UniqueFd> sockets;
  for (const Listener& listener : listeners_) {
    UniqueFd copy(::fcntl(listener.socket.get(), F_DUPFD_CLOEXEC, 0));
    if (!copy.valid()) return base::errno_error(errno, listener.address.to_string());
    sockets.push_back(std::move(copy));
  }
  keeps_listening_.store(true);
  return sockets;
}

absl::Status Server::reload_tls() {
  BLOBCACHE_ASSIGN_OR_RETURN(std::shared_ptr<TlsContext> fresh, load_tls(options_.tls));
  absl::MutexLock lock(&mutex_);
  tls_ = std::move(fresh);
  return absl::OkStatus();
}

std::vector<ListenAddress> Server::addresses() const {
  std::vector<ListenAddress> all;
  for (const Listener& listener : listeners_) all.push_back(listener.address);
  return all;
}

base::DoorStats Server::stats() const {
  base::DoorStats stats;
  stats.requests = shared_.counters.requests.load(std::memory_order_relaxed);
  stats.bytes_out = shared_.counters.bytes_out.load(std::memory_order_relaxed);
  stats.bytes_in = shared_.counters.bytes_in.load(std::memory_order_relaxed);
  stats.errors = shared_.counters.errors.load(std::memory_order_relaxed);
  absl::MutexLock lock(&mutex_);
  stats.open = live_.size();
  return stats;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NbdServer>> NbdServer::start(const NbdServerOptions& options,
                                                            tree::Namespace& names) {
  BLOBCACHE_ASSIGN_OR_RETURN(ExportFilter filter, ExportFilter::parse(options.exports));
  BLOBCACHE_ASSIGN_OR_RETURN(std::shared_ptr<TlsContext> tls, load_tls(options.tls));
  auto server = std::make_unique<Server>(options, names, std::move(filter), std::move(tls));
  BLOBCACHE_RETURN_IF_ERROR(server->listen());
  return server;
}

}  // namespace blobcache::blockdev
