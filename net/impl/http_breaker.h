#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace blobcache::net {

/// Opens when a server has done nothing but fail for a while, so that nobody waits for it any more;
/// then one probe is due now and then, and what succeeds closes it again.
///
/// Pure: the caller brings the time and the outcomes. Not thread-safe.
class HttpBreaker {
 public:
  /// So many failures in a row, at least.
  static constexpr uint32_t kFailures = 4;
  static constexpr absl::Duration kFirstProbe = absl::Seconds(1);
  static constexpr absl::Duration kLongestPause = absl::Seconds(30);

  /// Opens when all attempts have failed for `after`, from the first of them on.
  explicit HttpBreaker(absl::Duration after) : after_(after) {}

  /// An attempt has failed in a way that says that the server is in trouble. True if that opens it.
  bool failed(absl::Time now);
  /// An attempt has ended well, or in a way that shows that the server is there. True if that
  /// closes it.
  bool succeeded();

  [[nodiscard]] bool is_open() const { return open_; }
  [[nodiscard]] uint32_t failures() const { return failures_; }
  /// Open, and it is time to try. The pause after it is twice as long, up to kLongestPause.
  [[nodiscard]] bool take_probe(absl::Time now);
  /// When take_probe() would be true; InfiniteFuture() while it is closed.
  [[nodiscard]] absl::Time next_probe() const;

 private:
  const absl::Duration after_;
  uint32_t failures_ = 0;
  absl::Time first_failure_;
  bool open_ = false;
  absl::Time next_probe_;
  absl::Duration pause_ = kFirstProbe;
};

}  // namespace blobcache::net
