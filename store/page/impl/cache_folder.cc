#include "store/page/impl/cache_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <system_error>

#include "base/status.h"
#include "store/page/checksum.h"
#include "store/page/impl/aligned_memory.h"
#include "store/page/impl/object_file_name.h"

namespace blobcache::page {
namespace {

namespace fs = std::filesystem;

/// How much of a page map is read at a time: 256 blocks.
constexpr uint64_t kMapPiece = uint64_t{1} << 20;

fs::path map_path(const fs::path& data) { return data.string() + std::string(kMapSuffix); }

absl::Status write_header(const DiskCalls& calls, int fd, const MapHeader& header) {
  const AlignedMemory memory = allocate_aligned(kMapBlockSize);
  const MapBlockBytes bytes = encode_map_header(header);
  std::memcpy(memory.get(), bytes.data(), bytes.size());
  const int written = calls.write(fd, {memory.get(), kMapBlockSize}, 0);
  return written == 0 ? absl::OkStatus() : base::errno_error(-written, "writing a page map");
}

/// Fills `into` as far as the file goes; the bytes. What cannot be read is tried once more: to take
/// a page map for lost costs the object its cache.
absl::StatusOr<uint64_t> read_map(const DiskCalls& calls, int fd, absl::Span<std::byte> into,
                                  uint64_t offset) {
  int64_t got = calls.read(fd, into, offset, into.size());
  if (got < 0) got = calls.read(fd, into, offset, into.size());
  if (got < 0) return base::errno_error(static_cast<int>(-got), "reading a page map");
  return static_cast<uint64_t>(got);
}

/// What a block of a map file tells, appended.
void append_pages(absl::Span<const std::byte> bytes, uint64_t number, const MapHeader& header,
                  CacheFolder::Pages& pages) {
  if (is_zero(bytes)) return;
  const absl::StatusOr<MapBlock> block = decode_map_block(bytes, number, header.incarnation);
  if (!block.ok()) return;  // the first reader will tell, and count it
  const uint64_t first = number * kExtentsPerMapBlock;
  const uint64_t end = std::min<uint64_t>(first + kExtentsPerMapBlock,  //
                                          extent_count(header.size_bytes));
  for (uint64_t extent = first; extent < end; ++extent) {
    const PageMask word = block->on_disk.at(extent - first);
    if (word != 0) pages.emplace_back(static_cast<uint32_t>(extent), word);
  }
}

/// Calls visit(begin, end) for each stretch of a file that has blocks, rounded to `unit`.
template <typename Visit>
absl::Status for_each_stretch(int fd, uint64_t unit, const Visit& visit) {
  off_t at = 0;
  while (true) {
    const off_t begin = ::lseek(fd, at, SEEK_DATA);
    if (begin < 0) break;
    const off_t end = ::lseek(fd, begin, SEEK_HOLE);
    if (end < 0) break;
    const auto from = static_cast<uint64_t>(begin) / unit * unit;
    const uint64_t to = (static_cast<uint64_t>(end) + unit - 1) / unit * unit;
    BLOBCACHE_RETURN_IF_ERROR(visit(from, to));
    at = static_cast<off_t>(to);
  }
  return errno == ENXIO ? absl::OkStatus() : base::errno_error(errno, "looking for data in a file");
}

}  // namespace

absl::Status CacheFolder::create(const MapHeader& header) const {
  absl::Status made = make_files(header);
  if (made.ok()) return made;
  // A map without a header would be found by the next start only, which drops what it tells of.
  if (const absl::Status removed = remove(header.key); !removed.ok()) {
    spdlog::warn("cannot remove half made files of a cached object: {}", base::message(removed));
  }
  return made;
}

absl::Status CacheFolder::make_files(const MapHeader& header) const {
  const fs::path path = disk_.cache_path(header.key);
  const fs::path folder = path.parent_path();
  const int made = disk_.calls().make_folder(folder);
  if (made < 0 && made != -EEXIST) return base::errno_error(-made, folder.string());
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd data,
                             disk_.open_file(path, O_RDWR | O_CREAT | O_TRUNC));
  if (const int sized = disk_.calls().truncate(data.get(), header.size_bytes); sized != 0) {
    return base::errno_error(-sized, path.string());
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd map,
                             disk_.open_file(map_path(path), O_RDWR | O_CREAT | O_TRUNC));
  return write_header(disk_.calls(), map.get(), header);
}

absl::StatusOr<MapHeader> CacheFolder::header(const ObjectKey& key) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd fd,
                             disk_.open_file(map_path(disk_.cache_path(key)), O_RDONLY));
  const AlignedMemory memory = allocate_aligned(kMapBlockSize);
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t got,
                             read_map(disk_.calls(), fd.get(), {memory.get(), kMapBlockSize}, 0));
  BLOBCACHE_ASSIGN_OR_RETURN(const MapHeader header, decode_map_header({memory.get(), got}));
  if (header.key != key) return absl::DataLossError("page map of another object");
  return header;
}

absl::Status CacheFolder::remove(const ObjectKey& key) const {
  const fs::path path = disk_.cache_path(key);
  // The map goes first: data that no map tells of is found at the next start.
  for (const fs::path& file : {map_path(path), path}) {
    const int removed = disk_.calls().unlink(file);
    if (removed < 0 && removed != -ENOENT) return base::errno_error(-removed, file.string());
  }
  return absl::OkStatus();
}

std::vector<CacheFolder::Found> CacheFolder::list(unsigned number) const {
  const fs::path folder = disk_.cache_root() / object_folder_name(number);
  struct stat folder_info{};
  if (::lstat(folder.c_str(), &folder_info) != 0 || !S_ISDIR(folder_info.st_mode)) return {};
  struct Files {
    bool map = false;
    Found found;
  };
  std::map<ObjectKey, Files> files;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::string name = at->path().filename().string();
    const bool is_map = name.ends_with(kMapSuffix);
    if (is_map) name.resize(name.size() - kMapSuffix.size());
    const std::optional<ObjectKey> key = parse_cache_file_name(name);
    struct stat info{};
    if (!key || ::lstat(at->path().c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
    Files& of_key = files[*key];
    if (is_map) {
      of_key.map = true;
      of_key.found.modified_ns = int64_t{info.st_mtim.tv_sec} * 1000000000 + info.st_mtim.tv_nsec;
    } else {
      of_key.found.allocated_bytes = static_cast<uint64_t>(info.st_blocks) * 512;
    }
  }
  if (error) spdlog::error("cannot list {}: {}", folder.string(), error.message());
  std::vector<Found> found;
  for (auto& [key, of_key] : files) {
    of_key.found.key = key;
    if (of_key.map) {
      found.push_back(of_key.found);
    } else if (const absl::Status removed = remove(key); !removed.ok()) {
      spdlog::warn("cannot remove cached data without a map: {}", base::message(removed));
    }
  }
  return found;
}

absl::StatusOr<CacheFolder::Pages> CacheFolder::pages(const MapHeader& header) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd fd,
                             disk_.open_file(map_path(disk_.cache_path(header.key)), O_RDONLY));
  const AlignedMemory memory = allocate_aligned(kMapPiece);
  const uint64_t blocks = map_block_count(header.size_bytes);
  Pages pages;
  BLOBCACHE_RETURN_IF_ERROR(
      for_each_stretch(fd.get(), kMapBlockSize, [&](uint64_t begin, uint64_t end) -> absl::Status {
        for (uint64_t at = begin; at < end;) {
          const absl::Span<std::byte> into(memory.get(), std::min(kMapPiece, end - at));
          BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t got,
                                     read_map(disk_.calls(), fd.get(), into, at));
          const uint64_t whole = got / kMapBlockSize * kMapBlockSize;
          if (whole == 0) return absl::OkStatus();
          for (uint64_t piece = 0; piece < whole; piece += kMapBlockSize) {
            const uint64_t place = (at + piece) / kMapBlockSize;
            if (place == 0 || place > blocks) continue;
            append_pages({memory.get() + piece, kMapBlockSize}, place - 1, header, pages);
          }
          at += whole;
        }
        return absl::OkStatus();
      }));
  return pages;
}

/// The pages of `extent` that are not in `keep`, given back.
absl::Status CacheFolder::trim_extent(int fd, uint64_t extent, PageMask keep) const {
  absl::Status status;
  for_each_run(~keep, [&](PageMask run) {
    status.Update(
        disk_.punch_hole(fd, (extent << kExtentShift) + (uint64_t{first_page(run)} << kPageShift),
                         uint64_t{page_total(run)} << kPageShift));
  });
  return status;
}

absl::Status CacheFolder::trim(const MapHeader& header, const Pages& pages) const {
  BLOBCACHE_ASSIGN_OR_RETURN(const base::UniqueFd fd,
                             disk_.open_file(disk_.cache_path(header.key), O_RDWR));
  return for_each_stretch(fd.get(), kExtentSize, [&](uint64_t begin, uint64_t end) {
    for (uint64_t extent = begin >> kExtentShift; extent < end >> kExtentShift; ++extent) {
      const auto at = std::ranges::lower_bound(pages, extent, {}, &Pages::value_type::first);
      const PageMask keep = at != pages.end() && at->first == extent ? at->second : 0;
      if (keep != ~PageMask{0}) BLOBCACHE_RETURN_IF_ERROR(trim_extent(fd.get(), extent, keep));
    }
    return absl::OkStatus();
  });
}

}  // namespace blobcache::page
