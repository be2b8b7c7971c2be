#include "server/ctl/nbd_listener.h"

#include <optional>

namespace blobcache::ctl {
namespace {

using base::ListenAddress;

bool is_wildcard(const ListenAddress& address) {
  return address.host == "0.0.0.0" || address.host == "::";
}

}  // namespace

absl::StatusOr<ListenAddress> choose_nbd_listener(const ListenAddress& endpoint,
                                                  const std::vector<std::string>& listeners) {
  const bool here = endpoint.is_local();
  std::optional<ListenAddress> tcp;
  for (const std::string& text : listeners) {
    // What does not parse is of a newer daemon's making.
    absl::StatusOr<ListenAddress> address = base::parse_listen_address(text);
    if (!address.ok()) continue;
    if (address->kind == ListenAddress::Kind::kUnix) {
      if (here) return address;
      continue;
    }
    if (tcp) continue;
    if (here) {
      tcp = *address;
    } else if (is_wildcard(*address)) {
      tcp = *address;
      tcp->host = endpoint.host;
    } else if (!address->is_local()) {
      tcp = *address;
    }
  }
  if (tcp) return *tcp;
  return absl::FailedPreconditionError(
      here ? "the daemon's NBD door is closed (nbd.listen)"
           : "the daemon's NBD door is open to its own machine only (nbd.listen)");
}

}  // namespace blobcache::ctl
