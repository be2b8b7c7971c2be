#include "net/impl/nbd_probe.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"

namespace blobcache::net {

using State = NbdConnection::State;

/// How often to look whether all ends.
constexpr absl::Duration kLook = absl::Milliseconds(50);

absl::StatusOr<NbdProbe> NbdProbe::connect(const NbdTarget& target, absl::Duration patience,
                                           const std::atomic<bool>& stopped) {
  const absl::Time deadline = absl::Now() + patience;
  absl::StatusOr<std::unique_ptr<NbdConnection>> connection = NbdConnection::dial(target);
  if (!connection.ok()) return connection.status();
  NbdProbe probe(*std::move(connection), patience, stopped);
  probe.deadline_ = deadline;
  BLOBCACHE_RETURN_IF_ERROR(probe.wait());
  probe.deadline_ = absl::Now() + patience;
  return probe;
}

absl::Status NbdProbe::wait() {
  while (connection_->state() == State::kConnecting) {
    if (*stopped_) return absl::CancelledError("the daemon ends");
    const absl::Duration left = deadline_ - absl::Now();
    if (left <= absl::ZeroDuration()) {
      const absl::Status& why = connection_->error();
      return absl::UnavailableError(fmt::format(
          "the NBD server did not answer within {}{}{}", absl::FormatDuration(patience_),
          why.ok() ? "" : ": ", why.ok() ? "" : base::message(why)));
    }
    pollfd fd{connection_->fd(), connection_->events(), 0};
    const int64_t milliseconds =
        absl::ToInt64Milliseconds(std::min(absl::Ceil(left, absl::Milliseconds(1)), kLook));
    if (::poll(&fd, 1, static_cast<int>(milliseconds)) > 0) connection_->notify(fd.revents);
  }
  return connection_->state() == State::kDead ? connection_->error() : absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> NbdProbe::list() {
  const absl::Status silent = absl::UnimplementedError("the NBD server does not list its exports");
  if (connection_->state() != State::kNegotiating) return silent;
  BLOBCACHE_RETURN_IF_ERROR(connection_->ask_list());
  BLOBCACHE_RETURN_IF_ERROR(wait());
  if (const int error = connection_->answer(); error != 0) {
    if (error != ENOTSUP && error != EPERM && error != EACCES && error != EINVAL) {
      return connection_->refusal();
    }
    // Only the answer to another question tells whether it wants TLS first.
    if (!connection_->ask_info("").ok()) return silent;
    const absl::Status asked = wait();
    if (absl::IsCancelled(asked)) return asked;
    return asked.ok() && connection_->wants_tls() ? connection_->refusal() : silent;
  }
  if (connection_->lists_too_much()) {
    return absl::ResourceExhaustedError(
        fmt::format("the NBD server lists more than {} exports, or more than {} MiB of names",
                    NbdConnection::kMaxListed, NbdConnection::kMaxListedBytes >> 20));
  }
  return connection_->listed();
}

absl::StatusOr<NbdExportInfo> NbdProbe::info(const std::string& export_name) {
  if (connection_->state() == State::kNegotiating) {
    BLOBCACHE_RETURN_IF_ERROR(connection_->ask_info(export_name));
    BLOBCACHE_RETURN_IF_ERROR(wait());
    if (connection_->answer() == ENOTSUP && !connection_->wants_tls()) {
      // A server that only opens, not tells. This connection is used up then.
      BLOBCACHE_RETURN_IF_ERROR(connection_->go(export_name));
      BLOBCACHE_RETURN_IF_ERROR(wait());
    }
    BLOBCACHE_RETURN_IF_ERROR(connection_->refusal());
  }
  return connection_->info();
}

}  // namespace blobcache::net
