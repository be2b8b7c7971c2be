#pragma once

#include <unistd.h>

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "net/dir_origin.h"
#include "net/impl/dir_files.h"
#include "net/impl/dir_reads.h"
#include "net/impl/dir_session.h"
#include "net/impl/dir_threads.h"
#include "net/impl/origin_vitals.h"
#include "store/page/object_key.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// A directory as an origin. Calls run on threads of their own (kCalls), which a file system that
/// hangs may keep; reads on others.
///
/// Who opens a version that lasts shares what others have open of it. One that does not is its
/// opener's alone: as nobody can tell whether it is the same still, what one has read of it is not
/// for those who come later.
///
/// Thread-safe.
class DirTree final : public tree::Origin {
 public:
  static constexpr size_t kCalls = 4;
  /// With so many versions known it is time to forget those that nobody has open.
  static constexpr size_t kSweep = 64;
  /// What is open goes on for as long after stop().
  static constexpr absl::Duration kGrace = absl::Seconds(2);

  /// `options` have been checked.
  explicit DirTree(const DirOriginOptions& options, DirSystem system = {absl::Now, &::pread});
  ~DirTree() override;

  [[nodiscard]] const std::string& name() const override { return options_.name; }
  [[nodiscard]] std::string description() const override { return "dir " + options_.path; }
  [[nodiscard]] std::string type() const override { return "dir"; }
  [[nodiscard]] std::string url_of(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<tree::OriginEntry> look_up(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<std::vector<tree::OriginEntry>> list(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<tree::OriginFile> open(std::string_view path) override;
  [[nodiscard]] tree::OriginHealth health() const override { return vitals_->health(); }
  void stop() override;

 private:
  template <typename T>
  class Call;
  /// What calls share with the tree, which they may outlive.
  struct Shared {
    Shared(const DirOriginOptions& options, DirSystem system) : files(options, std::move(system)) {}
    const DirFiles files;
    absl::Mutex mutex;
    bool stopped ABSL_GUARDED_BY(mutex) = false;
  };

  /// Runs `work` on one of the threads and waits for it. CANCELLED after stop(),
  /// DEADLINE_EXCEEDED when its time is up, UNAVAILABLE when no thread is left for it.
  template <typename T>
  [[nodiscard]] absl::StatusOr<T> ask(
      absl::AnyInvocable<absl::StatusOr<T>(const DirFiles&, const std::atomic<bool>& wanted)> work);
  void tell(const absl::Status& status);

  const DirOriginOptions options_;
  const std::shared_ptr<OriginVitals> vitals_;
  const std::shared_ptr<Shared> shared_;
  const std::shared_ptr<DirReads> reads_;
  DirThreads calls_;
  absl::Mutex mutex_;
  std::map<std::string, std::weak_ptr<DirSession>> sessions_ ABSL_GUARDED_BY(mutex_);
  size_t sweep_at_ ABSL_GUARDED_BY(mutex_) = kSweep;
};

}  // namespace blobcache::net
