#include "blockdev/impl/wire.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace blobcache::blockdev {
namespace {

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

Wire::~Wire() { ::SSL_free(tls_); }

ssize_t Wire::receive(absl::Span<std::byte> into) {
  if (tls_ == nullptr) {
    const ssize_t n = ::recv(socket_.get(), into.data(), into.size(), MSG_DONTWAIT);
    if (n >= 0) return n;
    return would_block(errno) ? kBlocked : kDead;
  }
  reading_wants_write_ = false;
  size_t n = 0;
  ::ERR_clear_error();
  if (::SSL_read_ex(tls_, into.data(), into.size(), &n) == 1) return static_cast<ssize_t>(n);
  switch (::SSL_get_error(tls_, 0)) {
    case SSL_ERROR_WANT_READ:
      return kBlocked;
    case SSL_ERROR_WANT_WRITE:
      reading_wants_write_ = true;
      return kBlocked;
    case SSL_ERROR_ZERO_RETURN:
      return 0;
    default:
      return kDead;
  }
}

ssize_t Wire::send(absl::Span<iovec> pieces) {
  if (tls_ != nullptr) return send_encrypted(pieces);
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  const ssize_t n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (n > 0) return n;
  return n == 0 || would_block(errno) ? kBlocked : kDead;
}

/// Record by record. A record that the socket did not take whole is kept by OpenSSL, which wants to
/// be given the same bytes again, and perhaps more behind them.
ssize_t Wire::send_encrypted(absl::Span<iovec> pieces) {
  ssize_t total = 0;
  size_t piece = 0;
  size_t offset = 0;
  for (;;) {
    size_t filled = 0;
    for (size_t at = piece, from = offset; at < pieces.size() && filled < kRecord; ++at) {
      const size_t part = std::min(pieces[at].iov_len - from, kRecord - filled);
      std::memcpy(record_->data() + filled, static_cast<std::byte*>(pieces[at].iov_base) + from,
                  part);
      filled += part;
      from = 0;
    }
    if (filled == 0) return total > 0 ? total : kBlocked;
    size_t written = 0;
    ::ERR_clear_error();
    if (::SSL_write_ex(tls_, record_->data(), filled, &written) != 1) {
      const int error = ::SSL_get_error(tls_, 0);
      if (error != SSL_ERROR_WANT_WRITE && error != SSL_ERROR_WANT_READ) return kDead;
      return total > 0 ? total : kBlocked;
    }
    total += static_cast<ssize_t>(written);
    offset += written;
    while (piece < pieces.size() && offset >= pieces[piece].iov_len) {
      offset -= pieces[piece++].iov_len;
    }
  }
}

bool Wire::start_tls(std::shared_ptr<TlsContext> context) {
  context_ = std::move(context);
  record_ = std::make_unique<std::array<std::byte, kRecord>>();
  tls_ = ::SSL_new(context_->get());
  return tls_ != nullptr && ::SSL_set_fd(tls_, socket_.get()) == 1;
}

Wire::Handshake Wire::shake_hands() {
  ::ERR_clear_error();
  const int done = ::SSL_accept(tls_);
  if (done == 1) return Handshake::kDone;
  switch (::SSL_get_error(tls_, done)) {
    case SSL_ERROR_WANT_READ:
      return Handshake::kWantsRead;
    case SSL_ERROR_WANT_WRITE:
      return Handshake::kWantsWrite;
    default:
      break;
  }
  const char* reason = ::ERR_reason_error_string(::ERR_get_error());
  tls_error_ = reason == nullptr ? "it hung up" : reason;
  ::ERR_clear_error();
  return Handshake::kFailed;
}

void Wire::shut_down() {
  if (tls_ != nullptr && ::SSL_is_init_finished(tls_) == 1) (void)::SSL_shutdown(tls_);
  // The descriptor stays ours until nobody can ask for it any more.
  ::shutdown(socket_.get(), SHUT_RDWR);
}

}  // namespace blobcache::blockdev
