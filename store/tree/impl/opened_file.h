#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "store/tree/files.h"
#include "store/tree/impl/inode.h"
#include "store/tree/namespace.h"
#include "store/volume/image.h"
#include "store/volume/volume.h"

namespace blobcache::tree {

class InodeTable;

/// Somebody's hold on an Inode, with what he may do to it. As File; the table outlives it.
class OpenedFile final : public File {
 public:
  /// The table has counted it as a handle.
  OpenedFile(InodeTable& table, std::shared_ptr<Inode> inode)
      : table_(table), inode_(std::move(inode)) {}
  ~OpenedFile() override;
  OpenedFile(const OpenedFile&) = delete;
  OpenedFile& operator=(const OpenedFile&) = delete;

  [[nodiscard]] Content content() const override { return inode_->content(); }
  [[nodiscard]] Node node() const override;
  [[nodiscard]] absl::Status begin_writing() override;
  [[nodiscard]] absl::StatusOr<page::LentFile> lend_file() override;
  [[nodiscard]] std::shared_ptr<const void> keep_lent() override;
  [[nodiscard]] absl::Status reserve_writing() override;
  [[nodiscard]] bool is_writing() const override { return writes_.load(); }
  void write(uint64_t offset, absl::Span<const std::byte> bytes, volume::Done done) override;
  void append(absl::Span<const std::byte> bytes, Placed placed, volume::Done done) override;
  void write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags flags,
                    volume::Done done) override;
  void set_length(uint64_t length, volume::Done done) override;
  void sync(volume::Done done) override;

 private:
  [[nodiscard]] volume::Done told(uint64_t offset, uint64_t length, volume::Done done);
  /// Calls `step` with what is to be called at its end, when it is its turn to move the file's end.
  void in_turn(volume::Done done, absl::AnyInvocable<void(volume::Done) &&> step);
  void zero_in_turn(uint64_t offset, uint64_t length, volume::ZeroFlags flags, volume::Done done);
  /// The volume to change, or why there is none.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<volume::Volume>> volume_for(uint64_t end);

  InodeTable& table_;
  const std::shared_ptr<Inode> inode_;
  absl::Mutex begin_mutex_;  ///< held over begin_writing()
  std::atomic<bool> writes_{false};
  std::atomic<bool> reserved_{false};
};

}  // namespace blobcache::tree
