#pragma once

#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace blobcache::net {

/// Stands between clients and a server on unix sockets, as a network that may stall. One thread
/// calls it; it has one of its own.
class NbdProxy {
 public:
  NbdProxy(const std::filesystem::path& front, std::filesystem::path back);
  ~NbdProxy();
  NbdProxy(const NbdProxy&) = delete;
  NbdProxy& operator=(const NbdProxy&) = delete;

  /// What clients send from now on over the connections that there are is kept; new ones are free.
  void hold() { ask(kHold); }
  /// What was kept goes on.
  void release() { ask(kRelease); }

 private:
  enum Order { kNone, kHold, kRelease, kEnd };
  struct Pair {
    base::UniqueFd client;
    base::UniqueFd server;
    bool held = false;
    bool client_ended = false;
    bool server_ended = false;
  };

  void ask(Order order);
  void run();
  void admit();

  const std::filesystem::path back_;
  const base::UniqueFd listener_;
  const base::UniqueFd wake_;
  std::atomic<Order> order_ = kNone;
  std::vector<Pair> pairs_;  ///< the thread's
  std::thread thread_;
};

}  // namespace blobcache::net
