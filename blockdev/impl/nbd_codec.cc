#include "blockdev/impl/nbd_codec.h"

#include <algorithm>

#include "blockdev/impl/big_endian.h"

namespace blobcache::blockdev::nbd {
namespace {

void append_option_reply_header(std::string& out, uint32_t option, uint32_t type, size_t length) {
  append(out, kOptionReplyMagic);
  append(out, option);
  append(out, type);
  append(out, static_cast<uint32_t>(length));
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

std::optional<Request> decode_extended_request(Bytes bytes) {
  const std::byte* at = bytes.data();
  if (load<uint32_t>(at) != kExtendedRequestMagic) return std::nullopt;
  return Request{.flags = load<uint16_t>(at + 4),
                 .type = load<uint16_t>(at + 6),
                 .cookie = load<uint64_t>(at + 8),
                 .offset = load<uint64_t>(at + 16),
                 .length = load<uint64_t>(at + 24)};
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

std::optional<MetaRequest> decode_meta_request(Bytes data) {
  MetaRequest request;
  // Takes a length and as many bytes off the front.
  const auto take_text = [&data](std::string_view& text) {
    if (data.size() < sizeof(uint32_t)) return false;
    const uint32_t length = load<uint32_t>(data.data());
    data.remove_prefix(sizeof(uint32_t));
    if (length > data.size()) return false;
    text = {reinterpret_cast<const char*>(data.data()), length};
    data.remove_prefix(length);
    return true;
  };
  if (!take_text(request.name) || data.size() < sizeof(uint32_t)) return std::nullopt;
  const uint32_t count = load<uint32_t>(data.data());
  data.remove_prefix(sizeof(uint32_t));
  // No more than the bytes can hold, whatever the number says.
  if (count > data.size() / sizeof(uint32_t)) return std::nullopt;
  for (uint32_t i = 0; i < count; ++i) {
    if (!take_text(request.queries.emplace_back())) return std::nullopt;
  }
  if (!data.empty()) return std::nullopt;
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

void append_meta_context(std::string& out, uint32_t option, uint32_t id, std::string_view name) {
  append_option_reply_header(out, option, kRepMetaContext, sizeof(uint32_t) + name.size());
  append(out, id);
  out.append(name);
}

void append_export_name_reply(std::string& out, uint64_t size_bytes, uint16_t transmission_flags,
                              bool zeroes) {
  append(out, size_bytes);
  append(out, transmission_flags);
  if (zeroes) out.append(124, '\0');
}

}  // namespace blobcache::blockdev::nbd
