#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "net/impl/flush_ledger.h"
#include "net/impl/hole_list.h"
#include "net/impl/nbd_connection.h"
#include "net/impl/nbd_fences.h"
#include "net/impl/nbd_loop.h"
#include "net/impl/nbd_request.h"
#include "net/impl/nbd_retry.h"
#include "net/impl/origin_vitals.h"

namespace blobcache::net {

struct NbdWireOptions {
  NbdTarget target;
  std::string export_name;
  uint32_t connections = 1;
  absl::Duration connect_timeout;
  absl::Duration request_timeout;
};

/// The connections of one open export, and the requests that wait for one.
///
/// A request goes to the connection with the fewest under way. When a connection is lost it is
/// opened again, after a pause, and what was under way on it is sent again, in the old order; a
/// request that has no answer by its deadline costs its connection, since only closing that gives
/// its buffer back. So reads, writes, zeroes, trims and flushes may each reach the server more than
/// once; who submits writes keeps those that overlap apart until the first is answered.
///
/// A connection that is given up while changes are under way on it leaves a fence (NbdFences), as
/// the server may still make them: until it is over nothing that changes the same bytes is sent,
/// not even the same change again, and waits until its deadline. All else goes on over other
/// connections. That a flush goes on, too, breaks no promise: it answers for changes that were
/// answered, which those behind a fence are not. Where the server does not say that a flush, or a
/// read, counts for what other connections did (multi-conn), no other connection is opened before
/// the fence is over. What is known of holes is forgotten when one is.
///
/// The first connection is the one that the open waits for, and it is not tried twice. Further ones
/// are opened when there is more to do than those that are ready have room for one each. When a
/// later one tells another export, all fail from then on.
///
/// On the loop's thread alone, but for what says otherwise. Bounded by what is submitted.
class NbdWire final : public NbdLoopClient {
 public:
  /// `fences` are those of the export.
  NbdWire(NbdWireOptions options, std::shared_ptr<OriginVitals> vitals,
          std::shared_ptr<NbdFences> fences);

  /// What the server told, or why it cannot be had: NOT_FOUND, PERMISSION_DENIED, UNAVAILABLE. Any
  /// thread but the loop's.
  [[nodiscard]] absl::StatusOr<NbdExportInfo> wait_open();
  /// What earlier sessions' fences held when it was opened. Any thread.
  [[nodiscard]] std::vector<NbdFences::Range> held_at_open() const;
  [[nodiscard]] absl::Duration request_timeout() const { return options_.request_timeout; }
  [[nodiscard]] HoleList& holes() { return holes_; }
  /// OK, or what all fail with from now on. Any thread.
  [[nodiscard]] absl::Status broken() const;

  /// `request->done` is called later, never within.
  void submit(const NbdRequestRef& request);
  /// At once for one that is not sent; else when its buffer is free.
  void cancel(const NbdRequestRef& request);
  /// Nothing may be under way.
  void close();

  absl::Time work(absl::Time now) override;
  void watch(std::vector<NbdWatched*>& watched) override;
  /// Its fences are waited for, whoever has the export open.
  bool finished() override { return closed_ && fences_->empty(); }
  void end_by(absl::Time when) override;
  void stop() override;

 private:
  struct Slot {
    std::unique_ptr<NbdConnection> connection;
    bool asked = false;  ///< for the export
    bool ready = false;
    absl::Time deadline;  ///< of connecting
    absl::Time next_try = absl::InfinitePast();
    NbdBackoff backoff;
  };

  [[nodiscard]] bool pass(absl::Time now);
  void settle(Slot& slot, absl::Time now);
  void greet(Slot& slot, absl::Time now);
  void lose(Slot& slot, absl::Status why, absl::Time now);
  void drop(Slot& slot);
  void release();
  [[nodiscard]] bool may_dial() const;
  [[nodiscard]] bool dial(absl::Time now);
  [[nodiscard]] bool wants_more() const;
  void expire(absl::Time now);
  [[nodiscard]] bool dispatch();
  [[nodiscard]] bool is_held(const NbdRequest& request) const;
  [[nodiscard]] Slot* roomiest(const NbdRequest& request);
  void completed(const NbdRequestRef& request);
  [[nodiscard]] bool flushed(const NbdRequest& request);
  void again(const NbdRequestRef& request);
  void finish(NbdRequestRef request, const absl::Status& status);
  void fail_all(const absl::Status& status);
  [[nodiscard]] absl::Status too_late() const;
  [[nodiscard]] size_t ready() const;

  const NbdWireOptions options_;
  const std::shared_ptr<OriginVitals> vitals_;
  const std::shared_ptr<NbdFences> fences_;
  const absl::Time open_by_;

  std::vector<Slot> slots_;  ///< the first always; more once the server is known
  std::optional<NbdExportInfo> info_;
  std::list<NbdRequestRef> live_;            ///< all; in the order of their deadlines
  std::map<uint64_t, NbdRequestRef> queue_;  ///< those to be sent, by number
  std::map<uint64_t, NbdRequestRef> held_;   ///< those that wait for a fence, by number
  uint64_t fences_over_ = 0;                 ///< as far as noticed
  HoleList holes_;
  FlushLedger ledger_;
  uint64_t last_number_ = 0;
  absl::Status last_error_;
  absl::Time end_by_ = absl::InfiniteFuture();
  bool closed_ = false;

  mutable absl::Mutex mutex_;
  bool opened_ ABSL_GUARDED_BY(mutex_) = false;  ///< or failed to
  NbdExportInfo told_ ABSL_GUARDED_BY(mutex_);
  std::vector<NbdFences::Range> held_at_open_ ABSL_GUARDED_BY(mutex_);
  absl::Status broken_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::net
