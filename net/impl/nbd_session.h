#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "net/impl/hole_list.h"
#include "net/impl/nbd_connection.h"
#include "net/impl/nbd_loop.h"
#include "net/impl/nbd_wire.h"
#include "net/impl/origin_vitals.h"
#include "net/impl/write_order.h"
#include "net/impl/written_pages.h"
#include "store/page/object_key.h"
#include "store/page/source.h"
#include "store/volume/image.h"

namespace blobcache::net {

class NbdOperation;

/// An export while somebody has it open: where the page store gets its bytes from, and for an image
/// also what reads and writes past the page store. All who have it open at a time share it, with
/// one key.
///
/// Calls begin operations of any offset, length and alignment, which go over the wire in parts.
/// They do not wait; `done` is called exactly once, on the origin's thread, or on the caller's when
/// the origin is closed or too much is under way (kMaxOperations: UNAVAILABLE). Operations hold the
/// session; when the last holder lets go its connections are closed.
///
/// Thread-safe.
class NbdSession final : public page::Source, public std::enable_shared_from_this<NbdSession> {
 public:
  static constexpr size_t kMaxOperations = size_t{1} << 14;
  using Done = absl::AnyInvocable<void(absl::Status)>;
  using RunsDone = absl::AnyInvocable<void(absl::StatusOr<std::vector<HoleList::Run>>)>;

  NbdSession(std::shared_ptr<NbdLoop> loop, std::shared_ptr<NbdWire> wire,
             std::shared_ptr<OriginVitals> vitals, const NbdExportInfo& info,
             const page::ObjectKey& key);
  ~NbdSession() override;

  [[nodiscard]] const NbdExportInfo& info() const { return info_; }
  [[nodiscard]] const page::ObjectKey& key() const { return key_; }
  /// OK, or what everything fails with from now on.
  [[nodiscard]] absl::Status broken() const { return wire_->broken(); }

  /// For the page store. Where the server tells which bytes are zeros, those are not moved.
  [[nodiscard]] std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                                             FetchDone done) override;

  /// The server's bytes of now.
  void read(uint64_t offset, absl::Span<std::byte> into, Done done);

  // Each marks its pages in written() before anything is sent. Changes that overlap are sent in the
  // order of the calls, each when the one before it is through.
  void write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done);
  void zero(uint64_t offset, uint64_t length, volume::ZeroFlags flags, Done done);
  void trim(uint64_t offset, uint64_t length, bool fua, Done done);
  /// OK at once where the server has no such thing.
  void flush(Done done);
  /// What is zero of [offset, offset + length), length not 0: at least one run, at most `max_runs`
  /// (not 0), which may end early.
  void map(uint64_t offset, uint64_t length, size_t max_runs, RunsDone done);

  /// Which pages were changed since this was opened: what the page store has of them is old.
  [[nodiscard]] const WrittenPages& written() const { return written_; }

  // For operations, on the loop's thread.
  [[nodiscard]] NbdWire& wire() { return *wire_; }
  [[nodiscard]] HoleList& holes() { return wire_->holes(); }
  [[nodiscard]] OriginVitals& vitals() { return *vitals_; }
  /// True: it may begin. Else its begin() is called when it may.
  [[nodiscard]] bool enter(const std::shared_ptr<NbdOperation>& change, WriteOrder::Ticket& ticket,
                           uint64_t offset, uint64_t length);
  void leave(WriteOrder::Ticket ticket);
  /// Forgets what is known of holes there; before and after a change.
  void changing(uint64_t offset, uint64_t length) { holes().forget(offset, length); }

 private:
  /// Counts an operation, which `done` ends; false, and `done` is called, beyond the bound.
  [[nodiscard]] bool admit(Done& done);
  void start(const std::shared_ptr<NbdOperation>& operation);
  void mark(uint64_t offset, uint64_t length);

  const std::shared_ptr<NbdLoop> loop_;
  const std::shared_ptr<NbdWire> wire_;
  const std::shared_ptr<OriginVitals> vitals_;
  const NbdExportInfo info_;
  const page::ObjectKey key_;
  WrittenPages written_;
  std::atomic<size_t> under_way_ = 0;

  // The loop's thread's.
  WriteOrder order_;
  std::map<WriteOrder::Ticket, std::shared_ptr<NbdOperation>> waiting_;
  std::deque<std::shared_ptr<NbdOperation>> ready_;
  bool letting_in_ = false;
};

}  // namespace blobcache::net
