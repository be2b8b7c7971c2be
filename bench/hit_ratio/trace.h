#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <istream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"

namespace blobcache::hit_ratio {

/// One read of one extent. `touches` says in how many pieces it came, one after the other, as from
/// a program that reads 16 KiB at a time: a hit or a miss is counted once, but a policy sees each
/// piece as a use.
struct Request {
  uint32_t extent = 0;
  uint32_t touches = 1;
};

/// Who read what, in order. Extents are numbered from 0 without gaps.
struct Trace {
  std::string name;
  std::vector<Request> requests;
  std::vector<uint32_t> sizes;  ///< bytes of each extent, 1 to 256 Ki

  /// Bytes of all extents together: a cache of this size misses each once.
  [[nodiscard]] uint64_t footprint() const;
};

/// Puts a trace together from (object, index of extent) pairs.
class TraceBuilder {
 public:
  explicit TraceBuilder(std::string name) { trace_.name = std::move(name); }

  /// A read of extent `index` of `object`; of two sizes given for one extent the larger counts.
  void read(uint64_t object, uint32_t index, uint32_t size_bytes, uint32_t touches = 1);
  /// A read of a whole object: its extents in order, the last one as long as what is left.
  void read_whole(uint64_t object, uint64_t size_bytes, uint32_t touches = 1);

  [[nodiscard]] size_t size() const { return trace_.requests.size(); }
  [[nodiscard]] Trace take() { return std::move(trace_); }

 private:
  Trace trace_;
  absl::flat_hash_map<std::pair<uint64_t, uint32_t>, uint32_t> extents_;
};

/// Reads lines "key,size" (bytes; further columns are ignored, a first line "key,size" is skipped),
/// each a read of a whole object, which is split into extents as the store does. INVALID_ARGUMENT
/// with NAME:LINE for what is no such line, and for more requests than memory should take.
[[nodiscard]] absl::StatusOr<Trace> parse_csv(std::istream& in, std::string_view name);

/// parse_csv of a file; NOT_FOUND when it cannot be opened.
[[nodiscard]] absl::StatusOr<Trace> read_csv(const std::filesystem::path& path);

}  // namespace blobcache::hit_ratio
