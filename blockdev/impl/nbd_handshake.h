#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "blockdev/impl/nbd_codec.h"
#include "blockdev/nbd_server.h"
#include "store/page/object.h"

namespace blobcache::blockdev {

/// An export that a client has opened.
struct OpenExport {
  std::string name;  ///< its path in the tree
  page::ObjectRef object;
};

/// Which exports there are, as a handshake asks. Thread-safe.
class ExportDirectory {
 public:
  virtual ~ExportDirectory() = default;
  /// The export that a client calls `name`, which is any bytes at all; "" is the default export.
  [[nodiscard]] virtual absl::StatusOr<OpenExport> open(std::string_view name) = 0;
  /// As NbdServer::exports.
  [[nodiscard]] virtual absl::StatusOr<std::vector<Export>> list(size_t limit) = 0;
};

/// The server's side of a newstyle handshake, from the greeting to the choice of an export: a state
/// machine over bytes that does no I/O of its own, so that a test or a fuzzer drives it as a socket
/// does.
///
/// Memory is bounded: the data of an option is kept up to kMaxOption bytes, and longer data is
/// skipped unread. The answer to NBD_OPT_LIST names at most kMaxListed exports. Not thread-safe.
class Handshake {
 public:
  enum class State : uint8_t { kNegotiating, kTransmission, kClose };

  static constexpr size_t kMaxOption = size_t{64} << 10;
  /// An option that claims more data than this is no mistake but nonsense; the connection is
  /// closed.
  static constexpr size_t kMaxSkipped = size_t{32} << 20;
  static constexpr size_t kMaxListed = 10'000;

  /// `exports` must outlive this.
  explicit Handshake(ExportDirectory& exports) : exports_(exports) {}

  /// What the server says first.
  static void greet(std::string& out);

  /// Takes bytes off the front of `input`, up to and including one option, and appends the answer
  /// to `out`. Call it again with what is left, once `out` is sent (or at once). In kTransmission
  /// and kClose, which are final, it takes nothing; in kTransmission what is left of `input` are
  /// requests.
  State advance(nbd::Bytes& input, std::string& out);

  /// After kTransmission.
  [[nodiscard]] OpenExport& chosen() { return chosen_; }
  [[nodiscard]] bool structured_replies() const { return structured_replies_; }

  /// Why kClose, for the log; empty when the client asked for it.
  [[nodiscard]] std::string_view violation() const { return violation_; }

  /// NBD's transmission flags for a read-only export.
  [[nodiscard]] static uint16_t transmission_flags(bool structured_replies);

 private:
  enum class Expect : uint8_t { kClientFlags, kOptionHeader, kOptionData, kSkippedData };

  [[nodiscard]] bool collect(nbd::Bytes& input);
  State on_client_flags();
  State on_option_header();
  State on_option(std::string& out);
  State on_export_name(std::string& out);
  State on_info(bool go, std::string& out);
  void on_list(std::string& out);
  void on_structured_reply(std::string& out);
  State close(std::string_view violation);
  void reply(std::string& out, uint32_t type, std::string_view text) const;

  ExportDirectory& exports_;
  Expect expect_ = Expect::kClientFlags;
  size_t wanted_ = sizeof(uint32_t);  // bytes that expect_ needs, those in buffer_ included
  std::string buffer_;
  nbd::OptionHeader option_;
  State state_ = State::kNegotiating;
  bool no_zeroes_ = false;
  bool structured_replies_ = false;
  OpenExport chosen_;
  std::string_view violation_;
};

}  // namespace blobcache::blockdev
