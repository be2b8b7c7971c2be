#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/listen_address.h"
#include "base/unique_fd.h"

namespace blobcache::net {

/// Accepts connections on several listening sockets with one thread, which also ticks once a
/// second. When the process is out of descriptors it pauses for a tick rather than spin.
///
/// start() and stop() on one thread; the callbacks come on the acceptor's own.
class Acceptor {
 public:
  using Accepted = std::function<void(base::ListenAddress::Kind kind, base::UniqueFd connection)>;

  /// Listens on every address or on none; ports 0 are filled in.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Acceptor>> listen(
      std::vector<base::ListenAddress> addresses,
      const base::ListenFunction& listen_on = &base::listen_on);

  ~Acceptor() { stop(); }
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  void start(Accepted accepted, std::function<void()> tick);

  /// Ends the thread, closes the sockets and removes their files. Idempotent.
  void stop();
  /// Descriptors of the sockets, in the order of the addresses, for a process that goes on with
  /// them: stop() leaves their files from then on.
  [[nodiscard]] absl::StatusOr<std::vector<base::UniqueFd>> keep_listening();

  [[nodiscard]] const std::vector<base::ListenAddress>& addresses() const { return addresses_; }

 private:
  Acceptor() = default;

  void run();
  /// Takes what waits on listener `index`. False when the process has no room for more.
  bool accept_all(size_t index);

  std::vector<base::ListenAddress> addresses_;
  std::vector<base::UniqueFd> listeners_;     ///< parallel to addresses_
  std::atomic<bool> keeps_listening_{false};  ///< another process goes on with the sockets
  base::UniqueFd wake_;
  Accepted accepted_;
  std::function<void()> tick_;
  std::thread thread_;
};

}  // namespace blobcache::net
