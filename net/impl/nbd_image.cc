#include "net/impl/nbd_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "net/impl/hole_list.h"
#include "store/page/object.h"
#include "store/page/pinned_range.h"

namespace blobcache::net {

namespace {

void copy(const page::PinnedRange& range, std::byte* into) {
  for (const iovec& piece : range.pieces()) {
    std::memcpy(into, piece.iov_base, piece.iov_len);
    into += piece.iov_len;
  }
}

uint64_t identity_of(const page::ObjectKey& key) {
  uint64_t identity = 0;
  std::memcpy(&identity, key.bytes.data(), sizeof identity);
  return identity;
}

}  // namespace

/// A read that comes in pieces: `done` is called when the last of them is there, and the one that
/// began them has let go.
class NbdImage::Gather {
 public:
  Gather(std::shared_ptr<NbdImage> image, volume::Done done)
      : image_(std::move(image)), done_(std::move(done)) {}
  void expect() {
    const absl::MutexLock lock(&mutex_);
    ++pending_;
  }
  void arrived(const absl::Status& status) {
    {
      const absl::MutexLock lock(&mutex_);
      if (status_.ok()) status_ = status;
      if (--pending_ > 0) return;
    }
    // Nobody else is left. What it held goes first: who is told may end the page store.
    image_.reset();
    done_(status_);
  }

 private:
  std::shared_ptr<NbdImage> image_;  // so that what it reads from lives
  volume::Done done_;
  absl::Mutex mutex_;
  size_t pending_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::Status status_;
};

NbdImage::NbdImage(std::shared_ptr<NbdSession> session, page::ObjectRef cached)
    : session_(std::move(session)),
      cached_(std::move(cached)),
      identity_(identity_of(session_->key())) {}

std::string NbdImage::about() const { return "an export of an NBD server, written through"; }

absl::Status NbdImage::check(uint64_t offset, uint64_t length) const {
  BLOBCACHE_RETURN_IF_ERROR(session_->broken());
  if (offset > size_bytes() || length > size_bytes() - offset) {
    return absl::OutOfRangeError(fmt::format("{} bytes at {} are not inside the {} of the export",
                                             length, offset, size_bytes()));
  }
  return absl::OkStatus();
}

bool NbdImage::try_read(uint64_t offset, absl::Span<std::byte> into) {
  if (!check(offset, into.size()).ok()) return false;
  if (into.empty()) return true;
  // No larger than one view: what is longer is no hit path.
  if (into.size() > page::Object::kMaxRead) return false;
  if (!session_->written().none(offset, into.size())) return false;
  page::PinnedRange range;
  if (!cached_->try_read(offset, into.size(), range)) return false;
  copy(range, into.data());
  return true;
}

void NbdImage::read(uint64_t offset, absl::Span<std::byte> into, volume::Done done) {
  if (const absl::Status status = check(offset, into.size()); !status.ok()) {
    done(status);
    return;
  }
  const auto gather = std::make_shared<Gather>(shared_from_this(), std::move(done));
  while (!into.empty()) {
    bool written = false;
    uint64_t length = session_->written().run(offset, into.size(), written);
    gather->expect();
    if (written) {
      session_->read(offset, into.subspan(0, length),
                     [gather](const absl::Status& status) { gather->arrived(status); });
    } else {
      length = std::min(length, page::Object::kMaxRead);
      std::byte* const to = into.data();
      cached_->read(offset, length, [gather, to](absl::StatusOr<page::PinnedRange> range) {
        if (range.ok()) copy(*range, to);
        gather->arrived(range.status());
      });
    }
    into.remove_prefix(length);
    offset += length;
  }
  gather->arrived(absl::OkStatus());
}

void NbdImage::write(uint64_t offset, absl::Span<const std::byte> bytes, bool fua,
                     volume::Done done) {
  if (const absl::Status status = check(offset, bytes.size()); !status.ok()) {
    done(status);
    return;
  }
  session_->write(offset, bytes, fua, std::move(done));
}

void NbdImage::write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags flags,
                            volume::Done done) {
  if (const absl::Status status = check(offset, length); !status.ok()) {
    done(status);
    return;
  }
  session_->zero(offset, length, flags, std::move(done));
}

void NbdImage::trim(uint64_t offset, uint64_t length, bool fua, volume::Done done) {
  if (const absl::Status status = check(offset, length); !status.ok()) {
    done(status);
    return;
  }
  session_->trim(offset, length, fua, std::move(done));
}

void NbdImage::flush(volume::Done done) {
  if (const absl::Status status = session_->broken(); !status.ok()) {
    done(status);
    return;
  }
  session_->flush(std::move(done));
}

void NbdImage::map(uint64_t offset, uint64_t length, size_t max_runs, volume::MapDone done) {
  if (const absl::Status status = check(offset, length); !status.ok()) {
    done(status);
    return;
  }
  if (length == 0) {
    done(std::vector<volume::Run>());
    return;
  }
  session_->map(offset, length, max_runs,
                [done = std::move(done)](absl::StatusOr<std::vector<HoleList::Run>> runs) mutable {
                  if (!runs.ok()) {
                    done(runs.status());
                    return;
                  }
                  std::vector<volume::Run> out;
                  out.reserve(runs->size());
                  for (const HoleList::Run& run : *runs) {
                    out.push_back({run.length,
                                   run.zero ? volume::Run::Kind::kZero : volume::Run::Kind::kData});
                  }
                  done(std::move(out));
                });
}

}  // namespace blobcache::net
