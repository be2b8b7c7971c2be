#include "store/volume/impl/header.h"

#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <string_view>

#include "base/status.h"
#include "store/page/checksum.h"
#include "store/page/geometry.h"
#include "store/volume/impl/bytes.h"
#include "store/volume/volume.h"

namespace blobcache::volume {
namespace {

constexpr std::string_view kMagic = "blobcvol";

/// All fields in their order, in either direction.
template <typename Span, typename AnyHeader, typename Move>
void move_fields(Span bytes, uint32_t version, AnyHeader& header, const Move& move) {
  size_t at = 24;
  at = move(bytes, at, header.incarnation.bytes);
  at = move(bytes, at, header.size_bytes);
  at = move(bytes, at, header.has_base);
  at = move(bytes, at, header.base.bytes);
  at = move(bytes, at, header.base_bytes);
  at = move(bytes, at, header.boot_id.bytes);
  at = move(bytes, at, header.checkpoint);
  at = move(bytes, at, header.journal_start);
  at = move(bytes, at, header.data_pages);
  if (version != kFileVersion) return;
  at = move(bytes, at, header.is_file);
  move(bytes, at, header.is_stale);
}

bool in_bounds(const Header& header, uint32_t version) {
  if (header.base_bytes > header.size_bytes || header.has_base > 1 || header.journal_start == 0) {
    return false;
  }
  if (version == kFileVersion) {
    // Pages that were written after the length was noted may count already.
    return header.is_file == 1 && header.is_stale <= 1 &&
           header.size_bytes <= Volume::kMaxFileLength &&
           header.data_pages <= page::page_count(Volume::kMaxFileLength);
  }
  return header.size_bytes > 0 && header.size_bytes <= page::kMaxObjectSize &&
         header.data_pages <= page::page_count(header.size_bytes);
}

}  // namespace

HeaderBytes encode_header(const Header& header, uint64_t sequence) {
  HeaderBytes bytes{};
  const absl::Span<std::byte> out = absl::MakeSpan(bytes);
  std::memcpy(bytes.data() + 4, kMagic.data(), kMagic.size());
  const uint32_t version = header.is_file != 0 ? kFileVersion : kImageVersion;
  put(out, 12, version);
  put(out, 16, sequence);
  move_fields(out, version, header,
              [](auto to, size_t at, const auto& value) { return put(to, at, value); });
  put(out, 0, page::crc32c(out.subspan(4)));
  return bytes;
}

absl::StatusOr<Header> decode_header(absl::Span<const std::byte> bytes, uint64_t& sequence) {
  const absl::Status damaged = absl::DataLossError("the volume's header is damaged");
  if (bytes.size() != kHeaderSize) return damaged;
  uint32_t crc = 0;
  uint32_t version = 0;
  take(bytes, 0, crc);
  take(bytes, 12, version);
  take(bytes, 16, sequence);
  if (std::memcmp(bytes.data() + 4, kMagic.data(), kMagic.size()) != 0) return damaged;
  if (page::crc32c(bytes.subspan(4)) != crc) return damaged;
  if (version != kImageVersion && version != kFileVersion) {
    return absl::FailedPreconditionError(
        fmt::format("the volume is of version {}; this program knows {}", version, kFileVersion));
  }
  Header header;
  move_fields(bytes, version, header,
              [](auto from, size_t at, auto& value) { return take(from, at, value); });
  if (!in_bounds(header, version)) return damaged;
  return header;
}

absl::StatusOr<Header> HeaderFile::read() {
  std::optional<Header> newest;
  absl::Status why;
  for (uint64_t copy = 0; copy < 2; ++copy) {
    HeaderBytes bytes{};
    uint64_t sequence = 0;
    // Too short is damaged like anything else that is not a header.
    absl::Status status = calls_.read(fd_, absl::MakeSpan(bytes), copy * kHeaderSize);
    if (!status.ok() && !absl::IsDataLoss(status)) return status;
    const absl::StatusOr<Header> header = decode_header(bytes, sequence);
    if (header.ok() && (!newest || sequence > sequence_)) {
      newest = *header;
      sequence_ = sequence;
      newest_ = copy;
    }
    if (!header.ok() && (why.ok() || absl::IsFailedPrecondition(header.status()))) {
      why = header.status();
    }
  }
  if (absl::IsFailedPrecondition(why) || !newest) return why;
  return *newest;
}

absl::Status HeaderFile::begin(const Header& header) {
  newest_ = 0;
  return calls_.write(fd_, encode_header(header, ++sequence_), 0);
}

absl::Status HeaderFile::write(const Header& header) {
  ++sequence_;
  const HeaderBytes bytes = encode_header(header, sequence_);
  // The copy that is whole is not touched before the other one is, too.
  for (int turn = 0; turn < 2; ++turn) {
    const uint64_t copy = 1 - newest_;
    BLOBCACHE_RETURN_IF_ERROR(calls_.write(fd_, bytes, copy * kHeaderSize));
    BLOBCACHE_RETURN_IF_ERROR(calls_.sync(fd_));
    newest_ = copy;
  }
  return absl::OkStatus();
}

}  // namespace blobcache::volume
