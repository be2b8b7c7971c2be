#include "blockdev/impl/netlink_message.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>

#include <algorithm>
#include <cstring>

namespace blobcache::blockdev::netlink {
namespace {

constexpr size_t aligned(size_t size) {
  return (size + NLMSG_ALIGNTO - 1) & ~size_t{NLMSG_ALIGNTO - 1};
}

constexpr size_t kHeader = aligned(sizeof(nlmsghdr));
constexpr size_t kAttributeHeader = aligned(sizeof(nlattr));

/// A copy of what stands at the front of `bytes`, which must have as many.
template <typename T>
T load(Bytes bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

template <typename T>
void append(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  out.resize(aligned(out.size()));
}

Bytes drop(Bytes bytes, size_t count) { return bytes.subspan(std::min(count, bytes.size())); }

std::string_view text_of(Bytes bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return text.substr(0, text.find('\0'));
}

/// NLMSG_ERROR: an errno value, the header of what it answers, perhaps all of that, and perhaps
/// attributes.
void parse_error(Bytes payload, uint16_t flags, Message& message) {
  if (payload.size() < sizeof(nlmsgerr)) {
    message.error = EPROTO;
    return;
  }
  const auto body = load<nlmsgerr>(payload);
  message.error = -body.error;
  if ((flags & NLM_F_ACK_TLVS) == 0) return;
  const size_t echoed = (flags & NLM_F_CAPPED) != 0 ? sizeof(nlmsghdr) : body.msg.nlmsg_len;
  const Bytes attributes = drop(payload, sizeof(body.error) + aligned(echoed));
  if (const std::optional<Bytes> text = find(attributes, NLMSGERR_ATTR_MSG)) {
    message.explanation = text_of(*text);
  }
}

template <typename T>
std::optional<T> find_number(Bytes attributes, uint16_t type) {
  const std::optional<Bytes> value = find(attributes, type);
  if (!value || value->size() < sizeof(T)) return std::nullopt;
  return load<T>(*value);
}

}  // namespace

void Attributes::add(uint16_t type, const void* data, size_t size) {
  nlattr header{};
  header.nla_len = static_cast<uint16_t>(kAttributeHeader + size);
  header.nla_type = type;
  append(bytes_, header);
  bytes_.append(static_cast<const char*>(data), size);
  bytes_.resize(aligned(bytes_.size()));
}

void Attributes::add_u32(uint16_t type, uint32_t value) { add(type, &value, sizeof(value)); }

void Attributes::add_u64(uint16_t type, uint64_t value) { add(type, &value, sizeof(value)); }

void Attributes::add_text(uint16_t type, std::string_view text) {
  const std::string terminated(text.substr(0, size_t{32} << 10));
  add(type, terminated.c_str(), terminated.size() + 1);
}

void Attributes::add_nested(uint16_t type, const Attributes& inner) {
  add(type | NLA_F_NESTED, inner.bytes().data(), inner.bytes().size());
}

std::string request(uint16_t family, uint8_t version, uint8_t command, uint32_t sequence,
                    const Attributes& attributes) {
  nlmsghdr header{};
  genlmsghdr generic{};
  header.nlmsg_len =
      static_cast<uint32_t>(kHeader + aligned(sizeof(generic)) + attributes.bytes().size());
  header.nlmsg_type = family;
  header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  header.nlmsg_seq = sequence;
  generic.cmd = command;
  generic.version = version;
  std::string out;
  append(out, header);
  append(out, generic);
  return out + attributes.bytes();
}

std::vector<Message> parse(Bytes datagram) {
  std::vector<Message> messages;
  while (datagram.size() >= kHeader) {
    const auto header = load<nlmsghdr>(datagram);
    if (header.nlmsg_len < kHeader || header.nlmsg_len > datagram.size()) break;
    const Bytes payload = datagram.subspan(kHeader, header.nlmsg_len - kHeader);
    datagram = drop(datagram, aligned(header.nlmsg_len));
    Message message;
    message.sequence = header.nlmsg_seq;
    if (header.nlmsg_type == NLMSG_ERROR) {
      parse_error(payload, header.nlmsg_flags, message);
    } else if (header.nlmsg_type < NLMSG_MIN_TYPE) {
      continue;  // NLMSG_NOOP and the like
    } else {
      message.attributes = drop(payload, aligned(sizeof(genlmsghdr)));
    }
    messages.push_back(message);
  }
  return messages;
}

std::optional<Bytes> find(Bytes attributes, uint16_t type) {
  while (attributes.size() >= kAttributeHeader) {
    const auto header = load<nlattr>(attributes);
    if (header.nla_len < kAttributeHeader || header.nla_len > attributes.size()) break;
    if ((header.nla_type & NLA_TYPE_MASK) == type) {
      return attributes.subspan(kAttributeHeader, header.nla_len - kAttributeHeader);
    }
    attributes = drop(attributes, aligned(header.nla_len));
  }
  return std::nullopt;
}

std::optional<uint16_t> find_u16(Bytes attributes, uint16_t type) {
  return find_number<uint16_t>(attributes, type);
}

std::optional<uint32_t> find_u32(Bytes attributes, uint16_t type) {
  return find_number<uint32_t>(attributes, type);
}

}  // namespace blobcache::blockdev::netlink
