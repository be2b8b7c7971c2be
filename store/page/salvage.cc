#include "store/page/salvage.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "store/page/geometry.h"
#include "store/page/impl/aligned_memory.h"
#include "store/page/impl/counters.h"
#include "store/page/impl/disk_calls.h"
#include "store/page/impl/map_builder.h"
#include "store/page/impl/names_file.h"
#include "store/page/impl/object_file_name.h"
#include "store/page/impl/tier_health.h"
#include "store/page/page_map.h"

namespace blobcache::page {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDamagedSuffix = ".damaged";
constexpr size_t kStep = size_t{1} << 20;
static_assert(kStep % kPageSize == 0);

uint64_t data_pages(const MapBlock& block) {
  uint64_t pages = 0;
  for (const PageMask word : block.on_disk) pages += static_cast<uint64_t>(std::popcount(word));
  return pages;
}

std::optional<StoredFile> read_name(const fs::path& path) {
  const std::string name = path.filename().string();
  std::string_view rest = name;
  StoredFile file;
  file.path = path;
  file.set_aside = rest.ends_with(kDamagedSuffix);
  if (file.set_aside) rest.remove_suffix(kDamagedSuffix.size());
  const std::optional<ObjectFileName> parsed = parse_object_file_name(rest);
  if (!parsed || parsed->part != ObjectPart::kData) return std::nullopt;
  // As the store itself would name it: lower case, and in its own folder.
  const fs::path expected = object_file_path(parsed->key, parsed->incarnation);
  if (expected.filename() != rest || expected.parent_path() != path.parent_path().filename()) {
    return std::nullopt;
  }
  file.key = parsed->key;
  file.incarnation = parsed->incarnation;
  return file;
}

/// Fills `buffer` from `offset`; fewer bytes than asked for mean the file's end.
absl::StatusOr<size_t> read_fully(int fd, std::byte* buffer, size_t size, uint64_t offset) {
  size_t filled = 0;
  while (filled < size) {
    const ssize_t got =
        ::pread(fd, buffer + filled, size - filled, static_cast<off_t>(offset + filled));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return base::errno_error(errno, "reading it");
    if (got == 0) break;
    filled += static_cast<size_t>(got);
  }
  return filled;
}

/// Reads all `size_bytes` into `builder`; the key of what was read.
absl::StatusOr<ObjectKey> scan(int fd, uint64_t size_bytes, ContentHash& hash,
                               MapBuilder& builder) {
  const AlignedMemory memory = allocate_aligned(kStep);
  for (uint64_t at = 0; at < size_bytes; at += kStep) {
    const auto wanted = static_cast<size_t>(std::min<uint64_t>(kStep, size_bytes - at));
    BLOBCACHE_ASSIGN_OR_RETURN(const size_t got, read_fully(fd, memory.get(), wanted, at));
    if (got < wanted) return absl::DataLossError("it became shorter while it was read");
    hash.update({memory.get(), wanted});
    const size_t pages = page_count(wanted);
    std::memset(memory.get() + wanted, 0, pages * kPageSize - wanted);
    for (size_t page = 0; page < pages; ++page) {
      bool is_data = false;
      BLOBCACHE_RETURN_IF_ERROR(builder.add({memory.get() + page * kPageSize, kPageSize}, is_data));
    }
  }
  return hash.finish();
}

absl::Status rename_object(const StoredFile& file, const fs::path& to) {
  if (file.path == to) return absl::OkStatus();
  const bool aside = to.native().ends_with(kDamagedSuffix);
  const fs::path plain = aside ? file.path : to;
  for (const std::string_view suffix : {kMapSuffix, kNamesSuffix}) {
    const fs::path part = plain.string() + std::string(suffix);
    const fs::path part_aside = part.string() + std::string(kDamagedSuffix);
    const fs::path& part_from = aside ? part : part_aside;
    const fs::path& part_to = aside ? part_aside : part;
    // Not every object has them.
    if (::rename(part_from.c_str(), part_to.c_str()) != 0 && errno != ENOENT) {
      return base::errno_error(errno, part_from.string());
    }
  }
  if (::rename(file.path.c_str(), to.c_str()) != 0) {
    return base::errno_error(errno, file.path.string());
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status for_each_stored_file(const fs::path& store,
                                  absl::FunctionRef<absl::Status(const StoredFile&)> visit) {
  const fs::path objects = store / "objects";
  std::error_code error;
  if (!fs::is_directory(objects, error)) {
    return absl::FailedPreconditionError(
        fmt::format("{}: there is no store here: it has no directory objects/", store.string()));
  }
  for (unsigned i = 0; i < 256; ++i) {
    const fs::path folder = objects / object_folder_name(i);
    fs::directory_iterator at(folder, error);
    if (error == std::errc::no_such_file_or_directory) continue;
    for (const fs::directory_iterator end; !error && at != end; at.increment(error)) {
      const std::optional<StoredFile> file = read_name(at->path());
      if (file) BLOBCACHE_RETURN_IF_ERROR(visit(*file));
    }
    if (error) return base::errno_error(error.value(), folder.string());
  }
  return absl::OkStatus();
}

absl::StatusOr<SalvagedObject> salvage(const StoredFile& file, const ContentHashFactory& hash) {
  const base::UniqueFd fd(
      ::open(file.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat info{};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) {
    return base::errno_error(errno, "opening it");
  }
  if (!S_ISREG(info.st_mode)) return absl::DataLossError("it is no regular file");
  SalvagedObject object;
  object.size_bytes = static_cast<uint64_t>(info.st_size);
  object.modified = absl::TimeFromTimespec(info.st_mtim);
  if (object.size_bytes > kMaxObjectSize) return absl::DataLossError("it is impossibly large");
  const bool has_map = object.size_bytes > kInlineMapMaxObject;
  uint64_t pages = 0;
  MapBuilder builder(file.incarnation, [&](uint64_t, const MapBlock& block) {
    pages += data_pages(block);
    return absl::OkStatus();
  });
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  BLOBCACHE_ASSIGN_OR_RETURN(const ObjectKey key,
                             scan(fd.get(), object.size_bytes, *hash(), builder));
  // What was read once is not read again soon, and the machine may have better use for its memory.
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  if (key != file.key) return absl::DataLossError("its content does not match its digest");
  object.disk_bytes = (pages + data_pages(builder.last_block())) << kPageShift;
  if (has_map) {
    object.disk_bytes += map_block_offset(map_block_count(object.size_bytes));
  } else {
    object.inline_map =
        encode_inline_map(builder.last_block(), object.size_bytes, file.incarnation);
  }
  object.description = read_description(fd.get());
  return object;
}

absl::Status read_names(const StoredFile& file,
                        absl::FunctionRef<void(std::string_view record)> visit) {
  fs::path plain = file.path;
  if (file.set_aside) plain.replace_extension();
  const std::string name = plain.string() + std::string(kNamesSuffix);
  // A salvage that was killed may have renamed the one and not the other.
  base::UniqueFd fd;
  for (const std::string& path : {name, name + std::string(kDamagedSuffix)}) {
    fd = base::UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    if (fd.valid() || errno != ENOENT) break;
  }
  if (!fd.valid()) return base::errno_error(errno, name);
  Counters uncounted;
  TierHealth health(uncounted, absl::Now);
  return read_names_file(DiskCalls(nullptr, health), fd.get(), file.key, visit);
}

absl::Status set_aside(const StoredFile& file) {
  if (file.set_aside) return absl::OkStatus();
  return rename_object(file, file.path.string() + std::string(kDamagedSuffix));
}

absl::Status bring_back(const StoredFile& file) {
  if (!file.set_aside) return absl::OkStatus();
  fs::path plain = file.path;
  plain.replace_extension();
  return rename_object(file, plain);
}

}  // namespace blobcache::page
