#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/listen_address.h"

namespace blobcache::base {

/// Where an NBD server is, and which of its exports is meant. Value type.
struct NbdUrl {
  static constexpr uint16_t kDefaultPort = 10809;

  bool tls = false;
  std::string user;         ///< for TLS with pre-shared keys; "" where the url names none
  std::string socket;       ///< a unix socket's path; "" for TCP
  std::string host;         ///< TCP; without brackets
  uint16_t port = 0;        ///< TCP
  std::string export_name;  ///< "" where the url names none, which means all

  friend bool operator==(const NbdUrl&, const NbdUrl&) = default;

  /// The url as it is told to people and hashed into keys: one text for one meaning, and without
  /// what only says who we are.
  [[nodiscard]] std::string to_string() const;
  /// Where the server listens.
  [[nodiscard]] ListenAddress address() const;
};

/// As the NBD project's URI specification has it, without vsock and ssh. INVALID_ARGUMENT with the
/// reason, which never repeats a password, for anything else.
[[nodiscard]] absl::StatusOr<NbdUrl> parse_nbd_url(std::string_view url);

}  // namespace blobcache::base
