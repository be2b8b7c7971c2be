#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "blockdev/impl/nbd_codec.h"

namespace blobcache::blockdev {

/// The client's side of a newstyle handshake, from the greeting to the end of NBD_OPT_GO: a state
/// machine over bytes that does no I/O of its own.
///
/// It says how many bytes it wants next and never wants more than the server is going to send, so
/// what follows the handshake stays in the socket for whoever is handed it. Memory is bounded: no
/// option reply over kMaxReply is taken, nor more than kMaxReplies of them. Not thread-safe.
class ClientHandshake {
 public:
  enum class State : uint8_t { kNegotiating, kOpen, kFailed };

  static constexpr size_t kMaxReply = size_t{64} << 10;
  static constexpr int kMaxReplies = 64;

  /// `name` has at most nbd::kMaxString bytes.
  explicit ClientHandshake(std::string name) : name_(std::move(name)) {}

  /// At least 1 in kNegotiating.
  [[nodiscard]] size_t wanted() const { return wanted_; }
  /// Exactly wanted() bytes, in kNegotiating; what the server must be told is appended to `out`.
  State take(nbd::Bytes bytes, std::string& out);

  /// In kFailed; see open_export() for the codes.
  [[nodiscard]] const absl::Status& error() const { return error_; }

  // In kOpen.
  [[nodiscard]] uint64_t size_bytes() const { return size_bytes_; }
  [[nodiscard]] uint16_t transmission_flags() const { return transmission_flags_; }
  [[nodiscard]] uint32_t min_block_bytes() const { return min_block_bytes_; }

 private:
  enum class Expect : uint8_t { kGreeting, kReplyHeader, kReplyData };

  State on_greeting(nbd::Bytes bytes, std::string& out);
  State on_reply_header(nbd::Bytes bytes);
  State on_reply(nbd::Bytes data);
  State on_info(nbd::Bytes data);
  State on_acknowledged();
  State expect_header();
  State fail(const absl::Status& why);
  State broken(std::string_view how);

  const std::string name_;
  Expect expect_ = Expect::kGreeting;
  size_t wanted_ = 18;  // the two magics and the handshake flags
  uint32_t reply_type_ = 0;
  int replies_ = 0;
  bool told_ = false;  // NBD_INFO_EXPORT has come
  uint64_t size_bytes_ = 0;
  uint16_t transmission_flags_ = 0;
  uint32_t min_block_bytes_ = 1;
  absl::Status error_;
};

}  // namespace blobcache::blockdev
