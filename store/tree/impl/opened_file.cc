#include "store/tree/impl/opened_file.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "store/tree/impl/fitting_write.h"
#include "store/tree/impl/inode_table.h"

namespace blobcache::tree {

OpenedFile::~OpenedFile() {
  if (reserved_.load()) table_.release_writing(*inode_);
  table_.leave(inode_, writes_.load());
}

Node OpenedFile::node() const {
  const absl::StatusOr<Node> found = table_.parts().names.stat(inode_->id());
  if (found.ok()) {
    inode_->remember(*found);
    return *found;
  }
  // All names are gone, or the catalog cannot be read: what is known still.
  Node node = inode_->remembered();
  node.id = inode_->id();
  if (absl::IsNotFound(found.status())) node.links = 0;
  const Content now = inode_->content();
  node.size_bytes = now.object != nullptr ? now.object->size_bytes() : now.image->size_bytes();
  if (now.image != nullptr) node.modified = inode_->modified();
  const std::shared_ptr<volume::Volume> volume = inode_->volume();
  if (volume != nullptr) node.allocated_bytes = allocated_bytes(*volume);
  return node;
}

absl::Status OpenedFile::begin_writing() {
  if (writes_.load()) return absl::OkStatus();
  const absl::MutexLock lock(&begin_mutex_);
  if (writes_.load()) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(table_.begin_writing(inode_));
  writes_.store(true);
  return absl::OkStatus();
}

absl::StatusOr<page::LentFile> OpenedFile::lend_file() { return table_.lend(inode_); }

std::shared_ptr<const void> OpenedFile::keep_lent() { return table_.keep_writers_away(inode_); }

absl::Status OpenedFile::reserve_writing() {
  const absl::MutexLock lock(&begin_mutex_);
  if (reserved_.load()) return absl::OkStatus();
  BLOBCACHE_RETURN_IF_ERROR(table_.reserve_writing(*inode_));
  reserved_.store(true);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<volume::Volume>> OpenedFile::volume_for(uint64_t end) {
  if (!writes_.load()) return absl::FailedPreconditionError("the file is not open for writing");
  if (end > Files::kMaxLength) return base::posix_error(EFBIG, "a file has at most 8 TiB");
  inode_->set_modified(table_.parts().clock());
  return inode_->volume();
}

/// `done`, after everybody has been told.
volume::Done OpenedFile::told(uint64_t offset, uint64_t length, volume::Done done) {
  // The table outlives its files, which who waits for `done` holds.
  return [&listeners = table_.parts().listeners, node = inode_->id(), offset, length,
          done = std::move(done)](absl::Status status) mutable {
    listeners.notify_content(node, offset, length);
    done(std::move(status));
  };
}

void OpenedFile::write(uint64_t offset, absl::Span<const std::byte> bytes, volume::Done done) {
  const bool too_far = offset > Files::kMaxLength;
  const auto opened = volume_for(too_far ? offset : offset + bytes.size());
  if (!opened.ok()) return done(opened.status());
  // Who waits for `done` has the file open, and that the volume.
  volume::Volume& volume = **opened;
  const FileWrite write{offset, bytes, volume.size_bytes()};
  done = told(offset, bytes.size(), std::move(done));
  volume.write(offset, bytes, /*fua=*/false,
               [&parts = table_.parts(), &volume, write,
                done = std::move(done)](absl::Status status) mutable {
                 if (!absl::IsResourceExhausted(status)) return done(std::move(status));
                 parts.workers.run([&parts, &volume, write, done = std::move(done)]() mutable {
                   // What was removed a moment ago may not have given its room back yet.
                   parts.volumes.remove_now();
                   write_what_fits(volume, write, std::move(done));
                 });
               });
}

/// Who waits for `done` has the file open; once it is called this may be gone, and so is nothing
/// that the turns need.
void OpenedFile::in_turn(volume::Done done, absl::AnyInvocable<void(volume::Done) &&> step) {
  const std::shared_ptr<TurnQueue>& turns = inode_->end_turns();
  turns->run([turns, done = std::move(done), step = std::move(step)]() mutable {
    std::move(step)([turns, done = std::move(done)](absl::Status status) mutable {
      turns->next();
      done(std::move(status));
    });
  });
}

void OpenedFile::append(absl::Span<const std::byte> bytes, Placed placed, volume::Done done) {
  in_turn(std::move(done), [this, bytes, placed = std::move(placed)](volume::Done over) mutable {
    const auto volume = volume_for(0);
    if (!volume.ok()) return over(volume.status());
    const uint64_t end = (*volume)->size_bytes();
    std::move(placed)(end);
    write(end, bytes, std::move(over));
  });
}

void OpenedFile::write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags flags,
                              volume::Done done) {
  if (flags.keep_size) return zero_in_turn(offset, length, flags, std::move(done));
  in_turn(std::move(done), [this, offset, length, flags](volume::Done over) {
    zero_in_turn(offset, length, flags, std::move(over));
  });
}

void OpenedFile::zero_in_turn(uint64_t offset, uint64_t length, volume::ZeroFlags flags,
                              volume::Done done) {
  const bool too_far = offset > Files::kMaxLength || length > Files::kMaxLength;
  const auto volume = volume_for(too_far ? ~uint64_t{0} : offset + length);
  if (!volume.ok()) return done(volume.status());
  // To take room takes as long as to write it, and nobody can end it.
  constexpr uint64_t kMostTaken = uint64_t{256} << 20;
  if (flags.no_hole && length > kMostTaken) {
    const absl::StatusOr<Namespace::Space> space = table_.parts().names.space();
    if (space.ok() && length > space->free_bytes) {
      return done(absl::ResourceExhaustedError("there is no room for it"));
    }
    flags.no_hole = false;
  }
  (*volume)->write_zeroes(offset, length, flags, told(offset, length, std::move(done)));
}

void OpenedFile::set_length(uint64_t length, volume::Done done) {
  in_turn(std::move(done), [this, length](volume::Done over) {
    const auto volume = volume_for(length);
    if (!volume.ok()) return over(volume.status());
    const uint64_t from = std::min(length, (*volume)->size_bytes());
    (*volume)->set_length(length, told(from, Files::kMaxLength - from, std::move(over)));
  });
}

void OpenedFile::sync(volume::Done done) {
  const InodeTable::Parts& parts = table_.parts();
  // Of a file that is not written to the name may be new all the same.
  const auto sync_names = [&parts](volume::Done then) {
    parts.workers.run([&parts, then = std::move(then)]() mutable { then(parts.editor.sync()); });
  };
  const std::shared_ptr<volume::Volume> volume = inode_->volume();
  if (volume == nullptr) return sync_names(std::move(done));
  volume->flush([sync_names, done = std::move(done)](absl::Status flushed) mutable {
    if (!flushed.ok()) return done(std::move(flushed));
    sync_names(std::move(done));
  });
}

}  // namespace blobcache::tree
