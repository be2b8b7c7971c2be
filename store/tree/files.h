#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/lent_file.h"
#include "store/page/object.h"
#include "store/tree/name_editor.h"
#include "store/tree/namespace.h"
#include "store/volume/image.h"

namespace blobcache::tree {

/// A file beneath files/ that somebody has open: one for all who have it open at once. Its bytes
/// are a blob's until somebody writes; from then on they are a volume's over that blob, until the
/// file rests and has settled into a blob again, with the same node. Whoever has it open sees each
/// change at once.
///
/// Thread-safe. Held by shared_ptr; who lets go of it last may wait for the disk for a moment.
class File {
 public:
  virtual ~File() = default;

  /// Where the bytes are now: one of the two. Value type.
  struct Content {
    page::ObjectRef object;                ///< a blob's, which never change
    std::shared_ptr<volume::Image> image;  ///< or those that are written
  };
  /// Cheap: no wait, no lock that is held for long. What it gives stays readable.
  [[nodiscard]] virtual Content content() const = 0;
  /// The node as it is now, with no links when all its names are gone.
  [[nodiscard]] virtual Node node() const = 0;

  /// Has the content be an image, of which write() and the rest are allowed from then on. What was
  /// read before the call was the blob's. Waits for the disk.
  [[nodiscard]] virtual absl::Status begin_writing() = 0;
  /// Whether who holds this has begun to write by it.
  [[nodiscard]] virtual bool is_writing() const = 0;

  /// Of a file that is settled, and that nobody has opened for writing: as
  /// page::Object::lend_file(), else FAILED_PRECONDITION. While the lease is held it stays so.
  [[nodiscard]] virtual absl::StatusOr<page::LentFile> lend_file() = 0;
  /// For who had a lease in the process before, and takes over: nobody begins to write while this
  /// is held. Before anybody else can ask.
  [[nodiscard]] virtual std::shared_ptr<const void> keep_lent() = 0;
  /// Who has it open may begin to write from now on, so it is not lent. ETXTBSY while it is; so is
  /// begin_writing().
  [[nodiscard]] virtual absl::Status reserve_writing() = 0;

  // Of a file under writing; FAILED_PRECONDITION before begin_writing(). As those of an image, and:
  /// Beyond the end the file grows; what lies between reads as zeros. EFBIG (posix_errno_of) beyond
  /// what a file can be. Bytes stay valid and unchanged until `done`. Where there is no room for
  /// all of it the first part is written, the file ends there if it ended before, and the error
  /// tells how much that is (base::bytes_done_of).
  virtual void write(uint64_t offset, absl::Span<const std::byte> bytes, volume::Done done) = 0;
  /// Told where an append goes, before anybody else is told of its bytes; not if it fails before.
  using Placed = absl::AnyInvocable<void(uint64_t offset) &&>;
  /// O_APPEND: a write at the end as it is when the write's turn comes. What moves the end
  /// otherwise (set_length(), zeroing beyond it) waits for its turn as well, whoever asks for it,
  /// so that no append goes where another one goes, or leaves a hole. (A write beyond the end at
  /// the same time may meet an append there.)
  virtual void append(absl::Span<const std::byte> bytes, Placed placed, volume::Done done) = 0;
  virtual void write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags flags,
                            volume::Done done) = 0;
  virtual void set_length(uint64_t length, volume::Done done) = 0;

  /// fsync(2): content, length and name are on stable storage when `done` is called. The cost is
  /// that of what changed. OK at once for a file that nobody wrote to, as its blob is.
  virtual void sync(volume::Done done) = 0;
};

using FileRef = std::shared_ptr<File>;

/// The files beneath files/ as a door that writes has them. Errors as NameEditor's. Thread-safe;
/// calls wait for the catalog and the disk, as long as a file's creation takes.
class Files {
 public:
  /// The longest.
  static constexpr uint64_t kMaxLength = uint64_t{1} << 43;

  virtual ~Files() = default;

  /// Makes an empty file, which is there for everybody at once, and opens it for writing.
  [[nodiscard]] virtual absl::StatusOr<FileRef> create(const NewName& name) = 0;
  /// Opens the file of a node beneath files/. ESTALE for a node that is gone, EISDIR, EINVAL.
  [[nodiscard]] virtual absl::StatusOr<FileRef> open(NodeId node) = 0;
};

}  // namespace blobcache::tree
