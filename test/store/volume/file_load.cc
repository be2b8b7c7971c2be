#include "test/store/volume/file_load.h"

#include <fmt/format.h>

#include <algorithm>

namespace blobcache::volume {
namespace {

constexpr uint64_t kFileSector = 512;

void zero_bytes(Bytes& content, uint64_t begin, uint64_t end) {
  end = std::min<uint64_t>(end, content.size());
  if (begin >= end) return;
  std::fill(content.begin() + static_cast<std::ptrdiff_t>(begin),
            content.begin() + static_cast<std::ptrdiff_t>(end), std::byte{0});
}

}  // namespace

std::string FileOp::text() const {
  return fmt::format("{} at {} of {}", static_cast<int>(kind), offset, length);
}

FileOp random_file_op(std::mt19937_64& random, uint64_t length, uint64_t most) {
  const auto below = [&](uint64_t limit) { return random() % limit; };
  constexpr uint64_t kLongest[] = {100, 700, 4096, 12288, 300000};
  FileOp op;
  op.seed = random();
  op.length = std::min(most, 1 + below(kLongest[below(5)]));
  switch (below(4)) {
    case 0:  // an append
      op.offset = length;
      break;
    case 1:  // leaves a hole, perhaps
      op.offset = below(most);
      break;
    default:
      op.offset = below(length + 1);
  }
  if (below(3) == 0) {
    op.offset = op.offset / kPage * kPage;
    op.length = std::max(op.length / kPage * kPage, kPage);
  }
  op.offset = std::min(op.offset, most - std::min(most, op.length));
  op.length = std::min(op.length, most - op.offset);
  constexpr FileOp::Kind kKinds[] = {
      FileOp::Kind::kWrite,     FileOp::Kind::kWrite, FileOp::Kind::kWrite,
      FileOp::Kind::kWrite,     FileOp::Kind::kWrite, FileOp::Kind::kSetLength,
      FileOp::Kind::kSetLength, FileOp::Kind::kZero,  FileOp::Kind::kFill,
      FileOp::Kind::kPunch,     FileOp::Kind::kFlush};
  op.kind = kKinds[below(std::size(kKinds))];
  if (op.kind == FileOp::Kind::kSetLength && below(8) == 0) op.offset = 0;
  return op;
}

absl::Status run_file_op(Volume& volume, const FileOp& op) {
  switch (op.kind) {
    case FileOp::Kind::kWrite:
      return volume.write_wait(op.offset, random_bytes(op.length, op.seed));
    case FileOp::Kind::kSetLength:
      return volume.set_length_wait(op.offset);
    case FileOp::Kind::kZero:
      return volume.write_zeroes_wait(op.offset, op.length);
    case FileOp::Kind::kFill:
      return volume.write_zeroes_wait(op.offset, op.length, {.fua = false, .no_hole = true});
    case FileOp::Kind::kPunch:
      return volume.trim_wait(op.offset, op.length);
    case FileOp::Kind::kFlush:
      break;
  }
  return volume.flush_wait();
}

void apply_file_op(const FileOp& op, Bytes& content) {
  const uint64_t end = op.offset + op.length;
  switch (op.kind) {
    case FileOp::Kind::kWrite: {
      if (end > content.size()) content.resize(end);
      const Bytes bytes = random_bytes(op.length, op.seed);
      std::copy(bytes.begin(), bytes.end(),
                content.begin() + static_cast<std::ptrdiff_t>(op.offset));
      break;
    }
    case FileOp::Kind::kSetLength:
      content.resize(op.offset);
      break;
    case FileOp::Kind::kZero:
    case FileOp::Kind::kFill:
      if (end > content.size()) content.resize(end);
      zero_bytes(content, op.offset, end);
      break;
    case FileOp::Kind::kPunch:
      zero_bytes(content, op.offset, end);
      break;
    case FileOp::Kind::kFlush:
      break;
  }
}

bool FileVersions::may_be_long(uint64_t length) const {
  for (size_t i = 0; i < versions_.size(); ++i) {
    const uint64_t after = versions_[i].content.size();
    if (length == after) return true;
    if (!versions_[i].in_part || i == 0) continue;
    const uint64_t before = versions_[i - 1].content.size();
    if (std::min(before, after) <= length && length <= std::max(before, after)) return true;
  }
  return false;
}

bool FileVersions::holds(const Bytes& content, uint64_t begin, uint64_t end) const {
  return std::any_of(versions_.begin(), versions_.end(), [&](const Version& version) {
    const Bytes& bytes = version.content;
    for (uint64_t at = begin; at < end; ++at) {
      if (content[at] != (at < bytes.size() ? bytes[at] : std::byte{0})) return false;
    }
    return true;
  });
}

std::string FileVersions::problem(const Bytes& content) const {
  if (!may_be_long(content.size())) {
    return fmt::format("{} bytes, which is none of {} versions' length (the last has {})",
                       content.size(), versions_.size(), last().size());
  }
  for (uint64_t begin = 0; begin < content.size(); begin += kFileSector) {
    const uint64_t end = std::min<uint64_t>(begin + kFileSector, content.size());
    if (holds(content, begin, end)) continue;
    const bool zeros = std::all_of(content.begin() + static_cast<std::ptrdiff_t>(begin),
                                   content.begin() + static_cast<std::ptrdiff_t>(end),
                                   [](std::byte byte) { return byte == std::byte{}; });
    return fmt::format("the sector at {} of {} is {}, and none of {} versions", begin,
                       content.size(), zeros ? "zeros" : "something else", versions_.size());
  }
  return {};
}

}  // namespace blobcache::volume
