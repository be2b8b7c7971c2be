#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/nbd_url.h"
#include "net/impl/nbd_resolver.h"

struct nbd_handle;

namespace blobcache::net {

/// How a server is reached. Value type; the copies share their resolver.
struct NbdTarget {
  base::NbdUrl url;
  std::string tls_certificates;
  std::string tls_psk;
  std::shared_ptr<NbdResolver> resolver;  ///< of the url's host, where that is a name
};

/// What libnbd says of its last call on this thread. UNAVAILABLE.
[[nodiscard]] absl::Status nbd_last_error();

/// Makes the libnbd handles of one connection, one for each address of the server's host until one
/// is reached. Never waits: a name is looked up elsewhere.
///
/// libnbd verifies a certificate by the host that it was told to connect to, and looks that up
/// itself, within the call. So with TLS it gets the name, on a thread that nobody waits for, and
/// only when a lookup has just ended well: that bounds how many such threads can hang. Addresses
/// that are remembered are no use there.
///
/// One thread at a time.
class NbdDialer {
 public:
  explicit NbdDialer(NbdTarget target) : target_(std::move(target)) {}
  ~NbdDialer();
  NbdDialer(const NbdDialer&) = delete;
  NbdDialer& operator=(const NbdDialer&) = delete;

  /// Begins. UNAVAILABLE for what will not do at any address.
  [[nodiscard]] absl::Status start();
  /// A handle that connects, the caller's to close; null as long as a name is looked up; the reason
  /// when there is no further address.
  [[nodiscard]] absl::StatusOr<nbd_handle*> next();
  /// What next() gave last has failed.
  void failed(const absl::Status& why);
  /// What next() gave last has a server at its end.
  void reached() { current_.clear(); }
  /// For poll(2), while next() is null.
  [[nodiscard]] int fd() const { return question_ ? question_->fd() : -1; }

 private:
  struct Held;

  [[nodiscard]] absl::StatusOr<nbd_handle*> make_handle() const;
  [[nodiscard]] absl::Status set_up(nbd_handle* handle) const;
  [[nodiscard]] absl::StatusOr<nbd_handle*> connect(const std::string& host) const;
  [[nodiscard]] absl::Status connect_by_name();

  const NbdTarget target_;
  std::unique_ptr<NbdResolver::Question> question_;
  std::shared_ptr<Held> held_;  ///< the one that is connecting by name
  NbdResolver::Addresses addresses_;
  size_t next_ = 0;
  std::string current_;  ///< the one being tried
  absl::Status last_error_ = absl::UnavailableError("no address");
};

}  // namespace blobcache::net
