#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"

namespace blobcache::blockdev {

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
  /// A simple reply has no chunk fields set; a read's payload is asked for by its length.
  struct Reply {
    bool structured = false;
    uint16_t flags = 0;
    uint16_t type = 0;
    uint64_t cookie = 0;
    uint32_t error = 0;
    uint64_t offset = 0;
    std::string data;

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

  void send_request(uint16_t type, uint64_t cookie, uint64_t offset, uint32_t length,
                    uint16_t flags = 0);
  /// `data_length` is what a simple reply without an error is followed by.
  [[nodiscard]] Reply receive_reply(size_t data_length = 0);

  [[nodiscard]] int fd() const { return socket_.get(); }

 private:
  base::UniqueFd socket_;
  bool structured_ = false;
};

/// Big-endian bytes, for messages made by hand.
[[nodiscard]] std::string be16(uint16_t value);
[[nodiscard]] std::string be32(uint32_t value);
[[nodiscard]] std::string be64(uint64_t value);
/// The data of NBD_OPT_GO and NBD_OPT_INFO.
[[nodiscard]] std::string info_request(std::string_view name,
                                       const std::vector<uint16_t>& wanted = {});

}  // namespace blobcache::blockdev
