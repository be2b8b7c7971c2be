#include "bench/hit_ratio/trace.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <numeric>

#include "base/status.h"
#include "store/page/geometry.h"

namespace blobcache::hit_ratio {
namespace {

/// A read of one object; what is larger is a mistake in the trace rather than an object.
constexpr uint64_t kMaxObjectBytes = uint64_t{1} << 40;
/// Extents read by one trace: 1.6 GB of memory.
constexpr size_t kMaxRequests = 200'000'000;

/// The key and size of a line, or an empty key.
std::pair<std::string_view, uint64_t> parse_line(std::string_view line) {
  const size_t comma = line.find(',');
  if (comma == std::string_view::npos) return {};
  const std::string_view rest = line.substr(comma + 1);
  const std::string_view number = rest.substr(0, rest.find(','));
  uint64_t size = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), size);
  if (error != std::errc() || end != number.data() + number.size()) return {};
  return {line.substr(0, comma), size};
}

absl::Status bad_line(std::string_view name, uint64_t line, std::string_view what) {
  return absl::InvalidArgumentError(fmt::format("{}:{}: {}", name, line, what));
}

}  // namespace

uint64_t Trace::footprint() const {
  return std::accumulate(sizes.begin(), sizes.end(), uint64_t{0});
}

void TraceBuilder::read(uint64_t object, uint32_t index, uint32_t size_bytes, uint32_t touches) {
  const auto next = static_cast<uint32_t>(trace_.sizes.size());
  const auto [at, is_new] = extents_.try_emplace({object, index}, next);
  if (is_new) trace_.sizes.push_back(0);
  uint32_t& size = trace_.sizes[at->second];
  size = std::max(size, size_bytes);
  trace_.requests.push_back({.extent = at->second, .touches = touches});
}

void TraceBuilder::read_whole(uint64_t object, uint64_t size_bytes, uint32_t touches) {
  uint32_t index = 0;
  for (uint64_t left = size_bytes; left > 0; ++index) {
    const uint64_t size = std::min<uint64_t>(left, page::kExtentSize);
    read(object, index, static_cast<uint32_t>(size), touches);
    left -= size;
  }
}

absl::StatusOr<Trace> parse_csv(std::istream& in, std::string_view name) {
  TraceBuilder builder{std::string(name)};
  absl::flat_hash_map<std::string, uint64_t> objects;
  std::string text;
  for (uint64_t number = 1; std::getline(in, text); ++number) {
    std::string_view line = text;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || (number == 1 && line.starts_with("key,size"))) continue;
    const auto [key, size] = parse_line(line);
    if (key.empty()) return bad_line(name, number, "a line is KEY,SIZE with SIZE in bytes");
    if (size > kMaxObjectBytes) return bad_line(name, number, "an object of more than 1 TiB");
    if (builder.size() + (size >> page::kExtentShift) >= kMaxRequests) {
      return bad_line(name, number, fmt::format("more than {} extents are read", kMaxRequests));
    }
    builder.read_whole(objects.try_emplace(std::string(key), objects.size()).first->second, size);
  }
  if (builder.size() == 0) return bad_line(name, 1, "the trace reads nothing");
  return builder.take();
}

absl::StatusOr<Trace> read_csv(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(fmt::format("{}: cannot be opened", path.native()));
  return parse_csv(file, path.native());
}

}  // namespace blobcache::hit_ratio
