#include "store/tree/impl/wal_check.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <fstream>
#include <span>
#include <utility>
#include <vector>

namespace blobcache::tree {
namespace {

constexpr size_t kHeaderSize = 32;
constexpr size_t kFrameHeaderSize = 24;
constexpr uint32_t kMagic = 0x377f0682;  ///< the last bit: checksums of big-endian words
constexpr uint32_t kMaxPageSize = 65536;

uint32_t big_endian(const std::byte* at) {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value = value << 8 | std::to_integer<uint32_t>(at[i]);
  return value;
}

/// SQLite's running checksum of pairs of words.
class Checksum {
 public:
  explicit Checksum(bool big_endian_words) : big_endian_words_(big_endian_words) {}

  void add(std::span<const std::byte> bytes) {
    for (size_t at = 0; at + 8 <= bytes.size(); at += 8) {
      first_ += word(bytes.data() + at) + second_;
      second_ += word(bytes.data() + at + 4) + first_;
    }
  }
  [[nodiscard]] bool is(const std::byte* stored) const {
    return big_endian(stored) == first_ && big_endian(stored + 4) == second_;
  }

 private:
  [[nodiscard]] uint32_t word(const std::byte* at) const {
    const uint32_t value = big_endian(at);
    return big_endian_words_ ? value : __builtin_bswap32(value);
  }

  const bool big_endian_words_;
  uint32_t first_ = 0;
  uint32_t second_ = 0;
};

bool read(std::ifstream& file, std::span<std::byte> into) {
  file.read(reinterpret_cast<char*>(into.data()), static_cast<std::streamsize>(into.size()));
  return static_cast<size_t>(file.gcount()) == into.size();
}

}  // namespace

WalState inspect_wal(const std::filesystem::path& wal, const std::optional<LogPosition>& synced) {
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(wal, error);
  if (error == std::errc::no_such_file_or_directory) return WalState::kAbsent;
  std::ifstream file(wal, std::ios::binary);
  std::array<std::byte, kHeaderSize> header{};
  // Nothing was committed since it was opened, or a power cut ended its making.
  if (!error && size < kHeaderSize) return WalState::kWhole;
  if (error || !read(file, header)) return WalState::kDamaged;
  const uint32_t magic = big_endian(header.data());
  const uint32_t page_size = big_endian(header.data() + 8);
  if ((magic & ~uint32_t{1}) != kMagic || page_size < 512 || page_size > kMaxPageSize) {
    return WalState::kDamaged;
  }
  Checksum checksum((magic & 1) != 0);
  checksum.add(std::span(header).first(24));
  if (!checksum.is(header.data() + 24)) return WalState::kDamaged;
  std::vector<std::byte> frame(kFrameHeaderSize + page_size);
  const bool same_log =
      synced && std::ranges::equal(synced->salts, std::span(header).subspan(16, 8));
  const uint32_t synced_frames = same_log ? synced->frames : 0;
  uint32_t good_frames = 0;
  bool all_check = true;
  while (read(file, frame)) {
    // Frames of before the log was begun anew have other salts.
    const bool of_this_log = big_endian(frame.data() + 8) == big_endian(header.data() + 16) &&
                             big_endian(frame.data() + 12) == big_endian(header.data() + 20);
    if (all_check) {
      checksum.add(std::span(frame).first(8));
      checksum.add(std::span(frame).subspan(kFrameHeaderSize));
      all_check = of_this_log && checksum.is(frame.data() + 16);
      if (all_check) ++good_frames;
    }
    const bool commits = big_endian(frame.data() + 4) != 0;
    if (!synced && !all_check && of_this_log && commits) return WalState::kDamaged;
  }
  return good_frames < synced_frames ? WalState::kDamaged : WalState::kWhole;
}

}  // namespace blobcache::tree
