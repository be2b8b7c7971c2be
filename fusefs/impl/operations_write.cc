// The part of the operations that changes the bytes of files and images.

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/types/span.h"
#include "base/status.h"
#include "fusefs/impl/operations.h"
#include "fusefs/impl/reply.h"
#include "fusefs/impl/write_rules.h"
#include "store/tree/files.h"
#include "store/volume/image.h"

namespace blobcache::fusefs {
namespace {

/// What copies of writes under way may take together.
constexpr uint64_t kMostCopied = uint64_t{64} << 20;

}  // namespace

/// Counted, so that the end of the mount waits for it. What it is done for may be let go of by the
/// kernel once `reply` has answered.
volume::Done Operations::when_done(fuse_req_t request, tree::NodeId node, std::string_view what,
                                   absl::AnyInvocable<void()> reply) {
  const uint64_t id = pending_.begin();
  return [this, request, node, what, id, reply = std::move(reply)](absl::Status status) mutable {
    if (status.ok()) {
      reply();
    } else {
      fail(request, errno_of(status), status, what, node);
    }
    reply = nullptr;
    pending_.end(id);
  };
}

void Operations::write(fuse_req_t request, tree::NodeId node, const char* bytes, size_t length,
                       off_t offset, fuse_file_info* file) {
  const OpenFile& opened = open_files_.file(file->fh);
  const absl::Span<const std::byte> all(reinterpret_cast<const std::byte*>(bytes), length);
  const auto begin = static_cast<uint64_t>(offset);
  // The kernel sends no FSYNC after a write to what is open for direct I/O.
  const bool now = (file->flags & O_DSYNC) != 0;
  WriteRequest asked{request, node, file->writepage != 0};
  if (opened.file != nullptr) {
    if (opened.is_append) asked.uncached = std::make_shared<ByteRange>(ByteRange{begin, length});
    asked.synced = opened.is_append && now;
    return write_file(asked, opened, {begin, all}, file->flags);
  }
  if (opened.image == nullptr) return fail(request, EBADF);
  const ByteRange fits = write_in_image({begin, length}, opened.image->size_bytes());
  if (fits.length == 0 && length != 0) return fail(request, ENOSPC);
  const std::shared_ptr<volume::Image> image = opened.image;
  write_bytes(asked, all.first(fits.length),
              [&](absl::Span<const std::byte> kept, volume::Done done) {
                image->write(fits.offset, kept, now, std::move(done));
              });
}

void Operations::write_file(const WriteRequest& request, const OpenFile& opened,
                            const PlacedBytes& asked, int flags) {
  const tree::FileRef file = opened.file;  // the kernel may give it back once this is answered
  const absl::Status status = file->begin_writing();
  if (!status.ok()) return fail(request.request, errno_of(status), status, "write", request.node);
  if (is_append(flags, request.whole)) return append_file(request, file, asked);
  const OwnChanges::Change change{request.node, asked.offset, asked.bytes.size()};
  invalidator_.own().begin(change);
  write_bytes(request, asked.bytes, [&](absl::Span<const std::byte> kept, volume::Done done) {
    done = synced_if_asked(request, *file, std::move(done));
    file->write(change.offset, kept,
                [this, change, done = std::move(done)](absl::Status result) mutable {
                  invalidator_.own().end(change);
                  done(std::move(result));
                });
  });
}

/// `done` after a sync. The kernel's handle holds the file until the write is answered.
volume::Done Operations::synced_if_asked(const WriteRequest& request, tree::File& file,
                                         volume::Done done) {
  if (!request.synced) return done;
  return [&file, done = std::move(done)](absl::Status status) mutable {
    if (!status.ok()) return done(std::move(status));
    file.sync(std::move(done));
  };
}

/// The kernel asks for the end that it last heard of. Where another mount or door has moved that
/// since, the bytes go to the real one, while the kernel's cache may have them where it asked for:
/// it is made to forget these, and told of the others as of anybody's.
void Operations::append_file(const WriteRequest& request, const tree::FileRef& file,
                             const PlacedBytes& asked) {
  struct Place {
    OwnChanges::Change change;
    bool is_own = false;  // the kernel is not told of it as of another's
  };
  const auto place = std::make_shared<Place>();
  place->change = {request.node, asked.offset, asked.bytes.size()};
  write_bytes(request, asked.bytes, [&](absl::Span<const std::byte> kept, volume::Done done) {
    done = synced_if_asked(request, *file, std::move(done));
    file->append(
        kept,
        [this, place, uncached = request.uncached](uint64_t at) {
          place->is_own = uncached != nullptr || at == place->change.offset;
          if (!place->is_own) return;
          place->change.offset = at;
          if (uncached != nullptr) uncached->offset = at;
          invalidator_.own().begin(place->change);
        },
        [this, place, done = std::move(done)](absl::Status result) mutable {
          const OwnChanges::Change& change = place->change;
          if (place->is_own) {
            invalidator_.own().end(change);
          } else {
            invalidator_.on_content_changed(change.node, change.offset, change.length);
          }
          done(std::move(result));
        });
  });
}

/// The bytes are libfuse's until its call returns, which should not wait. So they are copied,
/// unless too much is copied already: then this worker waits, and takes no more meanwhile.
void Operations::write_bytes(const WriteRequest& request, absl::Span<const std::byte> bytes,
                             StartWrite start) {
  const uint64_t length = bytes.size();
  const uint64_t id = pending_.begin();
  if (copied_bytes_.fetch_add(length, std::memory_order_relaxed) + length > kMostCopied) {
    copied_bytes_.fetch_sub(length, std::memory_order_relaxed);
    absl::Status result;
    absl::Notification written;
    start(bytes, [&result, &written](absl::Status status) {
      result = std::move(status);
      written.Notify();
    });
    written.WaitForNotification();
    finish_write(request, id, length, result);
    return;
  }
  auto copy = std::make_unique_for_overwrite<std::byte[]>(length);
  std::memcpy(copy.get(), bytes.data(), length);
  const absl::Span<const std::byte> kept(copy.get(), length);
  start(kept, [this, request, length, id, copy = std::move(copy)](absl::Status status) mutable {
    copy.reset();
    copied_bytes_.fetch_sub(length, std::memory_order_relaxed);
    finish_write(request, id, length, status);
  });
}

/// Ends what pending_ knows by `id`. Waits for nothing.
void Operations::finish_write(const WriteRequest& request, uint64_t id, uint64_t length,
                              const absl::Status& status) {
  if (request.uncached == nullptr) {
    reply_write(request, length, status);
    return pending_.end(id);
  }
  const ByteRange range = *request.uncached;
  invalidator_.forget_first({request.node, range.offset, range.length},
                            [this, request, id, length, status] {
                              reply_write(request, length, status);
                              pending_.end(id);
                            });
}

void Operations::reply_write(const WriteRequest& request, uint64_t length,
                             const absl::Status& status) {
  const uint64_t written = status.ok() ? length : base::bytes_done_of(status);
  if (!status.ok() && (written == 0 || request.whole)) {
    return fail(request.request, errno_of(status), status, "write", request.node);
  }
  bytes_in_.fetch_add(written, std::memory_order_relaxed);
  fuse_reply_write(request.request, written);
}

void Operations::fsync(fuse_req_t request, tree::NodeId node, int /*data_only*/,
                       fuse_file_info* file) {
  const OpenFile& opened = open_files_.file(file->fh);
  const tree::FileRef of_file = opened.file;
  const std::shared_ptr<volume::Image> image = opened.image;
  if (of_file == nullptr && image == nullptr) {
    fuse_reply_err(request, 0);
    return;
  }
  volume::Done done = when_done(request, node, "sync", [request] { fuse_reply_err(request, 0); });
  if (of_file != nullptr) {
    of_file->sync(std::move(done));
  } else {
    image->flush(std::move(done));
  }
}

void Operations::fallocate(fuse_req_t request, tree::NodeId /*node*/, int mode, off_t offset,
                           off_t length, fuse_file_info* file) {
  const OpenFile& opened = open_files_.file(file->fh);
  const ByteRange range{static_cast<uint64_t>(offset), static_cast<uint64_t>(length)};
  if (opened.file != nullptr) return fallocate_file(request, opened, mode, range);
  if (opened.image != nullptr) return fallocate_image(request, opened, mode, range);
  fail(request, EBADF);
}

void Operations::fallocate_image(fuse_req_t request, const OpenFile& opened, int mode,
                                 ByteRange range) {
  const std::shared_ptr<volume::Image> image = opened.image;
  const Allocation wanted = allocation_in_image(mode, range, image->size_bytes());
  if (wanted.error != 0) return fail(request, wanted.error);
  volume::Done done = when_done(request, opened.node.id, "zero a part of",
                                [request] { fuse_reply_err(request, 0); });
  if (wanted.zeros.length == 0) return done(absl::OkStatus());
  image->write_zeroes(wanted.zeros.offset, wanted.zeros.length,
                      {.fua = false, .no_hole = wanted.keeps_space}, std::move(done));
}

void Operations::fallocate_file(fuse_req_t request, const OpenFile& opened, int mode,
                                ByteRange range) {
  const tree::FileRef file = opened.file;
  const tree::NodeId node = opened.node.id;
  const absl::Status status = file->begin_writing();
  if (!status.ok()) return fail(request, errno_of(status), status, "write", node);
  const Allocation wanted = allocation_in_file(mode, range, file->node().size_bytes);
  if (wanted.error != 0) return fail(request, wanted.error);
  const OwnChanges::Change change{node, wanted.zeros.offset, wanted.zeros.length};
  volume::Done done =
      when_done(request, node, "zero a part of", [request] { fuse_reply_err(request, 0); });
  if (wanted.zeros.length == 0) return done(absl::OkStatus());
  invalidator_.own().begin(change);
  file->write_zeroes(
      change.offset, change.length,
      {.fua = false, .no_hole = wanted.keeps_space, .keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0},
      [this, change, done = std::move(done)](absl::Status result) mutable {
        invalidator_.own().end(change);
        done(std::move(result));
      });
}

absl::Status Operations::set_length_now(tree::File& file, uint64_t length) {
  BLOBCACHE_RETURN_IF_ERROR(file.begin_writing());
  absl::Status result;
  absl::Notification set;
  const OwnChanges::Marker own(invalidator_.own());
  file.set_length(length, [&result, &set](absl::Status status) {
    result = std::move(status);
    set.Notify();
  });
  set.WaitForNotification();
  return result;
}

void Operations::set_length(fuse_req_t request, tree::NodeId node, uint64_t length,
                            const fuse_file_info* info) {
  tree::FileRef file = info == nullptr ? nullptr : open_files_.file(info->fh).file;
  const bool is_open = file != nullptr;
  if (!is_open) {
    absl::StatusOr<tree::FileRef> opened = names_.files().open(node);
    // What is no file beneath files/ cannot be written.
    if (errno_of(opened.status()) == EINVAL) return fail(request, EROFS);
    if (!opened.ok()) {
      return fail(request, errno_of_node(opened.status()), opened.status(), "open", node);
    }
    file = *std::move(opened);
    // Waits here: nothing but this call holds the file, and who lets go of it may have to wait,
    // which a thread of the store must not.
    const absl::Status status = set_length_now(*file, length);
    if (!status.ok()) return fail(request, errno_of(status), status, "set the length of", node);
    return reply_attributes(request, file->node());
  }
  const absl::Status status = file->begin_writing();
  if (!status.ok()) return fail(request, errno_of(status), status, "write", node);
  const OwnChanges::Marker own(invalidator_.own());
  tree::File& held = *file;  // by the kernel's handle, until this is answered
  held.set_length(length, when_done(request, node, "set the length of", [this, request, &held] {
                    reply_attributes(request, held.node());
                  }));
}

}  // namespace blobcache::fusefs
