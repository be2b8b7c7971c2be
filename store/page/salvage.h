#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/page/content_hash.h"
#include "store/page/object_key.h"

namespace blobcache::page {

// What a store's objects/ tells without its catalog. For a store that nobody has open: the caller
// holds its lock. Blocks on the disk.

/// One object's data file, known by its name alone. Value type.
struct StoredFile {
  std::filesystem::path path;
  ObjectKey key;
  Incarnation incarnation;
  bool set_aside = false;  ///< an earlier salvage found it damaged: "<name>.damaged"
};

/// What a data file holds, once its content is known to be its key's. Value type.
struct SalvagedObject {
  uint64_t size_bytes = 0;
  uint64_t disk_bytes = 0;                 ///< what it takes of the disk budget
  std::string inline_map;                  ///< as SealedObject::inline_map
  absl::Time modified;                     ///< when its bytes were written
  std::optional<std::string> description;  ///< as it was stored; absent: none, or a too long one
};

/// Calls `visit` for every object's data file beneath `store`/objects, one folder after the other;
/// files whose names are not ours are passed over. FAILED_PRECONDITION when there is no objects/,
/// else the first error of the disk or of `visit`.
[[nodiscard]] absl::Status for_each_stored_file(
    const std::filesystem::path& store, absl::FunctionRef<absl::Status(const StoredFile&)> visit);

/// Reads the whole file and compares it with its key. DATA_LOSS for another content or what is no
/// regular file; the disk's error for what cannot be read. The page map of an object that has a map
/// file is not looked at: a damaged one is made again when its pages are first read.
[[nodiscard]] absl::StatusOr<SalvagedObject> salvage(const StoredFile& file,
                                                     const ContentHashFactory& hash);

/// Reads the object's names file, as Descriptions::read_file.
[[nodiscard]] absl::Status read_names(const StoredFile& file,
                                      absl::FunctionRef<void(std::string_view record)> visit);

/// Renames a damaged file (and its map and names file) to "<name>.damaged", which no store ever
/// removes, or back. Durable once the file system is synced. No error when it has that name
/// already.
[[nodiscard]] absl::Status set_aside(const StoredFile& file);
[[nodiscard]] absl::Status bring_back(const StoredFile& file);

}  // namespace blobcache::page
