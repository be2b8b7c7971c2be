#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/volume/impl/checkpointer.h"
#include "store/volume/impl/cut_state.h"
#include "store/volume/impl/file_cleaner.h"
#include "store/volume/impl/flusher.h"
#include "store/volume/impl/header.h"
#include "store/volume/impl/volume_core.h"
#include "store/volume/volume.h"

namespace blobcache::volume {

/// What a write, or a zeroing, is to do. Value type.
struct ChangeOrder {
  enum class Kind : uint8_t {
    kWrite,
    kZero,      ///< punches
    kFillZero,  ///< writes zeros
  };
  Kind kind = Kind::kWrite;
  uint64_t offset = 0;
  uint64_t length = 0;
  const std::byte* bytes = nullptr;  ///< of kWrite
  bool fua = false;
  bool grows = true;          ///< a file, which ends where what is written does, or later
  uint64_t length_after = 0;  ///< a file is that long when all is done, or longer
};

/// The volume: tries what needs no waiting on the caller's thread, and hands the rest to workers.
class VolumeImpl final : public Volume, public std::enable_shared_from_this<VolumeImpl> {
 public:
  VolumeImpl(const VolumeOptions& options, const Header& header, VolumeFiles files);

  [[nodiscard]] uint64_t size_bytes() const override { return core_.length.bytes(); }
  [[nodiscard]] uint64_t identity() const override;
  [[nodiscard]] std::string about() const override;
  [[nodiscard]] VolumeDescription description() const override;
  [[nodiscard]] bool try_read(uint64_t offset, absl::Span<std::byte> into) override;
  [[nodiscard]] bool try_pin(uint64_t offset, uint64_t length, page::PinnedRange& range) override;
  void read(uint64_t offset, absl::Span<std::byte> into, Done done) override;
  void write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua, Done done) override;
  void write_zeroes(uint64_t offset, uint64_t length, ZeroFlags flags, Done done) override;
  void trim(uint64_t offset, uint64_t length, bool fua, Done done) override;
  void flush(Done done) override;
  void map(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) override;
  void map_own(uint64_t offset, uint64_t length, size_t max_runs, MapDone done) override;
  [[nodiscard]] absl::Status grow(uint64_t size_bytes) override;
  void set_length(uint64_t length_bytes, Done done) override;
  [[nodiscard]] absl::StatusOr<std::shared_ptr<VolumeCut>> cut() override;
  [[nodiscard]] absl::Status close() override;
  void abandon() override;
  [[nodiscard]] VolumeStats stats() const override;

  /// Writes the header of a new file volume, which nobody else has yet. Not synced.
  [[nodiscard]] absl::Status begin_file();

  // For the operations.
  [[nodiscard]] VolumeCore& core() { return core_; }
  [[nodiscard]] Checkpointer& checkpointer() { return checkpointer_; }
  [[nodiscard]] FileCleaner& cleaner() { return cleaner_; }
  /// The file is at least `length_bytes` long when this returns OK. On a worker.
  [[nodiscard]] absl::Status grow_file(uint64_t length_bytes) {
    return change_length(length_bytes, true);
  }
  /// Flushes for an operation that has begun, and ends it.
  void flush_operation(Done done);
  void read_cut(std::shared_ptr<CutState> cut, uint64_t offset, absl::Span<std::byte> into,
                Done done);
  void map_cut(std::shared_ptr<CutState> cut, uint64_t offset, uint64_t length, size_t max_runs,
               MapDone done);

 private:
  /// Asks the base which of the kBase runs of a map are zeros; the rest of map().
  void tell_base_holes(std::vector<Run> runs, uint64_t offset, size_t max_runs, MapDone done);
  /// Writes from `offset` on as far as that needs no waiting; how many bytes.
  [[nodiscard]] uint64_t write_now(uint64_t offset, absl::Span<const std::byte> bytes,
                                   absl::Status& why);
  /// Runs what may have to wait on a worker.
  void begin_change(const ChangeOrder& order, Done done);
  /// On a worker.
  [[nodiscard]] absl::Status change_length(uint64_t length_bytes, bool only_grows);
  [[nodiscard]] bool read_now(uint64_t offset, absl::Span<std::byte> into);

  mutable VolumeCore core_;
  Checkpointer checkpointer_;
  FileCleaner cleaner_;
  Flusher flusher_;
};

/// Makes a header's description. Pure.
[[nodiscard]] VolumeDescription describe_header(const Header& header);

}  // namespace blobcache::volume
