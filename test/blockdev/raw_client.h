#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace blobcache::blockdev {

// The protocol's numbers, as its specification has them: commands and their flags.
inline constexpr uint16_t kRawRead = 0;
inline constexpr uint16_t kRawDisc = 2;
inline constexpr uint16_t kRawFlush = 3;
inline constexpr uint16_t kRawTrim = 4;
inline constexpr uint16_t kRawCache = 5;
inline constexpr uint16_t kRawZeroes = 6;
inline constexpr uint16_t kRawStatus = 7;
inline constexpr uint16_t kRawFua = 1;
inline constexpr uint16_t kRawNoHole = 2;
inline constexpr uint16_t kRawDf = 4;
inline constexpr uint16_t kRawReqOne = 8;
inline constexpr uint16_t kRawFastZero = 16;

inline constexpr uint64_t kMiB = uint64_t{1} << 20;

/// An NBD client that says any bytes it is told to, right or wrong, and knows nothing of the
/// server's code: the numbers are its own. Every receive gives up after 20 s, so that a broken
/// server fails the test and does not hang it. Not thread-safe.
class RawClient {
 public:
  explicit RawClient(base::UniqueFd socket);
  static RawClient connect(const std::string& socket_path);
  static RawClient connect_tcp(uint16_t port);

  struct OptionReply {
    uint32_t option = 0;
    uint32_t type = 0;
    std::string data;
  };
  enum class Style { kSimple, kStructured, kExtended };
  struct StatusRun {
    uint64_t length = 0;
    uint64_t flags = 0;

    friend bool operator==(const StatusRun&, const StatusRun&) = default;
  };
  /// A simple reply has no chunk fields set; a read's payload is asked for by its length.
  struct Reply {
    bool structured = false;
    uint16_t flags = 0;
    uint16_t type = 0;
    uint64_t cookie = 0;
    uint64_t request_offset = 0;  ///< of extended replies
    uint32_t error = 0;
    uint64_t offset = 0;
    uint64_t hole = 0;  ///< its length
    std::string data;
    uint32_t context = 0;
    std::vector<StatusRun> status;

    [[nodiscard]] bool done() const { return !structured || (flags & 1) != 0; }
  };

  void send(std::string_view bytes);
  /// Exactly so many bytes; fewer when the connection ended.
  [[nodiscard]] std::string receive(size_t size);
  /// True when the server has closed the connection and sent nothing more.
  [[nodiscard]] bool at_end();
  void shut_down_sending();

  /// The greeting and the client flags.
  void greet(uint32_t client_flags = 3);
  void send_option(uint32_t option, std::string_view data);
  [[nodiscard]] OptionReply receive_option_reply();
  /// All replies to one option, up to the final one.
  std::vector<OptionReply> ask(uint32_t option, std::string_view data);
  /// greet() to NBD_OPT_GO; returns the export's size.
  uint64_t open(std::string_view name, bool structured);
  /// The same in any style, with metadata contexts (which must be granted).
  uint64_t open(std::string_view name, Style style, const std::vector<std::string>& contexts = {});

  void send_request(uint16_t type, uint64_t cookie, uint64_t offset, uint64_t length,
                    uint16_t flags = 0);
  /// The bytes of a request, in the style that is agreed on; a write has its payload behind it.
  [[nodiscard]] std::string request(uint16_t type, uint64_t cookie, uint64_t offset,
                                    uint64_t length, uint16_t flags = 0) const;
  [[nodiscard]] std::string write_request(uint64_t cookie, uint64_t offset, std::string_view data,
                                          uint16_t flags = 0) const;
  /// `data_length` is what a simple reply without an error is followed by.
  [[nodiscard]] Reply receive_reply(size_t data_length = 0);
  /// A read, put together from its chunks, which must cover it once; `holes` counts the bytes that
  /// came as holes. Empty when it failed.
  [[nodiscard]] std::string read(uint64_t offset, uint32_t length, uint16_t flags = 0,
                                 uint64_t* holes = nullptr);

  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  void take_payload(Reply& reply, const std::string& payload) const;

  base::UniqueFd socket_;
  Style style_ = Style::kSimple;
};

/// Big-endian bytes, for messages made by hand.
[[nodiscard]] std::string be16(uint16_t value);
[[nodiscard]] std::string be32(uint32_t value);
[[nodiscard]] std::string be64(uint64_t value);
/// The data of NBD_OPT_GO and NBD_OPT_INFO.
[[nodiscard]] std::string info_request(std::string_view name,
                                       const std::vector<uint16_t>& wanted = {});
/// The data of the options for metadata contexts.
[[nodiscard]] std::string meta_request(std::string_view name,
                                       const std::vector<std::string>& queries);

}  // namespace blobcache::blockdev
