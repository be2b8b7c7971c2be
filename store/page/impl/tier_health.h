#pragma once

#include <functional>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "store/page/impl/counters.h"
#include "store/page/impl/disk_health.h"
#include "store/page/page_store.h"

namespace blobcache::page {

/// Whether a step that ended with `error`, a negative errno value, says that the disk fails. A
/// file that is gone or ended early, a full disk, a lack of descriptors and what a file system
/// cannot do say nothing of it. Pure.
[[nodiscard]] bool is_disk_failure(int error);

/// The health of the disk tier, for reads and for writes (whatever changes something) apart: a file
/// system that an error made read-only is read as ever, and reads that succeed do not make it take
/// a write. A write that succeeds says that the disk is there, for both.
///
/// Only what moves bytes or syncs can succeed so: names and descriptors come from the kernel's
/// memory long after the disk has gone. Thread-safe.
class TierHealth {
 public:
  TierHealth(Counters& counters, const std::function<absl::Time()>& clock)
      : counters_(counters), reads_(clock, "reads"), writes_(clock, "writes") {}

  /// Counts the outcome of a step, a negative errno value or not, and learns from it.
  void judge(DiskStep::Kind kind, int result);

  /// Whether to ask the disk now; while it is out of use true for one caller a pause.
  [[nodiscard]] bool may_read() { return reads_.may_try(); }
  [[nodiscard]] bool may_write() {
    // Not both: two pauses that end apart would let nobody through. A write mends the reads, too.
    return writes_.is_out() ? writes_.may_try() : reads_.may_try();
  }
  [[nodiscard]] bool reads_out() const { return reads_.is_out(); }
  [[nodiscard]] bool is_out() const { return reads_.is_out() || writes_.is_out(); }

  /// UNAVAILABLE, with the last error, for who may not.
  [[nodiscard]] absl::Status refusal() const;

 private:
  Counters& counters_;
  DiskHealth reads_;
  DiskHealth writes_;
};

}  // namespace blobcache::page
