#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "net/impl/nbd_request.h"
#include "net/impl/nbd_session.h"
#include "net/impl/write_order.h"
#include "store/volume/image.h"

namespace blobcache::net {

/// What a user of a session asked for, and how far it is: it is cut into requests that the server
/// takes, of which a few are under way at a time, so that even a trim of a petabyte is a few
/// hundred bytes. The first error ends it, once the requests that are under way are through.
///
/// On the loop's thread alone, after it was made.
class NbdOperation : public std::enable_shared_from_this<NbdOperation> {
 public:
  static constexpr size_t kMaxParts = 8;
  /// Of zeroes and trims, which servers may have to do by writing.
  static constexpr uint64_t kMaxZeroPart = uint64_t{64} << 20;

  NbdOperation(std::shared_ptr<NbdSession> session, uint64_t offset, uint64_t length,
               NbdSession::Done done)
      : session_(std::move(session)),
        cursor_(offset),
        end_(offset + length),
        done_(std::move(done)) {}
  virtual ~NbdOperation() = default;
  NbdOperation(const NbdOperation&) = delete;
  NbdOperation& operator=(const NbdOperation&) = delete;

  virtual void begin() { step(); }
  /// It ends with CANCELLED when its buffers are free, unless it has ended.
  void cancel();
  /// Ends what has not begun, on any thread.
  void refuse(const absl::Status& status) { done_(status); }

 protected:
  using Then = absl::AnyInvocable<void()>;

  /// Begins what is next at cursor_, or does it, and moves the cursor; or sets waiting_.
  virtual void next_part() = 0;
  /// All parts are through and OK. True: something more was begun.
  [[nodiscard]] virtual bool last_part() { return false; }
  /// It is over, before `done` is called.
  virtual void ended() {}

  void step();
  /// Nothing more is begun.
  void fail(const absl::Status& status);
  /// `then` is called when the answer is there and OK.
  void send(NbdRequestRef request, Then then);
  /// The answer of it does not count.
  void ask(NbdRequestRef request, absl::AnyInvocable<void(absl::Status)> then);
  [[nodiscard]] uint64_t left() const { return end_ - cursor_; }
  [[nodiscard]] uint64_t mask() const { return session_->info().min_block - 1; }
  /// Reads the server's smallest block that `at` is in, as far as the export has it, and calls
  /// `then` with it. `rewrites`: it is to be written again.
  void read_block(uint64_t at, std::shared_ptr<std::vector<std::byte>> block, bool rewrites,
                  Then then);

  const std::shared_ptr<NbdSession> session_;
  uint64_t cursor_;
  uint64_t end_;
  bool waiting_ = false;  ///< no other part may begin

 private:
  void forget(const NbdRequest* request);

  NbdSession::Done done_;
  absl::Status status_;
  std::vector<NbdRequestRef> parts_;
};

/// Reads, for the page store (`skip_zeros`) or past it.
class NbdRead final : public NbdOperation {
 public:
  /// A question of what is zero costs a round trip, which a smaller read does not win back.
  static constexpr uint64_t kMinAsk = uint64_t{64} << 10;
  static constexpr uint64_t kAsked = uint64_t{1} << 30;

  NbdRead(std::shared_ptr<NbdSession> session, uint64_t offset, std::byte* into, uint64_t length,
          bool skip_zeros, NbdSession::Done done)
      : NbdOperation(std::move(session), offset, length, std::move(done)),
        offset_(offset),
        into_(into),
        skip_zeros_(skip_zeros) {}

 private:
  void next_part() override;
  void ask_zeros();
  void read_part(uint64_t most);

  const uint64_t offset_;
  std::byte* const into_;
  const bool skip_zeros_;
  bool may_ask_ = true;
};

/// What changes bytes, in its turn among those that overlap it.
class NbdChange : public NbdOperation {
 public:
  NbdChange(std::shared_ptr<NbdSession> session, uint64_t offset, uint64_t length, bool fua,
            NbdSession::Done done)
      : NbdOperation(std::move(session), offset, length, std::move(done)),
        offset_(offset),
        length_(length),
        fua_(fua) {}

  void begin() override;

 protected:
  [[nodiscard]] bool last_part() override;
  void ended() override;
  [[nodiscard]] NbdRequestRef part(NbdRequest::Kind kind, uint64_t length) const;
  /// Changes what of the block at the cursor is in the range: with `from`, or with zeros.
  void change_block(const std::byte* from);
  [[nodiscard]] bool at_part_of_block() const {
    return (cursor_ & mask()) != 0 || left() <= mask();
  }

  const uint64_t offset_;
  const uint64_t length_;

 private:
  const bool fua_;
  bool entered_ = false;
  absl::Time entered_at_;
  bool flushed_ = false;
  WriteOrder::Ticket ticket_ = 0;
};

class NbdWrite final : public NbdChange {
 public:
  NbdWrite(std::shared_ptr<NbdSession> session, uint64_t offset, absl::Span<const std::byte> bytes,
           bool fua, NbdSession::Done done)
      : NbdChange(std::move(session), offset, bytes.size(), fua, std::move(done)),
        from_(bytes.data()) {}

 private:
  void next_part() override;
  const std::byte* const from_;
};

/// By the server's own means, or by writing where it has none.
class NbdZero final : public NbdChange {
 public:
  NbdZero(std::shared_ptr<NbdSession> session, uint64_t offset, uint64_t length,
          volume::ZeroFlags flags, NbdSession::Done done)
      : NbdChange(std::move(session), offset, length, flags.fua, std::move(done)),
        no_hole_(flags.no_hole) {}

 private:
  void next_part() override;
  const bool no_hole_;
};

/// Of whole blocks; nothing where the server does not trim, since it need not.
class NbdTrim final : public NbdChange {
 public:
  using NbdChange::NbdChange;

 private:
  void next_part() override;
};

class NbdFlush final : public NbdOperation {
 public:
  NbdFlush(std::shared_ptr<NbdSession> session, NbdSession::Done done)
      : NbdOperation(std::move(session), 0, 0, std::move(done)) {}

 private:
  void next_part() override {}
  [[nodiscard]] bool last_part() override;
  bool sent_ = false;
};

/// Asks once, unless the first bytes are known.
class NbdMap final : public NbdOperation {
 public:
  NbdMap(std::shared_ptr<NbdSession> session, uint64_t offset, uint64_t length,
         NbdSession::Done done)
      : NbdOperation(std::move(session), offset, length, std::move(done)), length_(length) {}

 private:
  void next_part() override;
  const uint64_t length_;
};

/// The question which bytes from `offset` on are zero, aligned as the server has it; nothing where
/// it cannot be asked.
[[nodiscard]] NbdRequestRef ask_for_zeros(NbdSession& session, uint64_t offset, uint64_t length);

}  // namespace blobcache::net
