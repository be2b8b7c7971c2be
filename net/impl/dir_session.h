#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "net/impl/dir_files.h"
#include "net/impl/dir_reads.h"
#include "net/impl/origin_vitals.h"
#include "store/page/object_key.h"
#include "store/page/source.h"

namespace blobcache::net {

/// Whether reads of a file follow each other, as several threads that share a stream make them: not
/// each where the last one ended, but near it. Value type.
class DirStream {
 public:
  /// Bytes that reads may be out of turn, either way.
  static constexpr uint64_t kNear = uint64_t{4} << 20;
  /// After so many reads in turn it is a stream.
  static constexpr int kInTurn = 4;

  /// A read of [offset, offset + bytes). True when what it is has changed with this read.
  bool note(uint64_t offset, uint64_t bytes);
  [[nodiscard]] bool is_stream() const { return in_turn_ >= kInTurn; }

 private:
  uint64_t end_ = 0;
  int in_turn_ = 0;
};

/// One version of a file while somebody has it open: where the page store gets its bytes from. What
/// was read counts only if the file still was that version afterwards; once it was not, nothing is
/// read any more.
///
/// What was read leaves the kernel's cache: the store has it now.
///
/// Thread-safe.
class DirSession final : public page::Source,
                         public DirReadable,
                         public std::enable_shared_from_this<DirSession> {
 public:
  /// `path` is for people. `read` is DirSystem's.
  DirSession(std::string path, DirOpened file, const page::ObjectKey& key, const DirSystem& system,
             std::shared_ptr<DirReads> reads, std::shared_ptr<OriginVitals> vitals);
  /// The file is closed by a thread of the reads: a file system that hangs may keep it.
  ~DirSession() override;
  DirSession(const DirSession&) = delete;
  DirSession& operator=(const DirSession&) = delete;

  [[nodiscard]] const page::ObjectKey& key() const { return key_; }
  [[nodiscard]] const DirStamp& stamp() const { return file_.stamp; }
  [[nodiscard]] bool lasting() const { return file_.lasting; }
  /// It was seen to be another version by now.
  [[nodiscard]] bool has_changed() const { return changed_; }

  [[nodiscard]] std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                                             FetchDone done) override;
  [[nodiscard]] absl::Status read(uint64_t offset, uint64_t bytes, Take take) override;

 private:
  [[nodiscard]] absl::Status changed();
  [[nodiscard]] absl::Status fill(absl::Span<std::byte> piece, uint64_t offset);
  void advise(uint64_t offset, uint64_t bytes);

  const std::string path_;
  DirOpened file_;
  const page::ObjectKey key_;
  const DirSystem system_;
  const std::shared_ptr<DirReads> reads_;
  const std::shared_ptr<OriginVitals> vitals_;
  std::atomic<bool> changed_ = false;
  absl::Mutex mutex_;
  DirStream stream_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::net
