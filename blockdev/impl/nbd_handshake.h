#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "blockdev/impl/device.h"
#include "blockdev/impl/export_directory.h"
#include "blockdev/impl/meta_contexts.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/impl/nbd_reply_codec.h"
#include "blockdev/tls.h"

namespace blobcache::blockdev {

/// The server's side of a newstyle handshake, from the greeting to the choice of an export: a state
/// machine over bytes that does no I/O of its own, so that a test or a fuzzer drives it as a socket
/// does.
///
/// Memory is bounded: the data of an option is kept up to kMaxOption bytes, and longer data is
/// skipped unread. The answer to NBD_OPT_LIST names at most kMaxListed exports. Not thread-safe.
class Handshake {
 public:
  /// kStartTls: send what is in `out`, then TLS begins; tls_started() tells when it has.
  enum class State : uint8_t { kNegotiating, kStartTls, kTransmission, kClose };

  static constexpr size_t kMaxOption = size_t{64} << 10;
  /// An option that claims more data than this is no mistake but nonsense; the connection is
  /// closed.
  static constexpr size_t kMaxSkipped = size_t{32} << 20;
  static constexpr size_t kMaxListed = 10'000;

  /// `exports` must outlive this.
  explicit Handshake(ExportDirectory& exports, TlsMode tls = TlsMode::kOff)
      : exports_(exports), tls_(tls), contexts_(exports) {}

  /// What the server says first.
  static void greet(std::string& out);

  /// Takes bytes off the front of `input`, up to and including one option, and appends the answer
  /// to `out`. Call it again with what is left, once `out` is sent (or at once). In kTransmission
  /// and kClose, which are final, it takes nothing; in kTransmission what is left of `input` are
  /// requests. In kStartTls it takes nothing before tls_started(), and nothing must be left: what a
  /// client sent in clear must not pass for what it said encrypted.
  State advance(nbd::Bytes& input, std::string& out);

  /// What was negotiated in clear is forgotten, and the options go on.
  void tls_started();

  /// After kTransmission.
  [[nodiscard]] OpenExport& chosen() { return chosen_; }
  [[nodiscard]] nbd::HeaderStyle style() const { return style_; }
  [[nodiscard]] MetaContextSet meta_contexts() const { return contexts_.chosen_for(chosen_.name); }

  /// Why kClose, for the log; empty when the client asked for it.
  [[nodiscard]] std::string_view violation() const { return violation_; }

  /// NBD's transmission flags for an export.
  [[nodiscard]] static uint16_t transmission_flags(const Device& device, nbd::HeaderStyle style);

 private:
  enum class Expect : uint8_t { kClientFlags, kOptionHeader, kOptionData, kSkippedData };

  [[nodiscard]] bool collect(nbd::Bytes& input);
  State on_client_flags();
  State on_option_header();
  State on_option(std::string& out);
  State on_start_tls(std::string& out);
  State on_export_name(std::string& out);
  State on_info(bool go, std::string& out);
  void on_list(std::string& out);
  void on_structured_reply(std::string& out);
  void on_extended_headers(std::string& out);
  State close(std::string_view violation);
  void reply(std::string& out, uint32_t type, std::string_view text) const;

  ExportDirectory& exports_;
  const TlsMode tls_;
  bool encrypted_ = false;
  Expect expect_ = Expect::kClientFlags;
  size_t wanted_ = sizeof(uint32_t);  // bytes that expect_ needs, those in buffer_ included
  std::string buffer_;
  nbd::OptionHeader option_;
  State state_ = State::kNegotiating;
  bool no_zeroes_ = false;
  nbd::HeaderStyle style_ = nbd::HeaderStyle::kSimple;
  MetaContexts contexts_;
  OpenExport chosen_;
  std::string_view violation_;
};

}  // namespace blobcache::blockdev
