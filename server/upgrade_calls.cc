#include "server/impl/upgrade_calls.h"

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "server/version.h"

namespace blobcache::server {
namespace {

absl::Status no_desk() {
  return absl::FailedPreconditionError("this daemon cannot be upgraded while it runs");
}

}  // namespace

absl::Status serve_upgrade(UpgradeDesk* desk, OwnMounts& mounts, const v1::UpgradeRequest& request,
                           v1::UpgradeResponse& response) {
  if (desk == nullptr) return no_desk();
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t number, desk->place(request.program(), mounts));
  response.set_number(number);
  desk->wake();
  return absl::OkStatus();
}

absl::Status serve_upgrade_outcome(UpgradeDesk* desk, const v1::UpgradeOutcomeRequest& request,
                                   v1::UpgradeOutcomeResponse& response) {
  if (desk == nullptr) return no_desk();
  BLOBCACHE_ASSIGN_OR_RETURN(const UpgradeOutcome outcome, desk->outcome(request.number()));
  response.set_over(outcome.is_over);
  response.set_aborted(std::string(base::message(outcome.status)));
  response.set_pause_ns(absl::ToInt64Nanoseconds(outcome.pause));
  response.set_version(std::string(version()));
  return absl::OkStatus();
}

}  // namespace blobcache::server
