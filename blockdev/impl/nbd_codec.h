#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "blockdev/impl/nbd_protocol.h"

/// NBD messages to bytes and back: pure, without state and without I/O. Decoders look at no byte
/// past the span that they are given.
namespace blobcache::blockdev::nbd {

using Bytes = absl::Span<const std::byte>;

/// A request of the transmission phase, without its payload. Value type.
struct Request {
  uint16_t flags = 0;
  uint16_t type = 0;
  uint64_t cookie = 0;
  uint64_t offset = 0;
  uint64_t length = 0;  ///< of the range, or of the payload; 32 bits unless headers are extended
};

/// From the first kRequestBytes of `bytes`, which must have as many. Nothing when the magic is
/// wrong.
[[nodiscard]] std::optional<Request> decode_request(Bytes bytes);
/// The same with extended headers, of kExtendedRequestBytes.
[[nodiscard]] std::optional<Request> decode_extended_request(Bytes bytes);

/// The header of an option: which one, and how many bytes of data follow. Value type.
struct OptionHeader {
  uint32_t option = 0;
  uint32_t length = 0;
};
inline constexpr size_t kOptionHeaderBytes = 16;

/// From the first kOptionHeaderBytes of `bytes`, which must have as many. Nothing when the magic is
/// wrong.
[[nodiscard]] std::optional<OptionHeader> decode_option_header(Bytes bytes);

/// From the first 4 bytes of `bytes`, which must have as many.
[[nodiscard]] uint32_t decode_client_flags(Bytes bytes);

/// The data of NBD_OPT_INFO and NBD_OPT_GO. `name` views the bytes that were decoded.
struct InfoRequest {
  std::string_view name;
  std::vector<uint16_t> wanted;  ///< NBD_INFO types, known or not, in the client's order

  [[nodiscard]] bool wants(uint16_t type) const;
};

/// Nothing when the lengths inside do not add up to exactly the bytes given.
[[nodiscard]] std::optional<InfoRequest> decode_info_request(Bytes data);

/// The data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. All views are of the bytes
/// that were decoded.
struct MetaRequest {
  std::string_view name;  ///< the export's
  std::vector<std::string_view> queries;
};

/// Nothing when the lengths inside do not add up to exactly the bytes given.
[[nodiscard]] std::optional<MetaRequest> decode_meta_request(Bytes data);

// What the server says while options are haggled over; each call appends one message to `out`.
void append_greeting(std::string& out, uint16_t handshake_flags);
void append_option_reply(std::string& out, uint32_t option, uint32_t type, std::string_view data);
/// NBD_REP_SERVER.
void append_server_reply(std::string& out, uint32_t option, std::string_view name);
/// NBD_REP_INFO with NBD_INFO_EXPORT.
void append_info_export(std::string& out, uint32_t option, uint64_t size_bytes,
                        uint16_t transmission_flags);
/// NBD_REP_INFO with NBD_INFO_NAME or NBD_INFO_DESCRIPTION.
void append_info_text(std::string& out, uint32_t option, uint16_t type, std::string_view text);
/// NBD_REP_INFO with NBD_INFO_BLOCK_SIZE.
void append_info_block_size(std::string& out, uint32_t option);
/// NBD_REP_META_CONTEXT.
void append_meta_context(std::string& out, uint32_t option, uint32_t id, std::string_view name);
/// The answer to NBD_OPT_EXPORT_NAME; `zeroes` adds the 124 reserved bytes.
void append_export_name_reply(std::string& out, uint64_t size_bytes, uint16_t transmission_flags,
                              bool zeroes);

}  // namespace blobcache::blockdev::nbd
