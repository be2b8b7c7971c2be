#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "net/impl/nbd_dialer.h"
#include "net/impl/nbd_request.h"
#include "net/impl/nbd_watched.h"

struct nbd_handle;

namespace blobcache::net {

/// What a server tells of an export. Value type.
struct NbdExportInfo {
  static constexpr uint64_t kMaxBlock = uint64_t{32} << 20;

  uint64_t size_bytes = 0;
  uint64_t min_block = 1;          ///< a power of two
  uint64_t max_block = kMaxBlock;  ///< of reads and writes; a multiple of min_block
  bool read_only = true;
  bool can_flush = false;
  bool can_fua = false;
  bool can_trim = false;
  bool can_zero = false;
  bool multi_conn = false;
  bool block_status = false;
};

/// OK if a connection that tells `later` can serve who knows `first`: another size or right to
/// write is another export, and what was relied upon must still be there. Else
/// UNAVAILABLE with the reason.
[[nodiscard]] absl::Status same_nbd_export(const NbdExportInfo& first, const NbdExportInfo& later);

/// One connection to an NBD server, driven by events: a libnbd handle and what is under way on it.
///
/// libnbd reads into and writes from the requests' own buffers. They are free again when it has
/// called back, or when its handle is closed, which nothing of it outlives; so requests come back
/// by take_completed() and take_lost(), and no earlier. libnbd calls back with the handle's lock
/// held: callbacks only take notes.
///
/// One thread at a time.
class NbdConnection final : public NbdWatched {
 public:
  enum class State : uint8_t {
    kConnecting,   ///< or waiting for the answer to ask_...() and go()
    kNegotiating,  ///< the handshake may go on: ask_...(), go()
    kReady,
    kDead,  ///< for good; error() tells why
  };
  /// What is under way at once, so that one answer is not behind gigabytes of others.
  static constexpr size_t kMaxRequests = 64;
  static constexpr uint64_t kMaxBytes = uint64_t{64} << 20;
  static constexpr size_t kMaxListed = size_t{1} << 17;
  static constexpr size_t kMaxListedBytes = size_t{16} << 20;

  /// Begins to connect, and never waits: while the host's name is looked up the state is
  /// kConnecting. Then each of its addresses is tried until one has a server.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<NbdConnection>> dial(const NbdTarget& target);
  ~NbdConnection() override;
  NbdConnection(const NbdConnection&) = delete;
  NbdConnection& operator=(const NbdConnection&) = delete;

  [[nodiscard]] State state();
  /// Of kDead; of kConnecting what it waits for, where that is not the server.
  [[nodiscard]] const absl::Status& error() const { return error_; }

  // For poll(2); fd() is negative when there is none. Another after each state().
  [[nodiscard]] int fd() override;
  [[nodiscard]] int16_t events() override;
  void notify(int16_t revents) override;

  // kNegotiating. Each begins a question, whose answer is there when the state is no longer
  // kConnecting; answer() then is 0 or the errno that the server's refusal means. Old servers that
  // do not negotiate are kReady at once, with the one export that they have.
  [[nodiscard]] absl::Status ask_list();
  [[nodiscard]] absl::Status ask_info(const std::string& export_name);
  [[nodiscard]] absl::Status go(const std::string& export_name);
  [[nodiscard]] int answer() const { return answer_; }
  [[nodiscard]] bool wants_tls() const { return wants_tls_; }
  /// OK for 0; NOT_FOUND for no such export.
  [[nodiscard]] absl::Status refusal() const;
  [[nodiscard]] const std::vector<std::string>& listed() const { return listed_; }
  /// More than kMaxListed names, or kMaxListedBytes of them; listed() is the beginning.
  [[nodiscard]] bool lists_too_much() const { return lists_too_much_; }

  /// After ask_info() or go(), or of an old server. UNAVAILABLE for what cannot be.
  [[nodiscard]] absl::StatusOr<NbdExportInfo> info();

  // kReady.
  [[nodiscard]] bool has_room(uint64_t length) const;
  [[nodiscard]] size_t under_way() const { return sent_.size(); }
  /// Not OK: the request was not sent, and will not come back. UNAVAILABLE where that is no fault
  /// of the request.
  [[nodiscard]] absl::Status send(const NbdRequestRef& request);
  /// Those that the server has answered, with its errno in `error`.
  [[nodiscard]] std::vector<NbdRequestRef> take_completed();
  /// Closes the handle. What had been sent and has no answer.
  [[nodiscard]] std::vector<NbdRequestRef> take_lost();
  /// A duplicate of the socket, once changes have been sent: closing the handle leaves the
  /// connection as it is for as long as this is open.
  [[nodiscard]] base::UniqueFd take_socket() { return std::move(socket_); }
  /// Says good-bye, as far as that can be done without waiting.
  void disconnect();

 private:
  struct Callbacks;

  explicit NbdConnection(const NbdTarget& target) : dialer_(std::make_unique<NbdDialer>(target)) {}
  [[nodiscard]] bool is_dead();
  [[nodiscard]] bool is_ready();
  [[nodiscard]] bool go_on_dialing();
  [[nodiscard]] absl::Status begin(int result);
  [[nodiscard]] int64_t issue(NbdRequest& request);

  std::unique_ptr<NbdDialer> dialer_;  ///< until there is a server
  nbd_handle* handle_ = nullptr;
  base::UniqueFd socket_;
  absl::Status error_;
  bool asking_ = false;
  int answer_ = 0;
  bool wants_tls_ = false;
  std::vector<std::string> listed_;
  size_t listed_bytes_ = 0;
  bool lists_too_much_ = false;
  absl::flat_hash_map<NbdRequest*, NbdRequestRef> sent_;
  std::vector<NbdRequestRef> completed_;
  uint64_t sent_bytes_ = 0;
};

}  // namespace blobcache::net
