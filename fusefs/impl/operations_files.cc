// The part of the operations that opens files and reads them.

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "fusefs/impl/hole_search.h"
#include "fusefs/impl/operations.h"
#include "fusefs/impl/reply.h"
#include "store/page/geometry.h"
#include "store/page/object.h"
#include "store/page/thread_ring.h"
#include "store/tree/files.h"
#include "store/volume/image.h"

namespace blobcache::fusefs {
namespace {

constexpr size_t kMostRuns = 1024;  // of a map at a time

std::vector<Stretch> stretches_of(const std::vector<volume::Run>& runs) {
  std::vector<Stretch> out;
  out.reserve(runs.size());
  for (const volume::Run& run : runs) {
    out.push_back({run.length_bytes, run.kind == volume::Run::Kind::kZero});
  }
  return out;
}

std::vector<Stretch> stretches_of(const std::vector<page::MapRun>& runs) {
  std::vector<Stretch> out;
  out.reserve(runs.size());
  for (const page::MapRun& run : runs) {
    out.push_back({run.length, run.place == page::Place::kZero});
  }
  return out;
}

/// `done` told of runs as it wants them.
template <typename Run>
auto as_stretches(HoleSearch::Told done) {
  return [done = std::move(done)](absl::StatusOr<std::vector<Run>> runs) mutable {
    if (runs.ok()) {
      done(stretches_of(*runs));
    } else {
      done(runs.status());
    }
  };
}

/// Where an open file's bytes are now.
tree::File::Content content_of(const OpenFile& opened) {
  if (opened.file != nullptr) return opened.file->content();
  return {opened.object, opened.image};
}

uint64_t size_of(const tree::File::Content& content) {
  return content.image != nullptr ? content.image->size_bytes() : content.object->size_bytes();
}

/// What a read that somebody ended is answered with; 0 for one that ended by itself.
int errno_of_end(PendingReads::Ended why) {
  switch (why) {
    case PendingReads::Ended::kInterrupted:
      return EINTR;
    case PendingReads::Ended::kMountEnds:
      return ECONNABORTED;
    case PendingReads::Ended::kByItself:
      break;
  }
  return 0;
}

}  // namespace

void Operations::open(fuse_req_t request, tree::NodeId node, fuse_file_info* file) {
  const bool writes = (file->flags & O_ACCMODE) != O_RDONLY || (file->flags & O_TRUNC) != 0;
  if (writes && limits_.read_only) return fail(request, EROFS);
  absl::StatusOr<OpenFile> opened = open_node(node, writes);
  if (opened.ok()) opened->is_append = is_append_handle(*opened, file->flags);
  const absl::Status status = opened.ok() ? prepare_opened(*opened, file->flags) : opened.status();
  if (!status.ok()) return fail(request, errno_of_node(status), status, "open", node);
  // An image's bytes change by ways that the kernel does not see; an origin's file may be another
  // one each time. Of all else the kernel knows each change.
  const bool is_image = opened->image != nullptr;
  file->keep_cache = !is_image && opened->node.steady ? 1 : 0;
  file->direct_io = is_image || opened->is_append ? 1 : 0;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 15)
  file->parallel_direct_writes = is_image ? 1 : 0;
#endif
  keep_open(*std::move(opened), *file);
  const uint64_t handle = file->fh;
  if (fuse_reply_open(request, file) == -ENOENT) {
    close_opened(handle);  // open(2) was interrupted: no RELEASE will come
  }
}

/// The blob of a file that the kernel may read by itself, or why it may not.
absl::StatusOr<page::LentFile> Operations::lend(const OpenFile& opened) const {
  // What is small is read once and then in the kernel's cache, and cheaper to open without.
  constexpr uint64_t kLeast = page::kExtentSize;
  const bool may_change = opened.image != nullptr || opened.is_written || !opened.node.steady;
  if (may_change || opened.node.size_bytes < kLeast) {
    return absl::FailedPreconditionError("it is small, or may change");
  }
  if (opened.file == nullptr) return opened.object->lend_file();
  constexpr mode_t kWritable = S_IWUSR | S_IWGRP | S_IWOTH;
  if (limits_.passthrough != PassthroughFiles::kSettled && (opened.node.mode & kWritable) != 0) {
    return absl::FailedPreconditionError("it may be written to");
  }
  return opened.file->lend_file();
}

/// Gives the open file its handle, and says what the kernel must know of it.
void Operations::keep_open(OpenFile opened, fuse_file_info& file) {
  file.noflush = 1;
  if (passthrough_.enabled() && opened.image == nullptr) {
    opened.is_counted = true;
    const int32_t backing =
        passthrough_.enter(opened.node.id, [this, &opened] { return lend(opened); });
#ifdef FUSE_CAP_PASSTHROUGH
    file.backing_id = backing;
#endif
    if (backing != 0) {
      file.keep_cache = 0;  // the kernel refuses both: nothing is cached for our inode
      // Direct I/O on the disk tier's file would ask for aligned reads.
      file.direct_io = (file.flags & O_DIRECT) != 0 ? 1 : 0;
    }
  }
  file.fh = open_files_.add(std::move(opened));
}

void Operations::close_opened(uint64_t handle) {
  const OpenFile& opened = open_files_.file(handle);
  const tree::NodeId node = opened.node.id;
  const bool is_counted = opened.is_counted;
  open_files_.remove(handle);
  if (is_counted) passthrough_.leave(node);
}

absl::StatusOr<OpenFile> Operations::open_node(tree::NodeId node, bool writing) {
  const auto no_writing = [] { return base::posix_error(EROFS, "cannot be written"); };
  OpenFile file;
  // Most of what is opened is beneath files/. For what is not, EINVAL.
  absl::StatusOr<tree::FileRef> beneath = names_.files().open(node);
  if (beneath.ok()) {
    file.file = *std::move(beneath);
    file.node = file.file->node();
    file.is_written = writing;
    if (writing) BLOBCACHE_RETURN_IF_ERROR(file.file->reserve_writing());
    return file;
  }
  if (errno_of(beneath.status()) != EINVAL) return beneath.status();
  BLOBCACHE_ASSIGN_OR_RETURN(file.node, names_.stat(node));
  if (file.node.type == tree::NodeType::kImage) {
    if (writing && (file.node.mode & S_IWUSR) == 0) return no_writing();
    BLOBCACHE_ASSIGN_OR_RETURN(file.image, names_.open_image(node));
  } else {
    if (writing) return no_writing();
    BLOBCACHE_ASSIGN_OR_RETURN(file.object, names_.open(node));
  }
  return file;
}

/// O_TRUNC is the file's own to do. To an image, whose size is fixed, it does nothing, as to a
/// block device.
absl::Status Operations::prepare_opened(const OpenFile& opened, int flags) {
  if ((flags & O_TRUNC) == 0 || opened.file == nullptr) return absl::OkStatus();
  return set_length_now(*opened.file, 0);
}

void Operations::release(fuse_req_t request, tree::NodeId /*node*/, fuse_file_info* file) {
  close_opened(file->fh);
  fuse_reply_err(request, 0);
}

void Operations::read(fuse_req_t request, tree::NodeId /*node*/, size_t length, off_t offset,
                      fuse_file_info* file) {
  read_opened(request, open_files_.file(file->fh), static_cast<uint64_t>(offset), length);
}

void Operations::read_opened(fuse_req_t request, const OpenFile& opened, uint64_t offset,
                             uint64_t length) {
  const tree::File::Content content = content_of(opened);
  const uint64_t size = size_of(content);
  if (offset >= size || length == 0) {
    fuse_reply_buf(request, nullptr, 0);
    return;
  }
  const uint64_t wanted = std::min(length, size - offset);
  if (wanted >
      page::Object::kMaxRead) {  // the kernel agreed to less, and a short answer means the end
    return fail(request, EIO, absl::InternalError("longer than was agreed"), "read",
                opened.node.id);
  }
  if (content.image != nullptr) {
    return read_image(request, opened, *content.image, offset, wanted);
  }
  page::PinnedRange range;
  if (content.object->try_read(offset, wanted, range)) return reply_range(request, range);
  read_object(request, content.object, offset, wanted);
}

/// `image` stays for as long as this runs, and by itself until the read has ended. `opened` stays
/// until the request is answered.
void Operations::read_image(fuse_req_t request, const OpenFile& opened, volume::Image& image,
                            uint64_t offset, uint64_t length) {
  page::PinnedRange range;
  if (image.try_pin(offset, length, range)) return reply_range(request, range);
  auto buffer = std::make_unique_for_overwrite<std::byte[]>(length);
  const absl::Span<std::byte> into(buffer.get(), length);
  // Counted, so that the end of the mount waits for it; an image's read cannot be interrupted.
  const uint64_t id = pending_.begin();
  image.read(
      offset, into,
      [this, request, id, &opened, offset, into,
       buffer = std::move(buffer)](const absl::Status& status) {
        if (absl::IsOutOfRange(status) && size_of(content_of(opened)) < offset + into.size()) {
          read_opened(request, opened, offset, into.size());  // it was cut short meanwhile
        } else if (!status.ok()) {
          fail(request, errno_of(status), status, "read", opened.node.id);
        } else if (fuse_reply_buf(request, reinterpret_cast<const char*>(into.data()),
                                  into.size()) == 0) {
          bytes_out_.fetch_add(into.size(), std::memory_order_relaxed);
        }
        pending_.end(id);
      });
}

void Operations::interrupted(fuse_req_t request, void* id) {
  static_cast<Operations*>(fuse_req_userdata(request))
      ->pending_.interrupt(reinterpret_cast<uint64_t>(id));
}

void Operations::read_object(fuse_req_t request, const page::ObjectRef& object, uint64_t offset,
                             uint64_t length) {
  const uint64_t id = pending_.begin();
  fuse_req_interrupt_func(request, &interrupted, reinterpret_cast<void*>(id));
  if (const int error = errno_of_end(pending_.why(id)); error != 0) {
    pending_.end(id);
    return fail(request, error);
  }
  // This worker reads the disk itself, and answers, if enough others are left for who asks next:
  // the store's thread need not be woken then, nor copy the answer while others wait for it.
  if (disk_waiters_.fetch_add(1, std::memory_order_relaxed) < limits_.disk_waiters) {
    static thread_local page::ThreadRing ring;
    {
      const page::ThreadRing::Scope here(ring);
      start_read(request, id, object, offset, length);
    }
    ring.finish();
  } else {
    start_read(request, id, object, offset, length);
  }
  disk_waiters_.fetch_sub(1, std::memory_order_relaxed);
}

void Operations::start_read(fuse_req_t request, uint64_t id, const page::ObjectRef& object,
                            uint64_t offset, uint64_t length) {
  // The object is held, as a file's content may become another one while this waits.
  pending_.started(
      id, object->read(offset, length,
                       [this, request, id, held = page::ObjectRef(object)](
                           absl::StatusOr<page::PinnedRange> range) mutable {
                         finish_read(request, id, *held, range);
                         range = absl::CancelledError();  // unpins before the read counts as ended
                         held.reset();                    // and must not outlive the store
                         pending_.end(id);
                       }));
}

void Operations::finish_read(fuse_req_t request, uint64_t id, const page::Object& object,
                             const absl::StatusOr<page::PinnedRange>& range) {
  if (range.ok()) return reply_range(request, *range);
  if (const int error = errno_of_end(pending_.why(id)); error != 0) return fail(request, error);
  const int error = errno_of(range.status());
  if (is_our_trouble(error)) {
    if (const auto left_out = log_limit_.admit(LogLimit::Clock::now())) {
      spdlog::error("fuse: cannot read object {}: {} ({} more errors not shown)",
                    object.key().hex(), base::message(range.status()), *left_out);
    }
  }
  fail(request, error);
}

void Operations::reply_range(fuse_req_t request, const page::PinnedRange& range) {
  const absl::Span<const iovec> pieces = range.pieces();
  if (fuse_reply_iov(request, pieces.data(), static_cast<int>(pieces.size())) == 0) {
    bytes_out_.fetch_add(range.size_bytes(), std::memory_order_relaxed);
  }
}

void Operations::lseek(fuse_req_t request, tree::NodeId node, off_t offset, int whence,
                       fuse_file_info* file) {
  if (limits_.writeback_cache) {
    // What the kernel holds back would be a hole. It does this by itself from now on: all is data.
    fuse_reply_err(request, ENOSYS);
    return;
  }
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return fail(request, EINVAL);
  const OpenFile& opened = open_files_.file(file->fh);
  const auto begin = static_cast<uint64_t>(offset);
  const uint64_t size = size_of(content_of(opened));
  if (begin >= size) return fail(request, ENXIO);
  const uint64_t id = pending_.begin();
  // `opened` stays until the request is answered. Nothing else is held by then, since who lets go
  // of an image last may have to wait.
  const auto ask = [&opened](uint64_t at, uint64_t length, HoleSearch::Told told) {
    const tree::File::Content content = content_of(opened);
    if (content.image != nullptr) {
      content.image->map(at, length, kMostRuns, as_stretches<volume::Run>(std::move(told)));
    } else {
      content.object->map(at, length, kMostRuns, as_stretches<page::MapRun>(std::move(told)));
    }
  };
  HoleSearch::start(
      whence == SEEK_DATA ? Stretch::Kind::kData : Stretch::Kind::kHole, {begin, size}, ask,
      [this, request, node, id](const absl::StatusOr<uint64_t>& found) {
        if (found.ok()) {
          fuse_reply_lseek(request, static_cast<off_t>(*found));
        } else if (absl::IsNotFound(found.status()) || absl::IsOutOfRange(found.status())) {
          fail(request, ENXIO);  // nothing there, or the file was cut short meanwhile
        } else {
          fail(request, errno_of(found.status()), found.status(), "look for holes in", node);
        }
        pending_.end(id);
      });
}

}  // namespace blobcache::fusefs
