#pragma once

#include <openssl/types.h>
#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "blockdev/impl/tls_context.h"

namespace blobcache::blockdev {

/// The bytes of one connection, in clear or, from start_tls() on, encrypted. Never blocks: who gets
/// kBlocked waits for the socket to be readable or writable and calls again. One thread at a time.
class Wire {
 public:
  static constexpr ssize_t kBlocked = -1;
  static constexpr ssize_t kDead = -2;

  /// A socket that does not block.
  explicit Wire(base::UniqueFd socket) : socket_(std::move(socket)) {}
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  [[nodiscard]] int fd() const { return socket_.get(); }

  /// How many bytes came, 0 when no more will, kBlocked or kDead.
  [[nodiscard]] ssize_t receive(absl::Span<std::byte> into);
  /// How many bytes of `pieces` were taken, from the front; kBlocked (also for 0) or kDead. What
  /// was not taken must come first in the next call.
  [[nodiscard]] ssize_t send(absl::Span<iovec> pieces);

  /// Whether receive() waits for the socket to be writable, as TLS may have it.
  [[nodiscard]] bool reading_wants_write() const { return reading_wants_write_; }

  /// Everything from here on is TLS. False when there is no memory for it. Then shake_hands() until
  /// that is done.
  [[nodiscard]] bool start_tls(std::shared_ptr<TlsContext> context);
  enum class Handshake : unsigned char { kDone, kWantsRead, kWantsWrite, kFailed };
  [[nodiscard]] Handshake shake_hands();
  [[nodiscard]] bool encrypted() const { return tls_ != nullptr; }
  /// Why shake_hands() failed, for the log.
  [[nodiscard]] const std::string& tls_error() const { return tls_error_; }

  /// Says goodbye as far as that does not block; nothing can be sent any more.
  void shut_down();

 private:
  /// The most that TLS has in one record.
  static constexpr size_t kRecord = size_t{16} << 10;

  [[nodiscard]] ssize_t send_encrypted(absl::Span<iovec> pieces);

  const base::UniqueFd socket_;
  std::shared_ptr<TlsContext> context_;
  SSL* tls_ = nullptr;
  std::string tls_error_;
  bool reading_wants_write_ = false;
  std::unique_ptr<std::array<std::byte, kRecord>> record_;
};

}  // namespace blobcache::blockdev
