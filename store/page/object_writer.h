#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/object_key.h"

namespace blobcache::page {

/// What a sealed object's owner must remember to open it again. Value type.
struct SealedObject {
  Incarnation incarnation;
  uint64_t size_bytes = 0;
  uint64_t disk_bytes = 0;  ///< what it takes of the disk budget
  std::string inline_map;   ///< for ObjectSpec::inline_map; empty when the object has a map file
};

/// What is stored with an object's file, so that a lost catalog can be made again; see
/// Descriptions. Value type.
struct ObjectDescription {
  std::string text;                  ///< for the attribute
  std::vector<std::string> records;  ///< for the names file, if there has to be one
  /// `text` says everything. If not, or where it cannot be stored, there is a names file.
  bool complete = true;
};

/// Writes one new object into the disk tier. Nothing is visible until the owner of the names has
/// made it so:
///
///     append ... append, seal(key), [PageStore::sync], [catalog commit], keep()
///
/// Destroyed before keep(), it removes all that it wrote. Zero pages take no space. Memory: at most
/// 8 MiB of buffers, whatever the size. One thread at a time.
class ObjectWriter {
 public:
  virtual ~ObjectWriter() = default;

  /// Appends bytes; blocks while the disk is behind. RESOURCE_EXHAUSTED when the budget, the
  /// reserve or the disk is full, with nothing else disturbed; after any error only destruction is
  /// allowed.
  [[nodiscard]] virtual absl::Status append(absl::Span<const std::byte> bytes) = 0;

  [[nodiscard]] virtual uint64_t size_bytes() const = 0;

  /// Puts data and page map under the object's final file name, not durably yet: that is
  /// PageStore::sync's to do, for many at once. So it is with what is stored of `description`.
  [[nodiscard]] virtual absl::StatusOr<SealedObject> seal(const ObjectKey& key,
                                                          const ObjectDescription& description) = 0;

  /// The object is in the catalog: its files stay. Only after seal().
  virtual void keep() = 0;
};

}  // namespace blobcache::page
