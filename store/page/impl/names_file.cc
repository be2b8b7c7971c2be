#include "store/page/impl/names_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "base/hex.h"
#include "base/status.h"
#include "store/page/checksum.h"

namespace blobcache::page {
namespace {

constexpr std::string_view kMagic = "blobcache-names ";
constexpr std::string_view kVersion = "1 ";
constexpr size_t kChecksumDigits = 8;
constexpr size_t kKeyDigits = 64;
constexpr size_t kSizeDigits = 20;
static_assert(kNamesHeaderSize ==
              kChecksumDigits + 1 + kMagic.size() + kVersion.size() + kKeyDigits + 1 + kSizeDigits);

constexpr size_t kStep = size_t{256} << 10;
/// A file may grow so far beyond twice its size before it is written whole.
constexpr uint64_t kSlack = uint64_t{64} << 10;

absl::Span<const std::byte> bytes_of(std::string_view text) {
  const void* data = text.data();
  return {static_cast<const std::byte*>(data), text.size()};
}

uint32_t line_checksum(const ObjectKey& key, uint64_t offset, std::string_view record) {
  std::array<std::byte, 32 + 8> seed{};
  std::memcpy(seed.data(), key.bytes.data(), key.bytes.size());
  for (size_t i = 0; i < 8; ++i) seed.at(32 + i) = static_cast<std::byte>(offset >> (8 * i));
  return crc32c(bytes_of(record), crc32c(seed));
}

/// What a line (without its newline) records, if its checksum is right.
std::optional<std::string_view> checked_record(const ObjectKey& key, uint64_t offset,
                                               std::string_view line) {
  if (line.size() <= kChecksumDigits || line[kChecksumDigits] != ' ') return std::nullopt;
  const std::string_view record = line.substr(kChecksumDigits + 1);
  const std::string expected = fmt::format("{:08x}", line_checksum(key, offset, record));
  if (line.substr(0, kChecksumDigits) != expected) return std::nullopt;
  return record;
}

absl::Status write_fully(const DiskCalls& calls, int fd, std::string_view text, uint64_t offset) {
  const int result = calls.write_buffered(fd, bytes_of(text), offset);
  return result == 0 ? absl::OkStatus() : base::errno_error(-result, "writing names");
}

/// Fewer bytes than asked for mean the file's end.
absl::StatusOr<size_t> read_fully(const DiskCalls& calls, int fd, absl::Span<char> buffer,
                                  uint64_t offset) {
  void* data = buffer.data();
  const int64_t got =
      calls.read_buffered(fd, {static_cast<std::byte*>(data), buffer.size()}, offset);
  if (got < 0) return base::errno_error(static_cast<int>(-got), "reading names");
  return static_cast<size_t>(got);
}

/// Its size; nullopt for what is no regular file or larger than any of ours.
absl::StatusOr<std::optional<uint64_t>> names_file_size(int fd) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return base::errno_error(errno, "looking at names");
  const auto size = static_cast<uint64_t>(info.st_size);
  if (!S_ISREG(info.st_mode) || size > kMaxNamesFile) return std::optional<uint64_t>();
  return std::optional<uint64_t>(size);
}

}  // namespace

std::string names_line(const ObjectKey& key, uint64_t offset, std::string_view record) {
  return fmt::format("{:08x} {}\n", line_checksum(key, offset, record), record);
}

std::string names_header(const ObjectKey& key, uint64_t whole_bytes) {
  return names_line(key, 0, fmt::format("{}{}{} {:020}", kMagic, kVersion, key.hex(), whole_bytes));
}

absl::StatusOr<uint64_t> parse_names_header(std::string_view line, const ObjectKey& key) {
  if (line.ends_with('\n')) line.remove_suffix(1);
  std::optional<std::string_view> record = checked_record(key, 0, line);
  if (!record || !record->starts_with(kMagic)) {
    return absl::DataLossError("it begins with no line of ours, or another blob's");
  }
  record->remove_prefix(kMagic.size());
  if (!record->starts_with(kVersion)) {
    return absl::DataLossError("it is of a version that this program does not read");
  }
  record->remove_prefix(kVersion.size());
  const std::string_view digits = record->substr(std::min(record->size(), kKeyDigits + 1));
  uint64_t whole = 0;
  const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), whole);
  if (!record->starts_with(key.hex()) || digits.size() != kSizeDigits || error != std::errc() ||
      stop != digits.data() + digits.size()) {
    return absl::DataLossError("it begins with a wrong line");
  }
  return whole;
}

void NamesFileParser::damaged(std::string_view why) {
  status_.Update(base::error(absl::StatusCode::kDataLoss, why));
}

void NamesFileParser::feed(std::string_view bytes) {
  while (!bytes.empty()) {
    const size_t end = std::min(bytes.find('\n'), bytes.size());
    const std::string_view piece = bytes.substr(0, end);
    const bool whole = end < bytes.size();
    bytes.remove_prefix(whole ? end + 1 : end);
    if (begun_.size() + piece.size() > kMaxNamesLine) too_long_ = true;
    if (too_long_) {
      // Only its length counts, for the places of those that follow.
      line_offset_ += begun_.size() + piece.size();
      begun_.clear();
    } else {
      begun_ += piece;
    }
    if (!whole) continue;
    take_line();
    line_offset_ += begun_.size() + 1;
    begun_.clear();
    too_long_ = false;
    has_header_ = true;
  }
}

void NamesFileParser::take_line() {
  if (refused_) return;
  if (too_long_) {
    damaged("it has a line that is too long");
    refused_ = !has_header_;
    return;
  }
  if (!has_header_) {
    const absl::Status header = parse_names_header(begun_, key_).status();
    refused_ = !header.ok();
    status_.Update(header);
    return;
  }
  const std::optional<std::string_view> record = checked_record(key_, line_offset_, begun_);
  if (record) {
    visit_(*record);
  } else {
    damaged("it has a damaged line");
  }
}

absl::Status NamesFileParser::finish() {
  if (!begun_.empty() || too_long_ || !has_header_) damaged("it is cut short");
  return status_;
}

absl::Status read_names_file(const DiskCalls& calls, int fd, const ObjectKey& key,
                             absl::FunctionRef<void(std::string_view record)> visit) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<uint64_t> size, names_file_size(fd));
  if (!size) return absl::DataLossError("it is no regular file, or too large");
  NamesFileParser parser(key, visit);
  std::vector<char> buffer(std::min<uint64_t>(kStep, std::max<uint64_t>(*size, 1)));
  for (uint64_t at = 0; at < *size;) {
    const auto wanted = static_cast<size_t>(std::min<uint64_t>(buffer.size(), *size - at));
    BLOBCACHE_ASSIGN_OR_RETURN(const size_t got,
                               read_fully(calls, fd, {buffer.data(), wanted}, at));
    if (got == 0) break;
    parser.feed({buffer.data(), got});
    at += got;
  }
  return parser.finish();
}

NamesFileWriter::NamesFileWriter(base::UniqueFd fd, const ObjectKey& key, const DiskCalls& calls)
    : fd_(std::move(fd)), key_(key), calls_(&calls), buffer_(names_header(key, 0)) {}

absl::StatusOr<NamesFileWriter> NamesFileWriter::create(const std::filesystem::path& path,
                                                        const ObjectKey& key,
                                                        const DiskCalls& calls) {
  const int opened = calls.open(path, O_RDWR | O_CREAT | O_EXCL);
  if (opened < 0) return base::errno_error(-opened, path.string());
  return NamesFileWriter(base::UniqueFd(opened), key, calls);
}

absl::Status NamesFileWriter::add(std::string_view record) {
  buffer_ += names_line(key_, flushed_ + buffer_.size(), record);
  if (flushed_ + buffer_.size() > kMaxNamesFile) {
    return absl::ResourceExhaustedError("an object has too many names to tell");
  }
  return buffer_.size() < kStep ? absl::OkStatus() : flush();
}

absl::Status NamesFileWriter::flush() {
  BLOBCACHE_RETURN_IF_ERROR(write_fully(*calls_, fd_.get(), buffer_, flushed_));
  flushed_ += buffer_.size();
  buffer_.clear();
  return absl::OkStatus();
}

absl::StatusOr<base::UniqueFd> NamesFileWriter::finish() {
  BLOBCACHE_RETURN_IF_ERROR(flush());
  BLOBCACHE_RETURN_IF_ERROR(write_fully(*calls_, fd_.get(), names_header(key_, flushed_), 0));
  return std::move(fd_);
}

absl::StatusOr<bool> append_to_names_file(const DiskCalls& calls, int fd, const ObjectKey& key,
                                          absl::Span<const std::string> records) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<uint64_t> size, names_file_size(fd));
  if (!size || *size <= kNamesHeaderSize) return false;
  std::array<char, kNamesHeaderSize + 1> header{};
  BLOBCACHE_ASSIGN_OR_RETURN(const size_t got, read_fully(calls, fd, absl::MakeSpan(header), 0));
  const absl::StatusOr<uint64_t> whole = parse_names_header({header.data(), got}, key);
  char last = 0;
  BLOBCACHE_RETURN_IF_ERROR(read_fully(calls, fd, {&last, 1}, *size - 1).status());
  if (!whole.ok() || last != '\n' || *whole > *size) return false;
  std::string lines;
  for (const std::string& record : records) {
    lines += names_line(key, *size + lines.size(), record);
  }
  if (*size + lines.size() > std::min(kMaxNamesFile, *whole * 2 + kSlack)) return false;
  const absl::Status written = write_fully(calls, fd, lines, *size);
  if (written.ok()) return true;
  // Half a line would keep others from being added.
  if (calls.truncate(fd, *size) < 0) {
    return base::annotate(written, "and what was written of them could not be taken back");
  }
  return written;
}

}  // namespace blobcache::page
