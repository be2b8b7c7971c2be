#include "store/page/impl/tier_health.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

#include "base/status.h"

namespace blobcache::page {

bool is_disk_failure(int error) {
  switch (-error) {
    case ENODATA:  // a file that ended early, or no such attribute
    case ENOENT:
    case EEXIST:
    case ENOTDIR:
    case EISDIR:
    case ELOOP:
    case ENXIO:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case E2BIG:  // no room for an attribute; ERANGE likewise
    case ERANGE:
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EACCES:
    case EPERM:
    case EOPNOTSUPP:
    case ENOSYS:
    case EINVAL:
    case EBADF:
      return false;
    default:
      return error < 0;
  }
}

void TierHealth::judge(DiskStep::Kind kind, int result) {
  using Kind = DiskStep::Kind;
  if (is_disk_failure(result)) {
    counters_.add(Counters::kDiskErrors);
    // To open for writing is refused as a write is.
    const bool reading = (kind == Kind::kRead || kind == Kind::kOpen) && result != -EROFS;
    (reading ? reads_ : writes_).failed(-result);
  } else if (result >= 0 && kind == Kind::kRead) {
    reads_.succeeded();
  } else if (result >= 0 && (kind == Kind::kWrite || kind == Kind::kSync)) {
    reads_.succeeded();
    writes_.succeeded();
  }
}

absl::Status TierHealth::refusal() const {
  const DiskHealth& health = writes_.is_out() ? writes_ : reads_;
  return absl::UnavailableError(
      fmt::format("the disk tier is out of use after errors, the last: {}",
                  std::generic_category().message(health.last_error())));
}

}  // namespace blobcache::page
