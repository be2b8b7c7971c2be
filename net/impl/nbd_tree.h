#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "base/nbd_url.h"
#include "net/impl/nbd_connection.h"
#include "net/impl/nbd_dialer.h"
#include "net/impl/nbd_exports.h"
#include "net/impl/nbd_fences.h"
#include "net/impl/nbd_loop.h"
#include "net/impl/nbd_probe.h"
#include "net/impl/nbd_resolver.h"
#include "net/impl/nbd_session.h"
#include "net/impl/origin_vitals.h"
#include "net/nbd_origin.h"
#include "store/page/object_key.h"
#include "store/tree/origin.h"

namespace blobcache::net {

/// The exports of an NBD server as an origin. What is open is answered from its session, without
/// asking the server; for all else a short connection asks, of which there are at most kMaxProbes.
/// What a listing told is believed for kListingAge, so that a look at each of its names does not
/// list again.
///
/// Thread-safe.
class NbdTree final : public tree::Origin {
 public:
  static constexpr size_t kMaxProbes = 4;
  static constexpr absl::Duration kListingAge = absl::Seconds(1);
  /// What is open goes on for as long after stop().
  static constexpr absl::Duration kGrace = absl::Seconds(2);

  /// `options` have been checked, `url` is theirs. `look_up` finds its host's addresses, where that
  /// is a name.
  NbdTree(const NbdOriginOptions& options, const base::NbdUrl& url,
          NbdResolver::LookUp look_up = NbdResolver::look_up_addresses);
  ~NbdTree() override;

  [[nodiscard]] const std::string& name() const override { return options_.name; }
  [[nodiscard]] std::string description() const override { return "nbd " + url_; }
  [[nodiscard]] std::string type() const override { return "nbd"; }
  [[nodiscard]] std::string url_of(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<tree::OriginEntry> look_up(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<std::vector<tree::OriginEntry>> list(std::string_view path) override;
  [[nodiscard]] absl::StatusOr<tree::OriginFile> open(std::string_view path) override;
  [[nodiscard]] tree::OriginHealth health() const override { return vitals_->health(); }
  void stop() override;

  [[nodiscard]] const OriginVitals& vitals() const { return *vitals_; }

 private:
  class ProbeSlot;

  [[nodiscard]] tree::OriginEntry entry(std::string_view name, const NbdExportInfo& info,
                                        const std::string& export_name) const;
  [[nodiscard]] page::ObjectKey lasting_key(const std::string& export_name, uint64_t size) const;
  /// The one that is open and whole.
  [[nodiscard]] std::shared_ptr<NbdSession> session(const std::string& export_name);
  [[nodiscard]] absl::StatusOr<std::shared_ptr<NbdSession>> open_session(
      const std::string& export_name);
  [[nodiscard]] std::shared_ptr<NbdFences> fences(const std::string& export_name);
  [[nodiscard]] absl::StatusOr<NbdProbe> probe();
  /// What the server calls the export at `path`, by what it listed last.
  [[nodiscard]] std::string export_at(std::string_view path);
  /// UNIMPLEMENTED when the server does not list; then nothing is known of directories.
  [[nodiscard]] absl::StatusOr<NbdExports> exports(NbdProbe* probe);
  void tell(const absl::Status& status);
  [[nodiscard]] bool is_stopped() const { return stopped_; }

  const NbdOriginOptions options_;
  const NbdTarget target_;
  const std::string url_;
  const std::string only_;  ///< the one export's name in the tree; "" for all of the server's
  const std::shared_ptr<OriginVitals> vitals_;
  const std::shared_ptr<NbdLoop> loop_;

  std::atomic<bool> stopped_ = false;  ///< set with mutex_ held, for who waits for it

  absl::Mutex mutex_;
  std::map<std::string, std::weak_ptr<NbdSession>> sessions_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::weak_ptr<NbdFences>> fences_ ABSL_GUARDED_BY(mutex_);
  std::set<std::string> opening_ ABSL_GUARDED_BY(mutex_);
  size_t probes_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<absl::StatusOr<NbdExports>> listing_ ABSL_GUARDED_BY(mutex_);
  absl::Time listed_at_ ABSL_GUARDED_BY(mutex_);
  /// Kept beyond kListingAge: who has the nameless one open is known by it.
  bool shows_nameless_ ABSL_GUARDED_BY(mutex_) = false;
  bool told_left_out_ ABSL_GUARDED_BY(mutex_) = false;
  bool told_hidden_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace blobcache::net
