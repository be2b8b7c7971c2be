#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/object.h"
#include "store/page/object_key.h"
#include "store/page/page_store.h"
#include "store/volume/boot_id.h"
#include "store/volume/image.h"
#include "store/volume/space_budget.h"
#include "store/volume/workers.h"

namespace blobcache::volume {

/// What a volume is created from and runs on. Value type; what it points to outlives the volume.
struct VolumeOptions {
  /// The volume's folder, its own. create() makes it, in a folder that exists.
  std::filesystem::path path;
  /// False, of a file volume: it has no folder, and its files are called `path` with .header, .data
  /// and .map behind, in a folder that exists and that it may share. A folder takes a block of the
  /// disk, whose taking and giving back costs more than all else of a small file.
  bool in_folder = true;
  /// What pages read as that were never written or trimmed; null for zeros. open() is given the
  /// same object as create(): see VolumeDescription::base.
  page::ObjectRef base;
  Workers* workers = nullptr;
  /// Charged with what the volume takes, from open to close() or, without that, the end of the
  /// Volume; absent: no limit. Who keeps account of volumes that are not open charges
  /// VolumeDescription::data_bytes for them.
  SpaceBudget* budget = nullptr;
  /// All zeros: the kernel's. Tests give another to tell that the power was cut.
  BootId boot_id;
  /// Blocks of the map that are held in memory, at least kMinCachedBlocks: 4.4 KiB each, for 3.75
  /// MiB of the volume.
  size_t cached_blocks = 4096;
  /// For tests of what follows from failing disks; absent in earnest.
  page::DiskFault disk_fault;

  static constexpr size_t kMinCachedBlocks = 16;
};

/// What a volume's folder tells without being opened. Value type.
struct VolumeDescription {
  page::Incarnation incarnation;  ///< made at create()
  bool is_file = false;           ///< made by create_file()
  /// Of a file its length, exact after close(); after a crash as of the last checkpoint.
  uint64_t size_bytes = 0;
  bool has_base = false;
  page::ObjectKey base;
  uint64_t base_bytes = 0;  ///< from the base's start, as many as are seen; a volume that has grown
                            ///< sees zeros beyond. Of a file as exact as its length
  /// Pages of its own, in bytes. Exact after close(); after a crash as of the last checkpoint.
  uint64_t data_bytes = 0;
};

/// Counters only grow, but for `data_bytes`, `cached_blocks` and `intent_blocks`. Value type.
struct VolumeStats {
  uint64_t data_bytes = 0;     ///< pages of its own
  uint64_t cached_blocks = 0;  ///< of the map, in memory
  uint64_t intent_blocks = 0;  ///< of 3.75 MiB each, that a power cut now would make doubtful
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t bytes_read = 0;
  uint64_t bytes_written = 0;
  uint64_t waits = 0;  ///< reads and writes that went through the workers
  uint64_t flushes = 0;
  uint64_t syncs = 0;  ///< of the data file; flushes share them
  uint64_t checkpoints = 0;
  uint64_t damaged_pages = 0;    ///< found by reads
  uint64_t rechecked_pages = 0;  ///< by open(), after a kill or a power cut
  bool recovered = false;        ///< open() found that the last run did not end with close()
};

/// What a volume held at one moment, while the volume itself goes on. Pages that are written,
/// trimmed or zeroed meanwhile are copied first, into a file without a name that goes with the cut.
/// Only in memory: a cut does not survive its process.
///
/// Costs about 300 bytes of memory for each extent that changes while it lives, and the copies'
/// space, which is charged to the volume's budget. When there is none, it is the cut that is lost,
/// not the write: all reads fail with RESOURCE_EXHAUSTED from then on.
///
/// Thread-safe. Destroying it ends it; it may outlive the caller's hold on the volume.
class VolumeCut {
 public:
  virtual ~VolumeCut() = default;
  [[nodiscard]] virtual uint64_t size_bytes() const = 0;
  /// As Volume::read, and Volume::map but that the base is not asked for its zeros: kBase is all
  /// that is not the volume's own.
  virtual void read(uint64_t offset, absl::Span<std::byte> into, Done done) = 0;
  virtual void map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) = 0;

  /// The same, waiting; never on a worker.
  [[nodiscard]] absl::Status read_wait(uint64_t offset, absl::Span<std::byte> into);
  [[nodiscard]] absl::StatusOr<std::vector<Run>> map_wait(uint64_t offset, uint64_t length,
                                                          size_t max_runs);
};

/// A thin, writable image over an optional base: copy on write, a page (4 KiB) at a time. Its size
/// is fixed but for grow(), or, of a *file volume*, is a file's length (below). Offsets and lengths
/// are bytes, of any alignment; what is not whole pages costs a read of the page, of the base once.
///
/// What is promised:
/// - A write that was answered survives a kill of the process.
/// - flush(), or `fua`, answered OK: every write, trim and zeroing that was answered before it was
///   called is on stable storage, whoever asked for it.
/// - A power cut takes, of what was not flushed, any part, sector by sector; each sector is then as
///   it was or as it was written, never anything else.
/// - A page of its own that is not what was written is DATA_LOSS, never the base's.
/// - No room, in the budget or on the disk, is RESOURCE_EXHAUSTED. Of the write that fails any part
///   may be done; nothing else changes.
///
/// What waits for nothing: reads (and try_read()) of own pages that the kernel has in memory, of
/// zeros, and of pages of the base that L0 has; and writes of whole pages to a part of the volume
/// that was written to lately, which go into the page cache on the calling thread without an
/// allocation, and so of parts of pages that need nothing from the disk or the base. All else is
/// done on the workers. Whole pages that are trimmed or made zero are punched, and their space is
/// given back. A call of map() looks at 16 GiB at most.
///
/// A file volume (create_file()) is for a file that is being written to, and for many of them that
/// soon settle into something else. What is different:
/// - size_bytes() is the file's length. A write that ends beyond it makes the file longer, up to
///   kMaxFileLength; what lies between reads as zeros. set_length() makes it longer or shorter, and
///   what was cut off never shows again, be it the volume's or the base's.
/// - A write beyond kMaxFileLength is OUT_OF_RANGE, with EFBIG (base::posix_errno_of). Reads and
///   maps are OUT_OF_RANGE where the file ends before the range does, by then or at their end: who
///   reads clamps, and asks again. trim() and zeroing with `keep_size` leave out what is beyond.
/// - It is made without a sync. Until the first flush() is answered a power cut may take it as a
///   whole (open(): NOT_FOUND or DATA_LOSS) or leave it as it was made. That flush makes its names
///   durable, too.
/// - There are no intents. What a kill takes is as with images, the length included. After a power
///   cut the length is as of the last flush, or later; every own page is read once. A page in a
///   part that was cut off without a flush, and is back, has sectors as they were or zeros.
/// - Parts of pages are written on the calling thread as whole pages are, where nothing has to be
///   read from the disk.
///
/// When a sync fails, what the kernel held may be lost without another word of it: from then on
/// writes and flushes fail with UNAVAILABLE and reads go on, until the volume is opened again.
///
/// Errors besides those of an image: DATA_LOSS (a page, or its map block, is damaged), else the
/// disk's or the base's.
///
/// Thread-safe. Held by shared_ptr; operations that are under way hold it, too. Destroying it
/// without close() is what a kill does: nothing that was answered is lost.
class Volume : public Image {
 public:
  /// The largest; ext4 gives a file 16 TiB at most, and create() and grow() say so.
  static constexpr uint64_t kMaxSize = uint64_t{1} << 50;
  /// The longest file.
  static constexpr uint64_t kMaxFileLength = uint64_t{1} << 43;

  /// Makes the folder and the files of a new volume, durably, and opens it. ALREADY_EXISTS when
  /// there is one. What a crash leaves is a folder that open() finds NOT_FOUND, or a whole volume.
  /// Blocks.
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<Volume>> create(const VolumeOptions& options,
                                                                      uint64_t size_bytes);
  /// Makes a file volume of `length_bytes`, 0 to kMaxFileLength, and opens it: what the base has is
  /// seen up to there. Without a sync, in a folder that is absent or empty: ALREADY_EXISTS when
  /// there is a volume. What a kill leaves is a folder that open() finds NOT_FOUND or DATA_LOSS, or
  /// a whole volume. Takes a few system calls.
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<Volume>> create_file(
      const VolumeOptions& options, uint64_t length_bytes);
  /// Opens a volume, and recovers it if its last run did not end with close(): reads the pages of
  /// its own in what was being written (after a kill or a power cut). NOT_FOUND where no volume is,
  /// FAILED_PRECONDITION (of a newer version, open elsewhere, another base), DATA_LOSS (damaged
  /// header or journal), else the disk's error. Blocks.
  [[nodiscard]] static absl::StatusOr<std::shared_ptr<Volume>> open(const VolumeOptions& options);
  /// Removes a file volume's files that is closed, or abandoned, or was never there. What a kill
  /// leaves is whole, or none to open(). Not synced.
  [[nodiscard]] static absl::Status remove_file(const VolumeOptions& options);
  /// Reads the header, in the folder or beside `path`; errors as open(). Blocks for a moment.
  [[nodiscard]] static absl::StatusOr<VolumeDescription> describe(
      const std::filesystem::path& path);

  /// As describe(), of now.
  [[nodiscard]] virtual VolumeDescription description() const = 0;

  /// Makes an image larger, durably; what is new reads as zeros. INVALID_ARGUMENT for a smaller
  /// size, FAILED_PRECONDITION for a file. Blocks.
  [[nodiscard]] virtual absl::Status grow(uint64_t size_bytes) = 0;

  /// Makes a file volume longer, with zeros, or shorter, and gives the space back; OUT_OF_RANGE
  /// beyond kMaxFileLength. FAILED_PRECONDITION for an image. Durable with the next flush.
  virtual void set_length(uint64_t length_bytes, Done done) = 0;

  /// The present state, to be read in peace: every write that was answered before the call is in
  /// it, none that is begun after it. (Of one that is under way each extent is, or is not.) One at
  /// a time: FAILED_PRECONDITION while another cut lives. Does not wait for the disk.
  [[nodiscard]] virtual absl::StatusOr<std::shared_ptr<VolumeCut>> cut() = 0;

  /// Syncs everything and clears the intent, so that the next open has nothing to recover. Later
  /// operations fail with FAILED_PRECONDITION; those under way come to their end first. Blocks;
  /// never on a worker. After an error the volume is closed all the same, as after a kill.
  [[nodiscard]] virtual absl::Status close() = 0;

  /// Closes without a sync or a word to the files, for a volume that is about to be removed: its
  /// files are as a kill leaves them, and free to be removed, and its budget has its space back.
  /// Operations under way come to their end first, later ones fail as after close(). Blocks for
  /// them; never on a worker.
  virtual void abandon() = 0;

  /// As map(), but that the base is not asked for its zeros: kBase is all that is not the volume's
  /// own. Fails for the volume's own damage alone, whatever has become of the base.
  virtual void map_own(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) = 0;

  [[nodiscard]] virtual VolumeStats stats() const = 0;

  /// The same as above, waiting; never on a worker.
  [[nodiscard]] absl::Status read_wait(uint64_t offset, absl::Span<std::byte> into);
  [[nodiscard]] absl::Status write_wait(uint64_t offset, absl::Span<const std::byte> bytes,
                                        bool fua = false);
  [[nodiscard]] absl::Status write_zeroes_wait(uint64_t offset, uint64_t length,
                                               ZeroFlags flags = {});
  [[nodiscard]] absl::Status trim_wait(uint64_t offset, uint64_t length, bool fua = false);
  [[nodiscard]] absl::Status flush_wait();
  [[nodiscard]] absl::Status set_length_wait(uint64_t length_bytes);
  [[nodiscard]] absl::StatusOr<std::vector<Run>> map_wait(uint64_t offset, uint64_t length,
                                                          size_t max_runs);
  [[nodiscard]] absl::StatusOr<std::vector<Run>> map_own_wait(uint64_t offset, uint64_t length,
                                                              size_t max_runs);
};

}  // namespace blobcache::volume
