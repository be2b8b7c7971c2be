#include "blockdev/impl/nbd_rules.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include "blockdev/impl/nbd_protocol.h"

namespace blobcache::blockdev {
namespace {

using nbd::HeaderStyle;
using nbd::Request;

constexpr uint64_t kTiB = uint64_t{1} << 40;

constexpr RequestRules kReadOnly{.size_bytes = kTiB};
constexpr RequestRules kWritable{.size_bytes = kTiB,
                                 .read_only = false,
                                 .can_zero_fast = true,
                                 .has_contexts = true,
                                 .style = HeaderStyle::kStructured};
constexpr RequestRules kExtended{.size_bytes = kTiB,
                                 .read_only = false,
                                 .can_zero_fast = true,
                                 .has_contexts = true,
                                 .style = HeaderStyle::kExtended};

/// NBD's error for a request, 0 when it may be carried out.
uint32_t error(const Request& request, const RequestRules& rules) {
  const auto refusal = check_request(request, rules);
  return refusal ? refusal->error : 0;
}

Request make(uint16_t type, uint64_t offset, uint64_t length, unsigned flags = 0) {
  return {.flags = static_cast<uint16_t>(flags),
          .type = type,
          .cookie = 1,
          .offset = offset,
          .length = length};
}

TEST_CASE("nbd rules: ranges") {
  struct Case {
    uint16_t type = 0;
    uint32_t past_the_end = 0;
  };
  for (const Case& one :
       {Case{nbd::kCmdRead, nbd::kEInval}, Case{nbd::kCmdWrite, nbd::kENoSpc},
        Case{nbd::kCmdTrim, nbd::kEInval}, Case{nbd::kCmdCache, nbd::kEInval},
        Case{nbd::kCmdWriteZeroes, nbd::kENoSpc}, Case{nbd::kCmdBlockStatus, nbd::kEInval}}) {
    CAPTURE(one.type);
    CHECK(error(make(one.type, 0, 1), kWritable) == 0);
    CHECK(error(make(one.type, kTiB - 1, 1), kWritable) == 0);
    CHECK(error(make(one.type, kTiB - 1, 2), kWritable) == one.past_the_end);
    CHECK(error(make(one.type, kTiB, 1), kWritable) == one.past_the_end);
    CHECK(error(make(one.type, kTiB + 1, 1), kWritable) == one.past_the_end);
    CHECK(error(make(one.type, ~uint64_t{0}, 4096), kWritable) == one.past_the_end);
    CHECK(error(make(one.type, 4096, ~uint64_t{0}), kExtended) != 0);
    CHECK(error(make(one.type, 0, 0), kWritable) == nbd::kEInval);
  }
}

TEST_CASE("nbd rules: what has no payload may be as long as the wire allows") {
  for (const uint16_t type :
       {nbd::kCmdTrim, nbd::kCmdCache, nbd::kCmdWriteZeroes, nbd::kCmdBlockStatus}) {
    CHECK(error(make(type, 1, 0xffffffff), kWritable) == 0);
    CHECK(error(make(type, 0, kTiB), kExtended) == 0);
  }
}

TEST_CASE("nbd rules: reads are limited") {
  for (const HeaderStyle style :
       {HeaderStyle::kSimple, HeaderStyle::kStructured, HeaderStyle::kExtended}) {
    RequestRules rules = kWritable;
    rules.style = style;
    CHECK(error(make(nbd::kCmdRead, 0, nbd::kMaxPayload), rules) == 0);
    CHECK(error(make(nbd::kCmdRead, 0, uint64_t{nbd::kMaxPayload} + 1), rules) ==
          (style == HeaderStyle::kSimple ? nbd::kEInval : nbd::kEOverflow));
  }
}

TEST_CASE("nbd rules: what is read-only is not changed, and says so") {
  for (const uint16_t type : {nbd::kCmdWrite, nbd::kCmdTrim, nbd::kCmdWriteZeroes}) {
    CHECK(error(make(type, 0, 4096), kReadOnly) == nbd::kEPerm);
    CHECK(error(make(type, kTiB, 4096), kReadOnly) == nbd::kEPerm);
    CHECK(error(make(type, 0, 0), kReadOnly) == nbd::kEPerm);
    CHECK(error(make(type, 0, 4096, nbd::kCmdFlagFua), kReadOnly) == nbd::kEInval);
  }
  CHECK(error(make(nbd::kCmdWriteZeroes, 0, 1, nbd::kCmdFlagNoHole), kReadOnly) == nbd::kEPerm);
  CHECK(error(make(nbd::kCmdWriteZeroes, 0, 1, nbd::kCmdFlagFastZero), kReadOnly) == nbd::kEInval);
  CHECK(error(make(nbd::kCmdFlush, 0, 0), kReadOnly) == 0);
}

TEST_CASE("nbd rules: flags belong to commands") {
  struct Case {
    unsigned flag = 0;
    std::vector<uint16_t> types;
  };
  const std::vector<uint16_t> all = {0, 1, 3, 4, 5, 6, 7};
  for (const Case& one :
       {Case{nbd::kCmdFlagFua, all}, Case{nbd::kCmdFlagNoHole, {nbd::kCmdWriteZeroes}},
        Case{nbd::kCmdFlagDf, {nbd::kCmdRead}}, Case{nbd::kCmdFlagReqOne, {nbd::kCmdBlockStatus}},
        Case{nbd::kCmdFlagFastZero, {nbd::kCmdWriteZeroes}}, Case{nbd::kCmdFlagPayloadLen, {}},
        Case{1U << 6, {}}, Case{1U << 15, {}}}) {
    for (const uint16_t type : all) {
      const bool known = std::find(one.types.begin(), one.types.end(), type) != one.types.end();
      const uint64_t length = type == nbd::kCmdFlush ? 0 : 4096;
      CAPTURE(type);
      CAPTURE(one.flag);
      CHECK(error(make(type, 0, length, one.flag), kWritable) == (known ? 0 : nbd::kEInval));
    }
  }
  CHECK(error(make(nbd::kCmdRead, 0, 1, nbd::kCmdFlagDf), kReadOnly) == nbd::kEInval);
  CHECK(error(make(nbd::kCmdRead, 0, 1, nbd::kCmdFlagFua), kReadOnly) == nbd::kEInval);
  RequestRules slow = kWritable;
  slow.can_zero_fast = false;
  CHECK(error(make(nbd::kCmdWriteZeroes, 0, 1, nbd::kCmdFlagFastZero), slow) == nbd::kEInval);
}

TEST_CASE("nbd rules: payloads") {
  const Request write = make(nbd::kCmdWrite, 0, 4096);
  const Request extended = make(nbd::kCmdWrite, 0, 4096, nbd::kCmdFlagPayloadLen);
  const Request status = make(nbd::kCmdBlockStatus, 0, 12, nbd::kCmdFlagPayloadLen);
  CHECK(payload_bytes(write, HeaderStyle::kStructured) == 4096);
  CHECK(payload_bytes(write, HeaderStyle::kExtended) == 4096);  // as qemu 10 sends it
  CHECK(payload_bytes(extended, HeaderStyle::kExtended) == 4096);
  CHECK(payload_bytes(status, HeaderStyle::kExtended) == 12);
  CHECK(payload_bytes(status, HeaderStyle::kStructured) == 0);
  CHECK(error(extended, kExtended) == 0);
  CHECK(error(write, kExtended) == 0);
  CHECK(error(extended, kWritable) == nbd::kEInval);
  CHECK(error(status, kExtended) == nbd::kEInval);
}

TEST_CASE("nbd rules: commands that need something, or do not exist") {
  RequestRules without = kWritable;
  without.has_contexts = false;
  CHECK(error(make(nbd::kCmdBlockStatus, 0, 4096), without) == nbd::kEInval);
  CHECK(error(make(nbd::kCmdFlush, 1, 0), kWritable) == nbd::kEInval);
  CHECK(error(make(nbd::kCmdFlush, 0, 1), kWritable) == nbd::kEInval);
  for (const uint16_t type : std::vector<uint16_t>{8, 9, 200, 0xffff}) {
    CHECK(error(make(type, 0, 4096), kWritable) == nbd::kEInval);
  }
}

TEST_CASE("nbd rules: which error a status is") {
  const Request read = make(nbd::kCmdRead, 0, 1);
  const Request write = make(nbd::kCmdWrite, 0, 1);
  const Request zero = make(nbd::kCmdWriteZeroes, 0, 1);
  const Request fast = make(nbd::kCmdWriteZeroes, 0, 1, nbd::kCmdFlagFastZero);
  CHECK(error_of(absl::ResourceExhaustedError(""), write) == nbd::kENoSpc);
  CHECK(error_of(absl::DataLossError(""), read) == nbd::kEIo);
  CHECK(error_of(absl::UnavailableError(""), read) == nbd::kEIo);
  CHECK(error_of(absl::CancelledError(""), write) == nbd::kEIo);
  CHECK(error_of(absl::InternalError(""), write) == nbd::kEIo);
  CHECK(error_of(absl::OutOfRangeError(""), read) == nbd::kEInval);
  CHECK(error_of(absl::OutOfRangeError(""), write) == nbd::kENoSpc);
  CHECK(error_of(absl::OutOfRangeError(""), zero) == nbd::kENoSpc);
  CHECK(error_of(absl::InvalidArgumentError(""), read) == nbd::kEInval);
  CHECK(error_of(absl::PermissionDeniedError(""), write) == nbd::kEPerm);
  CHECK(error_of(absl::FailedPreconditionError(""), write) == nbd::kEPerm);
  CHECK(error_of(absl::UnimplementedError(""), fast) == nbd::kENotSup);
  CHECK(error_of(absl::UnimplementedError(""), zero) == nbd::kEInval);
}

}  // namespace
}  // namespace blobcache::blockdev
