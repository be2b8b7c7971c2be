#include "blockdev/impl/nbd_client_handshake.h"

#include <fmt/format.h>

#include <cstddef>
#include <string_view>

#include "base/status.h"
#include "blockdev/impl/nbd_protocol.h"

namespace blobcache::blockdev {
namespace {

constexpr size_t kReplyHeaderBytes = 20;

template <typename T>
T load(nbd::Bytes bytes, size_t at) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    value = value << 8 | std::to_integer<uint64_t>(bytes[at + i]);
  }
  return static_cast<T>(value);
}

template <typename T>
void append(std::string& out, T value) {
  for (size_t i = sizeof(T); i-- > 0;) {
    out.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i) & 0xff));
  }
}

/// What the server has to say about an error, as ": text", at most kMaxString bytes of it.
std::string told(nbd::Bytes data) {
  std::string_view text(reinterpret_cast<const char*>(data.data()), data.size());
  text = text.substr(0, nbd::kMaxString);
  return text.empty() ? std::string() : fmt::format(": {}", text);
}

absl::Status refusal(uint32_t type, nbd::Bytes data) {
  switch (type) {
    case nbd::kRepErrUnknown:
      return base::error(absl::StatusCode::kNotFound,
                         "the NBD server has no such export" + told(data));
    case nbd::kRepErrTlsReqd:
      return base::error(
          absl::StatusCode::kFailedPrecondition,
          "the NBD server requires TLS, which the kernel's NBD driver does not speak");
    case nbd::kRepErrPolicy:
      return base::error(absl::StatusCode::kPermissionDenied,
                         "the NBD server refuses" + told(data));
    case nbd::kRepErrUnsup:
      return base::error(absl::StatusCode::kUnimplemented,
                         "the NBD server is too old: it does not have NBD_OPT_GO");
    default:
      return base::error(
          absl::StatusCode::kInternal,
          fmt::format("the NBD server refuses with error {:#x}{}", type, told(data)));
  }
}

}  // namespace

ClientHandshake::State ClientHandshake::take(nbd::Bytes bytes, std::string& out) {
  switch (expect_) {
    case Expect::kGreeting:
      return on_greeting(bytes, out);
    case Expect::kReplyHeader:
      return on_reply_header(bytes);
    case Expect::kReplyData:
      return on_reply(bytes);
  }
  return State::kFailed;
}

/// Answered with the client flags and NBD_OPT_GO at once: nothing of the greeting changes what we
/// want.
ClientHandshake::State ClientHandshake::on_greeting(nbd::Bytes bytes, std::string& out) {
  if (load<uint64_t>(bytes, 0) != nbd::kInitPasswd) return broken("it did not greet as one");
  if (load<uint64_t>(bytes, 8) != nbd::kOptionMagic) {
    return fail(absl::UnimplementedError("the NBD server is too old: it does not negotiate"));
  }
  const auto offered = load<uint16_t>(bytes, 16);
  if ((offered & nbd::kFlagFixedNewstyle) == 0) {
    return fail(absl::UnimplementedError("the NBD server is too old: no fixed newstyle handshake"));
  }
  append(out,
         uint32_t{static_cast<uint32_t>(offered & nbd::kFlagNoZeroes) | nbd::kFlagFixedNewstyle});
  append(out, nbd::kOptionMagic);
  append(out, nbd::kOptGo);
  append(out, static_cast<uint32_t>(2 * sizeof(uint32_t) + name_.size()));
  append(out, static_cast<uint32_t>(name_.size()));
  out += name_;
  append(out, uint16_t{1});  // one kind of information, beside the one that always comes
  append(out, nbd::kInfoBlockSize);
  return expect_header();
}

ClientHandshake::State ClientHandshake::on_reply_header(nbd::Bytes bytes) {
  if (load<uint64_t>(bytes, 0) != nbd::kOptionReplyMagic)
    return broken("a reply had a wrong magic");
  if (load<uint32_t>(bytes, 8) != nbd::kOptGo) return broken("it answered what was not asked");
  if (++replies_ > kMaxReplies) return broken("it does not come to an end");
  reply_type_ = load<uint32_t>(bytes, 12);
  const auto length = load<uint32_t>(bytes, 16);
  if (length > kMaxReply) return broken("a reply claimed more than 64 KiB");
  if (length == 0) return on_reply({});
  expect_ = Expect::kReplyData;
  wanted_ = length;
  return State::kNegotiating;
}

ClientHandshake::State ClientHandshake::on_reply(nbd::Bytes data) {
  if ((reply_type_ & nbd::kRepErrorBit) != 0) return fail(refusal(reply_type_, data));
  switch (reply_type_) {
    case nbd::kRepInfo:
      return on_info(data);
    case nbd::kRepAck:
      return on_acknowledged();
    default:
      return broken("it answered with a type that does not belong here");
  }
}

ClientHandshake::State ClientHandshake::on_info(nbd::Bytes data) {
  if (data.size() < sizeof(uint16_t)) return broken("an NBD_REP_INFO was too short");
  const auto type = load<uint16_t>(data, 0);
  if (type == nbd::kInfoExport) {
    if (data.size() != 12) return broken("NBD_INFO_EXPORT had a wrong length");
    size_bytes_ = load<uint64_t>(data, 2);
    transmission_flags_ = load<uint16_t>(data, 10);
    if ((transmission_flags_ & nbd::kFlagHasFlags) == 0) return broken("it told no export flags");
    told_ = true;
  } else if (type == nbd::kInfoBlockSize) {
    if (data.size() != 14) return broken("NBD_INFO_BLOCK_SIZE had a wrong length");
    min_block_bytes_ = load<uint32_t>(data, 2);
    const bool power_of_two =
        min_block_bytes_ != 0 && (min_block_bytes_ & (min_block_bytes_ - 1)) == 0;
    if (!power_of_two) return broken("its block size was no power of two");
  }
  return expect_header();
}

ClientHandshake::State ClientHandshake::on_acknowledged() {
  return told_ ? State::kOpen : broken("it did not tell the export's size");
}

ClientHandshake::State ClientHandshake::expect_header() {
  expect_ = Expect::kReplyHeader;
  wanted_ = kReplyHeaderBytes;
  return State::kNegotiating;
}

ClientHandshake::State ClientHandshake::fail(const absl::Status& why) {
  error_ = why;
  return State::kFailed;
}

ClientHandshake::State ClientHandshake::broken(std::string_view how) {
  return fail(base::error(absl::StatusCode::kInternal,
                          fmt::format("what answers is no NBD server, or a broken one: {}", how)));
}

}  // namespace blobcache::blockdev
