#include "blockdev/impl/nbd_handshake.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "blockdev/nbd_server.h"

namespace blobcache::blockdev {
namespace {

nbd::Bytes bytes_of(const std::string& text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

/// One answer for what is not there and for what may not be seen, so that nobody learns which. What
/// may be seen and cannot be opened says why.
std::string why_not(const absl::Status& status) {
  if (absl::IsNotFound(status)) return "no such export";
  return "the export cannot be opened: " + std::string(base::message(status));
}

}  // namespace

void Handshake::greet(std::string& out) {
  nbd::append_greeting(out, nbd::kFlagFixedNewstyle | nbd::kFlagNoZeroes);
}

uint16_t Handshake::transmission_flags(const Device& device, nbd::HeaderStyle style) {
  unsigned flags =
      nbd::kFlagHasFlags | nbd::kFlagSendFlush | nbd::kFlagCanMultiConn | nbd::kFlagSendCache;
  if (style != nbd::HeaderStyle::kSimple) flags |= nbd::kFlagSendDf;
  if (device.read_only()) {
    flags |= nbd::kFlagReadOnly;
  } else {
    flags |= nbd::kFlagSendFua | nbd::kFlagSendTrim | nbd::kFlagSendWriteZeroes;
    if (device.can_zero_fast()) flags |= nbd::kFlagSendFastZero;
  }
  return static_cast<uint16_t>(flags);
}

Handshake::State Handshake::advance(nbd::Bytes& input, std::string& out) {
  while (state_ == State::kNegotiating && collect(input)) {
    switch (expect_) {
      case Expect::kClientFlags:
        state_ = on_client_flags();
        break;
      case Expect::kOptionHeader:
        state_ = on_option_header();
        break;
      case Expect::kOptionData:
        state_ = on_option(out);
        buffer_.clear();
        expect_ = Expect::kOptionHeader;
        wanted_ = nbd::kOptionHeaderBytes;
        return state_;
      case Expect::kSkippedData:
        reply(out, nbd::kRepErrTooBig, "the option has too much data");
        expect_ = Expect::kOptionHeader;
        wanted_ = nbd::kOptionHeaderBytes;
        return state_;
    }
  }
  return state_;
}

/// Moves bytes from the input until the wanted ones are there; true when they are.
bool Handshake::collect(nbd::Bytes& input) {
  if (expect_ == Expect::kSkippedData) {
    const size_t skipped = std::min(wanted_, input.size());
    input.remove_prefix(skipped);
    wanted_ -= skipped;
    return wanted_ == 0;
  }
  const size_t taken = std::min(wanted_ - buffer_.size(), input.size());
  buffer_.append(reinterpret_cast<const char*>(input.data()), taken);
  input.remove_prefix(taken);
  return buffer_.size() == wanted_;
}

Handshake::State Handshake::on_client_flags() {
  const uint32_t flags = nbd::decode_client_flags(bytes_of(buffer_));
  const uint32_t known = nbd::kFlagFixedNewstyle | nbd::kFlagNoZeroes;
  if ((flags & ~known) != 0) return close("it set client flags that do not exist");
  no_zeroes_ = (flags & nbd::kFlagNoZeroes) != 0;
  buffer_.clear();
  expect_ = Expect::kOptionHeader;
  wanted_ = nbd::kOptionHeaderBytes;
  return State::kNegotiating;
}

Handshake::State Handshake::on_option_header() {
  const std::optional<nbd::OptionHeader> header = nbd::decode_option_header(bytes_of(buffer_));
  if (!header) return close("an option had the wrong magic");
  option_ = *header;
  buffer_.clear();
  wanted_ = option_.length;
  expect_ = Expect::kOptionData;
  if (option_.length > kMaxSkipped) return close("an option claimed more than 32 MiB of data");
  if (option_.length > kMaxOption) {
    if (option_.option == nbd::kOptExportName) return close("an export name was too long");
    expect_ = Expect::kSkippedData;
  }
  return State::kNegotiating;
}

Handshake::State Handshake::on_option(std::string& out) {
  const bool harmless = option_.option == nbd::kOptAbort || option_.option == nbd::kOptStartTls;
  if (tls_ == TlsMode::kRequire && !encrypted_ && !harmless) {
    // This one has no way to be refused in words.
    if (option_.option == nbd::kOptExportName) return close("it did not begin with TLS");
    reply(out, nbd::kRepErrTlsReqd, "this server wants TLS first");
    return State::kNegotiating;
  }
  switch (option_.option) {
    case nbd::kOptExportName:
      return on_export_name(out);
    case nbd::kOptAbort:
      reply(out, nbd::kRepAck, {});
      return State::kClose;
    case nbd::kOptList:
      on_list(out);
      break;
    case nbd::kOptInfo:
    case nbd::kOptGo:
      return on_info(option_.option == nbd::kOptGo, out);
    case nbd::kOptStructuredReply:
      on_structured_reply(out);
      break;
    case nbd::kOptExtendedHeaders:
      on_extended_headers(out);
      break;
    case nbd::kOptListMetaContext:
    case nbd::kOptSetMetaContext:
      contexts_.answer(option_.option, bytes_of(buffer_), style_ != nbd::HeaderStyle::kSimple, out);
      break;
    case nbd::kOptStartTls:
      return on_start_tls(out);
    default:
      reply(out, nbd::kRepErrUnsup, "this server does not have that option");
      break;
  }
  return State::kNegotiating;
}

Handshake::State Handshake::on_start_tls(std::string& out) {
  if (tls_ == TlsMode::kOff) {
    reply(out, nbd::kRepErrPolicy, "this server does not have TLS switched on");
    return State::kNegotiating;
  }
  if (!buffer_.empty()) {
    reply(out, nbd::kRepErrInvalid, "NBD_OPT_STARTTLS takes no data");
    return State::kNegotiating;
  }
  if (encrypted_) {
    reply(out, nbd::kRepErrInvalid, "TLS is there already");
    return State::kNegotiating;
  }
  reply(out, nbd::kRepAck, {});
  return State::kStartTls;
}

void Handshake::tls_started() {
  encrypted_ = true;
  style_ = nbd::HeaderStyle::kSimple;
  contexts_.forget();
  state_ = State::kNegotiating;
}

Handshake::State Handshake::on_export_name(std::string& out) {
  // This option cannot be refused in words: to a client that wants what is not there only the end
  // of the connection says so.
  if (buffer_.size() > nbd::kMaxString) return close("an export name was too long");
  if (style_ == nbd::HeaderStyle::kExtended) {
    return close("it used NBD_OPT_EXPORT_NAME after it had agreed on extended headers");
  }
  absl::StatusOr<OpenExport> opened = exports_.open(buffer_);
  if (!opened.ok()) return close("it asked for an export that cannot be had");
  chosen_ = *std::move(opened);
  nbd::append_export_name_reply(out, chosen_.device->size_bytes(),
                                transmission_flags(*chosen_.device, style_), !no_zeroes_);
  return State::kTransmission;
}

Handshake::State Handshake::on_info(bool go, std::string& out) {
  const std::optional<nbd::InfoRequest> request = nbd::decode_info_request(bytes_of(buffer_));
  if (!request) {
    reply(out, nbd::kRepErrInvalid, "the lengths in the option do not add up");
    return State::kNegotiating;
  }
  if (request->name.size() > nbd::kMaxString) {
    reply(out, nbd::kRepErrInvalid, "the export name is over 4096 bytes");
    return State::kNegotiating;
  }
  absl::StatusOr<OpenExport> opened = exports_.open(request->name);
  if (!opened.ok()) {
    reply(out, nbd::kRepErrUnknown, why_not(opened.status()));
    return State::kNegotiating;
  }
  const Device& device = *opened->device;
  nbd::append_info_export(out, option_.option, device.size_bytes(),
                          transmission_flags(device, style_));
  if (request->wants(nbd::kInfoName)) {
    nbd::append_info_text(out, option_.option, nbd::kInfoName, opened->name);
  }
  if (request->wants(nbd::kInfoDescription)) {
    nbd::append_info_text(out, option_.option, nbd::kInfoDescription, device.description());
  }
  if (request->wants(nbd::kInfoBlockSize)) nbd::append_info_block_size(out, option_.option);
  reply(out, nbd::kRepAck, {});
  if (!go) return State::kNegotiating;
  chosen_ = *std::move(opened);
  return State::kTransmission;
}

void Handshake::on_list(std::string& out) {
  if (!buffer_.empty()) {
    reply(out, nbd::kRepErrInvalid, "NBD_OPT_LIST takes no data");
    return;
  }
  const absl::StatusOr<ExportList> listed = exports_.list(kMaxListed);
  if (!listed.ok()) {
    reply(out, nbd::kRepErrPolicy, "the exports cannot be listed now");
    return;
  }
  for (const Export& item : listed->exports) {
    nbd::append_server_reply(out, option_.option, item.name);
  }
  reply(out, nbd::kRepAck, {});
}

void Handshake::on_structured_reply(std::string& out) {
  if (!buffer_.empty()) {
    reply(out, nbd::kRepErrInvalid, "NBD_OPT_STRUCTURED_REPLY takes no data");
    return;
  }
  if (style_ == nbd::HeaderStyle::kExtended) {
    reply(out, nbd::kRepErrExtHeaderReqd, "extended headers are agreed on, which say more");
    return;
  }
  style_ = nbd::HeaderStyle::kStructured;
  reply(out, nbd::kRepAck, {});
}

void Handshake::on_extended_headers(std::string& out) {
  if (!buffer_.empty()) {
    reply(out, nbd::kRepErrInvalid, "NBD_OPT_EXTENDED_HEADERS takes no data");
    return;
  }
  if (style_ == nbd::HeaderStyle::kExtended) {
    reply(out, nbd::kRepErrInvalid, "extended headers are agreed on already");
    return;
  }
  style_ = nbd::HeaderStyle::kExtended;
  reply(out, nbd::kRepAck, {});
}

Handshake::State Handshake::close(std::string_view violation) {
  violation_ = violation;
  return State::kClose;
}

void Handshake::reply(std::string& out, uint32_t type, std::string_view text) const {
  nbd::append_option_reply(out, option_.option, type, text);
}

}  // namespace blobcache::blockdev
