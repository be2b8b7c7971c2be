#include "blockdev/impl/nbd_codec.h"

#include <algorithm>

namespace blobcache::blockdev::nbd {
namespace {

template <typename T>
T load(const std::byte* at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) value = value << 8 | std::to_integer<uint64_t>(at[i]);
  return static_cast<T>(value);
}

template <typename T>
void store(std::byte*& at, T value) {
  for (size_t i = sizeof(T); i-- > 0;) {
    *at++ = static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i) & 0xff);
  }
}

template <typename T>
void append(std::string& out, T value) {
  for (size_t i = sizeof(T); i-- > 0;) {
    out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i) & 0xff));
  }
}

void append_option_reply_header(std::string& out, uint32_t option, uint32_t type, size_t length) {
  append(out, kOptionReplyMagic);
  append(out, option);
  append(out, type);
  append(out, static_cast<uint32_t>(length));
}

void store_chunk_header(std::byte*& at, uint16_t flags, uint16_t type, uint64_t cookie,
                        uint32_t length) {
  store(at, kStructuredReplyMagic);
  store(at, flags);
  store(at, type);
  store(at, cookie);
  store(at, length);
}

}  // namespace

std::optional<Request> decode_request(Bytes bytes) {
  const std::byte* at = bytes.data();
  if (load<uint32_t>(at) != kRequestMagic) return std::nullopt;
  return Request{.flags = load<uint16_t>(at + 4),
                 .type = load<uint16_t>(at + 6),
                 .cookie = load<uint64_t>(at + 8),
                 .offset = load<uint64_t>(at + 16),
                 .length = load<uint32_t>(at + 24)};
}

std::optional<OptionHeader> decode_option_header(Bytes bytes) {
  const std::byte* at = bytes.data();
  if (load<uint64_t>(at) != kOptionMagic) return std::nullopt;
  return OptionHeader{.option = load<uint32_t>(at + 8), .length = load<uint32_t>(at + 12)};
}

uint32_t decode_client_flags(Bytes bytes) { return load<uint32_t>(bytes.data()); }

bool InfoRequest::wants(uint16_t type) const {
  return std::find(wanted.begin(), wanted.end(), type) != wanted.end();
}

std::optional<InfoRequest> decode_info_request(Bytes data) {
  constexpr size_t kFixed = 6;  // the name's length and the number of requests
  if (data.size() < kFixed) return std::nullopt;
  const uint32_t name_length = load<uint32_t>(data.data());
  if (name_length > data.size() - kFixed) return std::nullopt;
  const std::byte* at = data.data() + sizeof(uint32_t);
  InfoRequest request;
  request.name = {reinterpret_cast<const char*>(at), name_length};
  at += name_length;
  const uint16_t count = load<uint16_t>(at);
  at += sizeof(uint16_t);
  if (data.size() - kFixed - name_length != size_t{count} * sizeof(uint16_t)) return std::nullopt;
  request.wanted.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    request.wanted.push_back(load<uint16_t>(at + i * sizeof(uint16_t)));
  }
  return request;
}

void append_greeting(std::string& out, uint16_t handshake_flags) {
  append(out, kInitPasswd);
  append(out, kOptionMagic);
  append(out, handshake_flags);
}

void append_option_reply(std::string& out, uint32_t option, uint32_t type, std::string_view data) {
  append_option_reply_header(out, option, type, data.size());
  out.append(data);
}

void append_server_reply(std::string& out, uint32_t option, std::string_view name) {
  append_option_reply_header(out, option, kRepServer, sizeof(uint32_t) + name.size());
  append(out, static_cast<uint32_t>(name.size()));
  out.append(name);
}

void append_info_export(std::string& out, uint32_t option, uint64_t size_bytes,
                        uint16_t transmission_flags) {
  append_option_reply_header(out, option, kRepInfo, 12);
  append(out, kInfoExport);
  append(out, size_bytes);
  append(out, transmission_flags);
}

void append_info_text(std::string& out, uint32_t option, uint16_t type, std::string_view text) {
  append_option_reply_header(out, option, kRepInfo, sizeof(uint16_t) + text.size());
  append(out, type);
  out.append(text);
}

void append_info_block_size(std::string& out, uint32_t option) {
  append_option_reply_header(out, option, kRepInfo, 14);
  append(out, kInfoBlockSize);
  append(out, kMinBlock);
  append(out, kPreferredBlock);
  append(out, kMaxPayload);
}

void append_export_name_reply(std::string& out, uint64_t size_bytes, uint16_t transmission_flags,
                              bool zeroes) {
  append(out, size_bytes);
  append(out, transmission_flags);
  if (zeroes) out.append(124, '\0');
}

size_t encode_simple_reply(ReplyHeader& out, uint64_t cookie, uint32_t error) {
  std::byte* at = out.data();
  store(at, kSimpleReplyMagic);
  store(at, error);
  store(at, cookie);
  return kSimpleReplyBytes;
}

size_t encode_none_chunk(ReplyHeader& out, uint64_t cookie) {
  std::byte* at = out.data();
  store_chunk_header(at, kReplyFlagDone, kReplyTypeNone, cookie, 0);
  return kChunkHeaderBytes;
}

size_t encode_data_chunk(ReplyHeader& out, uint64_t cookie, uint64_t offset, uint32_t length,
                         bool done) {
  std::byte* at = out.data();
  store_chunk_header(at, done ? kReplyFlagDone : uint16_t{0}, kReplyTypeOffsetData, cookie,
                     length + static_cast<uint32_t>(sizeof(uint64_t)));
  store(at, offset);
  return kDataChunkHeaderBytes;
}

std::string encode_error_chunk(uint64_t cookie, uint32_t error, std::string_view message,
                               std::optional<uint64_t> offset) {
  message = message.substr(0, kMaxString);
  const size_t length = 6 + message.size() + (offset ? sizeof(uint64_t) : 0);
  std::string out;
  out.reserve(kChunkHeaderBytes + length);
  append(out, kStructuredReplyMagic);
  append(out, kReplyFlagDone);
  append(out, offset ? kReplyTypeErrorOffset : kReplyTypeError);
  append(out, cookie);
  append(out, static_cast<uint32_t>(length));
  append(out, error);
  append(out, static_cast<uint16_t>(message.size()));
  out.append(message);
  if (offset) append(out, *offset);
  return out;
}

}  // namespace blobcache::blockdev::nbd
