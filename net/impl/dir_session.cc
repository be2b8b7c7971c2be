#include "net/impl/dir_session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "base/unique_fd.h"
#include "store/tree/path.h"

namespace blobcache::net {
namespace {

class DirFetch final : public page::Source::Fetch {
 public:
  DirFetch(std::shared_ptr<DirReads> reads, std::weak_ptr<DirRead> read)
      : reads_(std::move(reads)), read_(std::move(read)) {}
  void cancel() override {
    const std::shared_ptr<DirRead> read = read_.lock();
    if (read != nullptr) reads_->give_up(read, absl::CancelledError("the read was cancelled"));
  }

 private:
  const std::shared_ptr<DirReads> reads_;
  const std::weak_ptr<DirRead> read_;
};

class CloseFile final : public DirThreads::Job {
 public:
  explicit CloseFile(base::UniqueFd fd) : fd_(std::move(fd)) {}
  void work() override { fd_.reset(); }

 private:
  base::UniqueFd fd_;
};

}  // namespace

bool DirStream::note(uint64_t offset, uint64_t bytes) {
  const bool was_stream = is_stream();
  const bool is_near = offset + kNear >= end_ && offset <= end_ + kNear;
  in_turn_ = is_near ? std::min(in_turn_ + 1, kInTurn) : 0;
  end_ = is_near ? std::max(end_, offset + bytes) : offset + bytes;
  return is_stream() != was_stream;
}

DirSession::DirSession(std::string path, DirOpened file, const page::ObjectKey& key,
                       const DirSystem& system, std::shared_ptr<DirReads> reads,
                       std::shared_ptr<OriginVitals> vitals)
    : path_(std::move(path)),
      file_(std::move(file)),
      key_(key),
      system_(system),
      reads_(std::move(reads)),
      vitals_(std::move(vitals)) {
  ++vitals_->open_files;
}

DirSession::~DirSession() {
  --vitals_->open_files;
  // When the threads have ended it is closed here.
  static_cast<void>(reads_->run(std::make_shared<CloseFile>(std::move(file_.fd))));
}

std::unique_ptr<page::Source::Fetch> DirSession::fetch(uint64_t offset, absl::Span<std::byte> into,
                                                       FetchDone done) {
  const auto read = std::make_shared<DirRead>(shared_from_this(), offset, into, std::move(done));
  reads_->start(read);
  return std::make_unique<DirFetch>(reads_, read);
}

absl::Status DirSession::changed() {
  changed_ = true;
  return absl::UnavailableError(
      fmt::format("{}: changed at the origin while it was open", tree::printable(path_)));
}

absl::Status DirSession::fill(absl::Span<std::byte> piece, uint64_t offset) {
  while (!piece.empty()) {
    const ssize_t got =
        system_.read(file_.fd.get(), piece.data(), piece.size(), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      const absl::Status why =
          base::error(absl::StatusCode::kUnavailable,
                      base::message(base::errno_error(
                          errno, fmt::format("reading {}", tree::printable(path_)))));
      vitals_->failed(why);
      return why;
    }
    if (got == 0) return changed();  // it has become shorter
    piece.remove_prefix(static_cast<size_t>(got));
    offset += static_cast<uint64_t>(got);
  }
  return absl::OkStatus();
}

absl::Status DirSession::read(uint64_t offset, uint64_t bytes, Take take) {
  if (changed_) return changed();
  const uint64_t most = std::min(bytes, kMostPiece);
  const auto memory = std::make_unique_for_overwrite<std::byte[]>(most);
  for (uint64_t done = 0; done < bytes;) {
    const absl::Span<std::byte> piece(memory.get(), std::min(most, bytes - done));
    BLOBCACHE_RETURN_IF_ERROR(fill(piece, offset + done));
    if (!take(piece)) return absl::CancelledError("nobody waits for it");
    done += piece.size();
  }
  // Whoever writes changes the times first and the bytes then, so these are bytes of the version.
  const absl::StatusOr<DirStamp> stamp = DirFiles::stamp_of(file_.fd.get());
  if (!stamp.ok()) {
    vitals_->failed(stamp.status());
    return stamp.status();
  }
  if (*stamp != file_.stamp) return changed();
  vitals_->bytes_read += bytes;
  advise(offset, bytes);
  return absl::OkStatus();
}

void DirSession::advise(uint64_t offset, uint64_t bytes) {
  const int fd = file_.fd.get();
  // The kernel may have several pages as one, up to 2 MiB, and lets go of whole ones only: the last
  // read of such a stretch is the one that takes it away.
  constexpr uint64_t kStretch = uint64_t{2} << 20;
  const uint64_t begin = offset - offset % kStretch;
  (void)::posix_fadvise(fd, static_cast<off_t>(begin), static_cast<off_t>(offset + bytes - begin),
                        POSIX_FADV_DONTNEED);
  bool is_stream = false;
  {
    const absl::MutexLock lock(&mutex_);
    if (!stream_.note(offset, bytes)) return;
    is_stream = stream_.is_stream();
  }
  (void)::posix_fadvise(fd, 0, 0, is_stream ? POSIX_FADV_SEQUENTIAL : POSIX_FADV_NORMAL);
}

}  // namespace blobcache::net
