#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace blobcache::ctl {

/// Where a get writes to, with the caller's rights. A regular file is written under a temporary
/// name beside it (".NAME.<8 hex>.part") and takes its name in commit(), so nobody ever sees half
/// of it; long runs of zeros become holes. Anything else that exists (a device, a pipe) and
/// standard output are written directly.
///
/// One thread at a time, but discard() may come from any.
class OutputFile {
 public:
  /// Begins writing to `path`; "-" is standard output. A symbolic link is followed. A file that is
  /// there keeps its permission bits when it is replaced.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<OutputFile>> create(const std::string& path);

  /// What create() found out about `path`; only it makes one.
  struct Target {
    base::UniqueFd owned;  ///< not valid for standard output
    int fd = -1;
    std::string temporary;  ///< empty when written directly
    std::string path;
  };
  explicit OutputFile(Target target) : target_(std::move(target)) {}
  ~OutputFile();  ///< discard(), unless committed
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  [[nodiscard]] absl::Status write(absl::Span<const std::byte> bytes);

  /// All is written: the file takes its name.
  [[nodiscard]] absl::Status commit();

  /// Removes the temporary file. After commit() it does nothing.
  void discard() const;

  /// A write has failed because nobody reads standard output (or the pipe) any more.
  [[nodiscard]] bool broken_pipe() const { return broken_pipe_; }

 private:
  [[nodiscard]] absl::Status write_stream(absl::Span<const std::byte> bytes);
  [[nodiscard]] absl::Status write_at_end(absl::Span<const std::byte> bytes);

  Target target_;
  off_t size_ = 0;
  bool broken_pipe_ = false;
  bool committed_ = false;
};

}  // namespace blobcache::ctl
