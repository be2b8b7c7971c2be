#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"
#include "server/handover.h"

namespace blobcache::server {

// How one program becomes another in the same process (execve), and, as long as the new one has not
// said that it serves, how it becomes the old one again. The process id stays, so a service
// manager, a container's init and whoever waits for the daemon notice nothing.
//
// The way back is open from the first moments of the new program: an error of its start, a crash
// and a start that takes too long all lead there. The descriptors that were handed over stay open,
// as they were, until the new one serves. A program that is stuck before it comes so far is ended
// by a timer, as a crash ends it; that it comes so far was tried before (see check_successor()).
//
// All of this is the process's, and the main thread's to call.

/// How long requests may wait, all in all, when nothing of our own takes longer than usual: neither
/// the store's closing nor, on the way back, the old program's start can be cut short.
inline constexpr absl::Duration kLongestPause = absl::Seconds(10);
/// What of that is left for the way back, which is taken that much earlier.
inline constexpr absl::Duration kForWayBack = absl::Seconds(2);
/// And how long requests that are under way may take to be answered.
inline constexpr absl::Duration kLongestDrain = absl::Seconds(4);
/// At least so long the new program may take to start, whatever was used before.
inline constexpr absl::Duration kShortestStart = absl::Seconds(3);

/// CLOCK_MONOTONIC, in nanoseconds.
[[nodiscard]] int64_t monotonic_ns();

/// The file that this program is from, by its path, even if another file is there by now.
[[nodiscard]] absl::StatusOr<std::string> own_program();

/// What a start has been handed over.
struct Succession {
  bool happens = false;  ///< false: an ordinary start, and nothing else counts
  absl::StatusOr<Handover> handover = absl::UnavailableError("nothing was handed over");
  bool is_way_back = false;  ///< this is the old program again
  std::string failure;       ///< then: why
};

/// Called first by every start. Opens the way back, if there is one: to the old program with the
/// arguments that it had, or if they cannot be read with `arguments`, which are this one's.
[[nodiscard]] Succession begin_succession(const std::vector<std::string>& arguments);
/// This program serves: the way back is closed, and its descriptors.
void end_succession();

/// Becomes the old program again, because of `why`. Returns only when there is no way back.
void go_back(const absl::Status& why);

/// What becoming another program needs, got before anything is stopped.
struct Departure {
  base::UniqueFd state;  ///< for write_handover()
  base::UniqueFd self;   ///< this program, for the way back
};
[[nodiscard]] absl::StatusOr<Departure> prepare_departure();

/// Becomes `handover.program`, or, when that cannot be executed, this program anew, which is told
/// so. Returns only when neither can.
[[nodiscard]] absl::Status depart(const Departure& departure, const Handover& handover);

}  // namespace blobcache::server
