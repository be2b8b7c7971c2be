#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

#include "absl/types/span.h"
#include "store/page/geometry.h"
#include "store/page/impl/tier_health.h"
#include "store/page/page_store.h"

namespace blobcache::page {

/// The disk tier's system calls that block; those of many pages go through IoRing. Each is a step
/// that a test can fail (DiskFault), is taken again when a signal ends it, and has its outcome
/// judged.
///
/// They answer as the ring does: a negative errno value, or what succeeded. Thread-safe.
class DiskCalls {
 public:
  /// `fault` may be absent. `health` outlives this.
  DiskCalls(DiskFault fault, TierHealth& health) : fault_(std::move(fault)), health_(health) {}

  /// As open(2), also in how `flags` are meant; the descriptor.
  [[nodiscard]] int open(const std::filesystem::path& path, int flags) const;
  [[nodiscard]] int make_folder(const std::filesystem::path& path) const;
  [[nodiscard]] int rename(const std::filesystem::path& from,
                           const std::filesystem::path& to) const;
  [[nodiscard]] int unlink(const std::filesystem::path& path) const;

  /// Fills `into` until `needed` bytes (at most into.size()) have come; how many did: fewer only
  /// where the file ends. With direct I/O address, size and offset are multiples of the page size.
  [[nodiscard]] int64_t read(int fd, absl::Span<std::byte> into, uint64_t offset,
                             size_t needed) const;
  /// Writes all of `from`.
  [[nodiscard]] int write(int fd, absl::Span<const std::byte> from, uint64_t offset) const;
  /// The same with files that are open without direct I/O: only a failure is judged, as what the
  /// kernel's memory takes or gives says nothing of the disk.
  [[nodiscard]] int64_t read_buffered(int fd, absl::Span<std::byte> into, uint64_t offset) const;
  [[nodiscard]] int write_buffered(int fd, absl::Span<const std::byte> from, uint64_t offset) const;
  [[nodiscard]] int truncate(int fd, uint64_t bytes) const;
  [[nodiscard]] int punch_hole(int fd, uint64_t offset, uint64_t bytes) const;
  [[nodiscard]] int set_attribute(int fd, const char* name, const std::string& value) const;
  [[nodiscard]] int remove_attribute(int fd, const char* name) const;
  /// fsync(2) and syncfs(2).
  [[nodiscard]] int sync(int fd) const;
  [[nodiscard]] int sync_file_system(int fd) const;

 private:
  /// What a test wants of the step; see DiskFault.
  [[nodiscard]] int ask(const DiskStep& step) const { return fault_ ? fault_(step) : 0; }
  /// Takes a step that moves no bytes: `call` as a system call, again while it is interrupted.
  template <typename Call>
  [[nodiscard]] int take(const DiskStep& step, const Call& call) const;
  /// read() and write(), not judged.
  [[nodiscard]] int64_t move_in(int fd, absl::Span<std::byte> into, uint64_t offset,
                                size_t needed) const;
  [[nodiscard]] int move_out(int fd, absl::Span<const std::byte> from, uint64_t offset) const;

  const DiskFault fault_;
  TierHealth& health_;
};

/// Fills `into` as DiskCalls::read() does, at once; `fault` is what a test wants of the first step.
/// A negative errno value, or how many bytes have come.
[[nodiscard]] int64_t read_fully(int fd, absl::Span<std::byte> into, uint64_t offset, size_t needed,
                                 int fault);

/// Where a transfer goes on after `moved` bytes: at the start of a page, as direct I/O wants it.
/// What it moves twice is the same.
[[nodiscard]] constexpr size_t resume_at(size_t moved) { return moved / kPageSize * kPageSize; }

}  // namespace blobcache::page
