#pragma once

#include <functional>

#include "absl/time/clock.h"

namespace blobcache::test {

/// Whether `condition` comes true within a time that only a failure takes.
[[nodiscard]] inline bool eventually(const std::function<bool()>& condition) {
  const absl::Time deadline = absl::Now() + absl::Seconds(30);
  while (!condition()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Microseconds(200));
  }
  return true;
}

}  // namespace blobcache::test
