#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "server/own_mounts.h"

namespace blobcache::server {

/// What became of an upgrade. Value type.
struct UpgradeOutcome {
  bool is_over = false;
  absl::Status status;   ///< why it was aborted, and the old program serves
  absl::Duration pause;  ///< how long the mounts' requests waited
};

/// OK when `program` can take over from this one: it is a file that can be executed, and, run with
/// `arguments` (those of this process) and --check, it finds the configuration right and says that
/// it knows our state, without any use of `own_mounts` (whose requests wait meanwhile), be it for
/// itself, an interpreter, a library or whatever else it opens. That may take it kLongestCheck.
/// Else one sentence: FAILED_PRECONDITION, NOT_FOUND, PERMISSION_DENIED, DEADLINE_EXCEEDED.
[[nodiscard]] absl::Status check_successor(const std::string& program,
                                           const std::vector<std::string>& arguments,
                                           OwnMounts& own_mounts);
inline constexpr absl::Duration kLongestCheck = absl::Seconds(5);
/// The line by which a program says that it knows the version of a state.
[[nodiscard]] std::string takes_over_line(uint32_t version);

/// Where upgrades are asked for, and told of. The main thread makes them; whoever asks is answered
/// once the new program has been looked at, and asks again for what became of it, perhaps in the
/// new program, by the upgrade's number. Thread-safe.
class UpgradeDesk {
 public:
  /// An upgrade to be made. Value type.
  struct Order {
    uint64_t number = 0;
    std::string program;
  };

  /// What the process is. Value type.
  struct Self {
    std::vector<std::string> arguments;
    std::string program;      ///< the file that it is from
    std::string config_file;  ///< "": it has none
  };
  /// `wake` makes the main thread call take().
  UpgradeDesk(Self self, std::function<void()> wake)
      : self_(std::move(self)), wake_(std::move(wake)) {}

  /// PERMISSION_DENIED for a program that only an owner of the daemon may name: any but the file
  /// that this one is from. Who else administers it must not choose what runs as its user.
  [[nodiscard]] absl::Status check_named(const std::string& program) const;
  /// Asks for an upgrade to a program, "": the file that this one is from. Returns its number. A
  /// path that depends on a process, as beneath /proc, is taken for what it leads to now.
  /// PERMISSION_DENIED for another file that others than root and our user can change.
  /// Errors as check_successor(), also about the configuration file, and ALREADY_EXISTS while one
  /// is under way. Waits for the check.
  [[nodiscard]] absl::StatusOr<uint64_t> place(const std::string& program, OwnMounts& own_mounts)
      ABSL_LOCKS_EXCLUDED(mutex_);
  /// Wakes the main thread: something was placed.
  void wake() const { wake_(); }

  /// What is to be done, if anything.
  [[nodiscard]] std::optional<Order> take() ABSL_LOCKS_EXCLUDED(mutex_);
  /// An upgrade that the program before has begun is under way.
  void resume(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);
  /// An upgrade is over.
  void note(uint64_t number, const absl::Status& status, absl::Duration pause)
      ABSL_LOCKS_EXCLUDED(mutex_);

  /// NOT_FOUND for a number that no upgrade has, or one that is long over.
  [[nodiscard]] absl::StatusOr<UpgradeOutcome> outcome(uint64_t number) ABSL_LOCKS_EXCLUDED(mutex_);

  [[nodiscard]] const std::vector<std::string>& arguments() const { return self_.arguments; }
  [[nodiscard]] const std::string& program() const { return self_.program; }

 private:
  enum class State : uint8_t { kIdle, kChecks, kPlaced, kUnderWay };

  const Self self_;
  const std::function<void()> wake_;
  absl::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_) = State::kIdle;
  Order order_ ABSL_GUARDED_BY(mutex_);  ///< the last one
  UpgradeOutcome outcome_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::server
