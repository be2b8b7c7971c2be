#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/parcel.h"
#include "base/unique_fd.h"

namespace blobcache::server {

/// Which layout of a Handover this program writes and reads. Any change of what any part packs is
/// another version: programs of different versions do not take over from one another.
inline constexpr uint32_t kHandoverVersion = 2;

/// What a daemon tells the program that it becomes: its own state and about the upgrade. Moves,
/// never copies.
struct Handover {
  base::Parcel daemon;                 ///< as Daemon::hand_over()
  uint64_t number = 0;                 ///< of the upgrade; see UpgradeDesk
  int64_t paused_ns = 0;               ///< when the mounts' requests stopped, by CLOCK_MONOTONIC
  std::string program;                 ///< the file that the new program is from
  std::string former;                  ///< and the old one
  std::vector<std::string> arguments;  ///< that the old one was started with
  std::string configuration;           ///< and what it ran by, as config_to_toml() has it
};

/// An empty file in memory that write_handover() fills, close-on-exec.
[[nodiscard]] absl::StatusOr<base::UniqueFd> make_handover_file();

/// Writes it; the numbers of the descriptors, which must stay open, are in it. Once for a file.
[[nodiscard]] absl::Status write_handover(int file, const Handover& handover);

/// Reads it, and owns the descriptors from then on. Each error is one sentence and leaves the
/// descriptors open: FAILED_PRECONDITION for another version, DATA_LOSS for what is damaged or
/// something else.
[[nodiscard]] absl::StatusOr<Handover> read_handover(int file);

}  // namespace blobcache::server
