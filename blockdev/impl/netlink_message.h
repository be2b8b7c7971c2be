#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

/// Generic netlink messages to bytes and back: pure, without state and without I/O. Numbers are in
/// the machine's own byte order, everything is padded to four bytes (netlink(7), and the kernel's
/// Documentation/userspace-api/netlink/intro.rst).
namespace blobcache::blockdev::netlink {

using Bytes = absl::Span<const std::byte>;

/// Attributes, one after another as they are added. Value type.
class Attributes {
 public:
  void add_u32(uint16_t type, uint32_t value);
  void add_u64(uint16_t type, uint64_t value);
  /// With a NUL behind it. At most 32 KiB.
  void add_text(uint16_t type, std::string_view text);
  void add_nested(uint16_t type, const Attributes& inner);

  [[nodiscard]] const std::string& bytes() const { return bytes_; }

 private:
  void add(uint16_t type, const void* data, size_t size);

  std::string bytes_;
};

/// A request of a family that asks for an acknowledgment.
[[nodiscard]] std::string request(uint16_t family, uint8_t version, uint8_t command,
                                  uint32_t sequence, const Attributes& attributes);

/// One message of an answer. Views the bytes that it was read from.
struct Message {
  uint32_t sequence = 0;
  /// Of the final message: 0 or an errno value. Others carry attributes.
  std::optional<int> error;
  std::string_view explanation;  ///< of an error, where the kernel has one
  Bytes attributes;
};

/// The messages of one datagram. What is cut short, or no message, ends it.
[[nodiscard]] std::vector<Message> parse(Bytes datagram);

/// The first attribute of this type. Whatever the lengths inside say, nothing past `attributes` is
/// looked at.
[[nodiscard]] std::optional<Bytes> find(Bytes attributes, uint16_t type);
/// The same as a number; nothing when it is shorter.
[[nodiscard]] std::optional<uint16_t> find_u16(Bytes attributes, uint16_t type);
[[nodiscard]] std::optional<uint32_t> find_u32(Bytes attributes, uint16_t type);

}  // namespace blobcache::blockdev::netlink
