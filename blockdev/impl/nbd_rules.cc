#include "blockdev/impl/nbd_rules.h"

#include "blockdev/impl/nbd_protocol.h"

namespace blobcache::blockdev {
namespace {

constexpr Refusal kBadField{nbd::kEInval, "a flag or field is not valid for this command"};
constexpr Refusal kBadRange{nbd::kEInval, "the range is empty or not inside the export"};
constexpr Refusal kNoRoom{nbd::kENoSpc, "the range ends after the export"};
constexpr Refusal kReadOnly{nbd::kEPerm, "the export is read-only"};

/// The flags that a command may have here.
unsigned known_flags(const nbd::Request& request, const RequestRules& rules) {
  const bool extended = rules.style == nbd::HeaderStyle::kExtended;
  // A server that takes this one takes it with every command.
  unsigned flags = rules.read_only ? 0U : nbd::kCmdFlagFua;
  switch (request.type) {
    case nbd::kCmdRead:
      if (rules.style != nbd::HeaderStyle::kSimple) flags |= nbd::kCmdFlagDf;
      break;
    case nbd::kCmdWrite:
      if (extended) flags |= nbd::kCmdFlagPayloadLen;
      break;
    case nbd::kCmdWriteZeroes:
      flags |= nbd::kCmdFlagNoHole;
      if (rules.can_zero_fast) flags |= nbd::kCmdFlagFastZero;
      break;
    case nbd::kCmdBlockStatus:
      flags |= nbd::kCmdFlagReqOne;
      break;
    default:
      break;
  }
  return flags;
}

bool inside(const nbd::Request& request, const RequestRules& rules) {
  return request.offset <= rules.size_bytes && request.length <= rules.size_bytes - request.offset;
}

std::optional<Refusal> check_change(const nbd::Request& request, const RequestRules& rules) {
  if (rules.read_only) return kReadOnly;
  if (request.length == 0) return kBadRange;
  if (inside(request, rules)) return std::nullopt;
  return request.type == nbd::kCmdTrim ? kBadRange : kNoRoom;
}

}  // namespace

uint64_t payload_bytes(const nbd::Request& request, nbd::HeaderStyle style) {
  // A write has one whether or not the client says so: qemu does not, though it should.
  const bool has_payload =
      request.type == nbd::kCmdWrite ||
      (style == nbd::HeaderStyle::kExtended && (request.flags & nbd::kCmdFlagPayloadLen) != 0);
  return has_payload ? request.length : 0;
}

std::optional<Refusal> check_request(const nbd::Request& request, const RequestRules& rules) {
  if (request.type > nbd::kCmdBlockStatus) {
    return Refusal{nbd::kEInval, "this server does not have that command"};
  }
  if ((request.flags & ~known_flags(request, rules)) != 0) return kBadField;
  switch (request.type) {
    case nbd::kCmdRead:
      if (request.length == 0 || !inside(request, rules)) return kBadRange;
      if (request.length <= nbd::kMaxPayload) return std::nullopt;
      return Refusal{rules.style == nbd::HeaderStyle::kSimple ? nbd::kEInval : nbd::kEOverflow,
                     "reads are limited to 32 MiB"};
    case nbd::kCmdWrite:
    case nbd::kCmdTrim:
    case nbd::kCmdWriteZeroes:
      return check_change(request, rules);
    case nbd::kCmdFlush:
      if (request.offset != 0 || request.length != 0) return kBadField;
      return std::nullopt;
    case nbd::kCmdBlockStatus:
      if (!rules.has_contexts) return Refusal{nbd::kEInval, "no metadata context was chosen"};
      break;
    default:
      break;
  }
  if (request.length == 0 || !inside(request, rules)) return kBadRange;
  return std::nullopt;
}

uint32_t error_of(const absl::Status& status, const nbd::Request& request) {
  const bool writes = request.type == nbd::kCmdWrite || request.type == nbd::kCmdWriteZeroes;
  switch (status.code()) {
    case absl::StatusCode::kResourceExhausted:
      return nbd::kENoSpc;
    case absl::StatusCode::kOutOfRange:
      return writes ? nbd::kENoSpc : nbd::kEInval;
    case absl::StatusCode::kInvalidArgument:
      return nbd::kEInval;
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kPermissionDenied:
      return nbd::kEPerm;
    case absl::StatusCode::kUnimplemented:
      // The one answer of a fast zero; no other request may get it.
      return (request.flags & nbd::kCmdFlagFastZero) != 0 ? nbd::kENotSup : nbd::kEInval;
    default:
      return nbd::kEIo;
  }
}

}  // namespace blobcache::blockdev
