#include "fusefs/impl/operations.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/status.h"
#include "fusefs/impl/kept_arguments.h"
#include "store/page/geometry.h"

namespace blobcache::fusefs {

Operations::Operations(tree::Namespace& names, tree::NodeId blobs, const Timeouts& timeouts,
                       const Limits& limits)
    : names_(names), blobs_(blobs), timeouts_(timeouts), limits_(limits) {}

void Operations::shut_down() {
  pending_.cancel_all_and_wait();
  open_files_.clear();
}

base::DoorStats Operations::stats() const {
  base::DoorStats out;
  out.requests = requests_.load(std::memory_order_relaxed);
  out.bytes_out = bytes_out_.load(std::memory_order_relaxed);
  out.errors = errors_.load(std::memory_order_relaxed);
  out.open = open_files_.size();
  return out;
}

// The table: from C to the members above, and one answer for all that would change something.

struct Operations::Table {
  static Operations& self(fuse_req_t request) {
    return *static_cast<Operations*>(fuse_req_userdata(request));
  }

  template <auto method>
  struct Call;
  template <typename... Arguments, void (Operations::*method)(fuse_req_t, Arguments...)>
  struct Call<method> {
    static void call(fuse_req_t request, Arguments... arguments) noexcept {
      Operations& operations = self(request);
      operations.requests_.fetch_add(1, std::memory_order_relaxed);
      (operations.*method)(request, arguments...);
    }
  };

  /// An operation on a node that asks the tree about it, which may have to wait for an origin.
  template <auto method>
  struct Ask;
  template <typename... Arguments, void (Operations::*method)(fuse_req_t, fuse_ino_t, Arguments...)>
  struct Ask<method> {
    static void call(fuse_req_t request, fuse_ino_t node, Arguments... arguments) noexcept {
      Operations& operations = self(request);
      operations.requests_.fetch_add(1, std::memory_order_relaxed);
      if (!operations.names_.waits(node)) {
        (operations.*method)(request, node, arguments...);
        return;
      }
      operations.run_waiting(
          request, node,
          [&operations, request, node, kept = KeptArguments<Arguments...>(arguments...)]() mutable {
            kept.apply([&](Arguments... again) { (operations.*method)(request, node, again...); });
          });
    }
  };

  static void init(void* operations, fuse_conn_info* connection) noexcept {
    static_cast<Operations*>(operations)->init(connection);
  }

  template <typename... Arguments>
  static void read_only(fuse_req_t request, Arguments... /*unused*/) noexcept {
    Operations& operations = self(request);
    operations.requests_.fetch_add(1, std::memory_order_relaxed);
    operations.fail(request, EROFS);
  }

  static void interrupted(fuse_req_t request, void* id) noexcept {
    self(request).pending_.interrupt(reinterpret_cast<uint64_t>(id));
  }

  static fuse_lowlevel_ops make();
};

fuse_lowlevel_ops Operations::Table::make() {
  fuse_lowlevel_ops out = {};
  out.init = &init;
  out.lookup = &Ask<&Operations::lookup>::call;
  out.forget = &Call<&Operations::forget>::call;
  out.forget_multi = &Call<&Operations::forget_multi>::call;
  out.getattr = &Ask<&Operations::getattr>::call;
  out.open = &Ask<&Operations::open>::call;
  out.read = &Call<&Operations::read>::call;
  out.release = &Call<&Operations::release>::call;
  out.opendir = &Ask<&Operations::opendir>::call;
  out.readdir = &Ask<&Operations::readdir>::call;
  out.readdirplus = &Ask<&Operations::readdirplus>::call;
  out.releasedir = &Call<&Operations::releasedir>::call;
  out.statfs = &Call<&Operations::statfs>::call;
  out.getxattr = &Ask<&Operations::getxattr>::call;
  out.listxattr = &Ask<&Operations::listxattr>::call;
  // Mounted read-only, so the kernel refuses these itself; but a mount can be made writable from
  // outside (mount -o remount,rw).
  out.setattr = &read_only;
  out.mknod = &read_only;
  out.mkdir = &read_only;
  out.unlink = &read_only;
  out.rmdir = &read_only;
  out.symlink = &read_only;
  out.rename = &read_only;
  out.link = &read_only;
  out.create = &read_only;
  out.write = &read_only;
  out.setxattr = &read_only;
  out.removexattr = &read_only;
  out.fallocate = &read_only;
  out.copy_file_range = &read_only;
  // What is left out is answered with ENOSYS by libfuse, after which the kernel does it alone
  // (locks, lseek, fsync) or not at all (ioctl, bmap). There are no symbolic links to read.
  return out;
}

const fuse_lowlevel_ops& Operations::table() {
  static const fuse_lowlevel_ops table = Table::make();
  return table;
}

void Operations::init(fuse_conn_info* connection) {
  const auto want = [connection](unsigned flags) {
    connection->want |= connection->capable & flags;
  };
  const auto leave = [connection](unsigned flags) { connection->want &= ~flags; };
  want(static_cast<unsigned>(FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                             FUSE_CAP_READDIRPLUS_AUTO));
  // Answers are written from frames, which splice would copy into a pipe first. A node's bytes
  // never change, so the kernel need not drop cached pages when times do.
  leave(static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                              FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_WRITEBACK_CACHE));
  if (limits_.async_direct) {
    want(static_cast<unsigned>(FUSE_CAP_ASYNC_DIO));
  } else {
    leave(static_cast<unsigned>(FUSE_CAP_ASYNC_DIO));
  }
  connection->max_read = limits_.max_request_bytes;
  connection->max_readahead = limits_.max_request_bytes;
  // Read-only or not: from max_write libfuse computes how many pages the kernel may ask for at
  // once.
  connection->max_write = limits_.max_request_bytes;
  connection->max_background = limits_.max_background;
  connection->congestion_threshold = limits_.max_background - limits_.max_background / 4;
  initialised_.Notify();
}

/// Counted, so that the end of the mount waits for it.
void Operations::run_waiting(fuse_req_t request, tree::NodeId node,
                             absl::AnyInvocable<void()> call) {
  const uint64_t id = pending_.begin();
  const bool runs = names_.run(node, [this, id, call = std::move(call)]() mutable {
    call();
    call = nullptr;
    pending_.end(id);
  });
  if (runs) return;
  fail(request, EIO, absl::UnavailableError("too much waits for its origin"), "ask about", node);
  pending_.end(id);
}

// Names and attributes.

absl::Duration Operations::timeout_of(tree::NodeId parent) const {
  return parent == blobs_ ? timeouts_.immutable : timeouts_.entry;
}

void Operations::lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  if (std::strlen(name) > NAME_MAX) return fail(request, ENAMETOOLONG);
  const absl::StatusOr<tree::Node> node = names_.lookup(parent, name);
  if (node.ok()) {
    const fuse_entry_param entry = entry_of(*node, timeout_of(parent));
    fuse_reply_entry(request, &entry);
  } else if (absl::IsNotFound(node.status())) {
    const fuse_entry_param entry = negative_entry(timeouts_.negative);
    fuse_reply_entry(request, &entry);
  } else {
    fail(request, errno_of(node.status()), node.status(), "look a name up in", parent);
  }
}

void Operations::forget(fuse_req_t request, fuse_ino_t /*node*/, uint64_t /*lookups*/) {
  fuse_reply_none(request);
}

void Operations::forget_multi(fuse_req_t request, size_t /*count*/, fuse_forget_data* /*forgets*/) {
  fuse_reply_none(request);
}

absl::StatusOr<tree::Node> Operations::stat(tree::NodeId node) const {
  absl::StatusOr<tree::Node> out = names_.stat(node);
  if (out.ok()) return out;
  std::optional<OpenFile> open = open_files_.find(node);
  if (!open.has_value()) return out;
  // An open file is left: of a name that is gone, or of an origin that is away for now.
  if (absl::IsNotFound(out.status())) open->node.links = 0;
  return open->node;
}

void Operations::getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info* /*file*/) {
  const absl::StatusOr<tree::Node> found = stat(node);
  if (!found.ok()) {
    return fail(request, errno_of_node(found.status()), found.status(), "stat", node);
  }
  const struct stat attributes = attributes_of(*found);
  fuse_reply_attr(request, &attributes, absl::ToDoubleSeconds(timeouts_.entry));
}

void Operations::statfs(fuse_req_t request, fuse_ino_t node) {
  const absl::StatusOr<tree::Namespace::Counts> counts = names_.counts();
  if (!counts.ok()) {
    return fail(request, errno_of(counts.status()), counts.status(), "count what is under", node);
  }
  struct statvfs out = {};
  out.f_bsize = page::kPageSize;
  out.f_frsize = page::kPageSize;
  out.f_blocks =
      page::page_count(counts->blob_bytes);  // all of it used: nothing can be written here
  out.f_files = counts->blobs + counts->names;
  out.f_namemax = NAME_MAX;
  fuse_reply_statfs(request, &out);
}

// Files.

void Operations::open(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  if ((file->flags & O_ACCMODE) != O_RDONLY || (file->flags & O_TRUNC) != 0) {
    return fail(request, EROFS);
  }
  absl::StatusOr<OpenFile> opened = open_node(node);
  if (!opened.ok()) {
    return fail(request, errno_of_node(opened.status()), opened.status(), "open", node);
  }
  // A file's bytes never change while it is open, and mostly not at all; an image's do, by ways
  // that the kernel does not see.
  const bool is_image = opened->image != nullptr;
  file->keep_cache = !is_image && opened->node.steady ? 1 : 0;
  file->direct_io = is_image ? 1 : 0;
  file->noflush = 1;
  file->fh = open_files_.add(*std::move(opened));
  const uint64_t handle = file->fh;
  if (fuse_reply_open(request, file) == -ENOENT) {
    open_files_.remove(handle);  // open(2) was interrupted: no RELEASE will come
  }
}

absl::StatusOr<OpenFile> Operations::open_node(tree::NodeId node) {
  OpenFile file;
  BLOBCACHE_ASSIGN_OR_RETURN(file.node, names_.stat(node));
  if (file.node.type == tree::NodeType::kImage) {
    BLOBCACHE_ASSIGN_OR_RETURN(file.image, names_.open_image(node));
  } else {
    BLOBCACHE_ASSIGN_OR_RETURN(file.object, names_.open(node));
  }
  return file;
}

void Operations::release(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* file) {
  open_files_.remove(file->fh);
  fuse_reply_err(request, 0);
}

void Operations::read(fuse_req_t request, fuse_ino_t node, size_t length, off_t offset,
                      fuse_file_info* file) {
  const OpenFile& opened = OpenFiles::file(file->fh);
  const auto begin = static_cast<uint64_t>(offset);
  if (opened.image != nullptr) return read_image(request, opened, begin, length);
  page::Object& object = *opened.object;
  const uint64_t size = object.size_bytes();
  if (begin >= size || length == 0) {
    fuse_reply_buf(request, nullptr, 0);
    return;
  }
  const uint64_t wanted = std::min<uint64_t>(length, size - begin);
  if (wanted >
      page::Object::kMaxRead) {  // the kernel agreed to less, and a short answer means the end
    return fail(request, EIO, absl::InternalError("longer than was agreed"), "read", node);
  }
  page::PinnedRange range;
  if (object.try_read(begin, wanted, range)) return reply_range(request, range);
  read_missing(request, object, begin, wanted);
}

void Operations::read_image(fuse_req_t request, const OpenFile& file, uint64_t offset,
                            size_t length) {
  // Held: once it is answered the kernel may give the file back, while read() is still on its way.
  const std::shared_ptr<volume::Image> image = file.image;
  const tree::NodeId node = file.node.id;
  const uint64_t size = image->size_bytes();
  if (offset >= size || length == 0) {
    fuse_reply_buf(request, nullptr, 0);
    return;
  }
  std::vector<std::byte> buffer(std::min<uint64_t>(length, size - offset));
  const auto into = absl::MakeSpan(buffer);  // a vector's bytes stay where they are when it moves
  // Counted, so that the end of the mount waits for it; an image's read cannot be interrupted.
  const uint64_t id = pending_.begin();
  image->read(offset, into,
              [this, request, id, node, buffer = std::move(buffer)](absl::Status status) {
                if (!status.ok()) {
                  fail(request, errno_of(status), status, "read", node);
                } else if (fuse_reply_buf(request, reinterpret_cast<const char*>(buffer.data()),
                                          buffer.size()) == 0) {
                  bytes_out_.fetch_add(buffer.size(), std::memory_order_relaxed);
                }
                pending_.end(id);
              });
}

void Operations::read_missing(fuse_req_t request, page::Object& object, uint64_t offset,
                              uint64_t length) {
  const uint64_t id = pending_.begin();
  fuse_req_interrupt_func(request, &Table::interrupted, reinterpret_cast<void*>(id));
  if (pending_.why(id) != PendingReads::Ended::kByItself) {
    pending_.end(id);
    return fail(request, EINTR);
  }
  // The object stays: the kernel gives the file back (RELEASE) only after this request has been
  // answered.
  pending_.started(
      id, object.read(offset, length,
                      [this, request, id, &object](absl::StatusOr<page::PinnedRange> range) {
                        finish_read(request, id, object, range);
                        range = absl::CancelledError();  // unpins before the read counts as ended
                        pending_.end(id);
                      }));
}

void Operations::finish_read(fuse_req_t request, uint64_t id, const page::Object& object,
                             const absl::StatusOr<page::PinnedRange>& range) {
  if (range.ok()) return reply_range(request, *range);
  switch (pending_.why(id)) {
    case PendingReads::Ended::kInterrupted:
      return fail(request, EINTR);
    case PendingReads::Ended::kMountEnds:
      return fail(request, ECONNABORTED);
    case PendingReads::Ended::kByItself:
      break;
  }
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

// Directories. The tree's cookies carry a walk, so an open directory has no state here.

void Operations::opendir(fuse_req_t request, fuse_ino_t node, fuse_file_info* file) {
  const absl::StatusOr<tree::Node> found = names_.stat(node);
  if (!found.ok()) {
    return fail(request, errno_of_node(found.status()), found.status(), "open directory", node);
  }
  if (found->type != tree::NodeType::kDirectory) return fail(request, ENOTDIR);
  fuse_reply_open(request, file);
}

void Operations::readdir(fuse_req_t request, fuse_ino_t node, size_t room, off_t offset,
                         fuse_file_info* /*file*/) {
  list(request, node, room, offset, Listing::kNames);
}

void Operations::readdirplus(fuse_req_t request, fuse_ino_t node, size_t room, off_t offset,
                             fuse_file_info* /*file*/) {
  list(request, node, room, offset, Listing::kAttributes);
}

void Operations::releasedir(fuse_req_t request, fuse_ino_t /*node*/, fuse_file_info* /*file*/) {
  fuse_reply_err(request, 0);
}

void Operations::list(fuse_req_t request, fuse_ino_t node, size_t room, off_t offset,
                      Listing listing) {
  constexpr size_t kMostBytes = size_t{64} << 10;  // the catalog is not held for longer at a time
  DirectoryBuffer buffer(listing, std::min(room, kMostBytes));
  const absl::Status status = fill(buffer, listing, node, offset);
  // A directory that was removed while it was open is empty. After other errors what came before
  // them counts; they come again when the kernel goes on.
  if (!status.ok() && !absl::IsNotFound(status) && buffer.empty()) {
    return fail(request, errno_of(status), status, "list directory", node);
  }
  fuse_reply_buf(request, buffer.bytes().data(), buffer.bytes().size());
}

absl::Status Operations::fill(DirectoryBuffer& buffer, Listing listing, tree::NodeId node,
                              off_t offset) {
  fuse_entry_param dot = {};  // no node: the kernel takes the name alone
  dot.attr.st_mode = S_IFDIR;
  dot.attr.st_ino = node;
  if (offset < kAfterDot && !buffer.add(".", dot, kAfterDot)) return absl::OkStatus();
  constexpr ino_t kUnknown = 0xffffffff;  // what libfuse gives for a parent, and nobody relies on
  dot.attr.st_ino = node == tree::kRootNode ? tree::kRootNode : kUnknown;
  if (offset < kAfterDotDot && !buffer.add("..", dot, kAfterDotDot)) return absl::OkStatus();

  const absl::Duration timeout =
      listing == Listing::kAttributes ? timeout_of(node) : absl::ZeroDuration();
  uint64_t cookie = cookie_of_offset(std::max(offset, kAfterDotDot));
  while (const size_t wanted = buffer.room_for()) {
    std::vector<tree::NamedNode> entries;
    BLOBCACHE_ASSIGN_OR_RETURN(entries, names_.list(node, cookie, wanted));
    for (const tree::NamedNode& entry : entries) {
      cookie = entry.cookie;
      const std::optional<off_t> next = offset_of_cookie(cookie);
      if (!next.has_value()) {
        return base::error(absl::StatusCode::kInternal,
                           fmt::format("no offset can carry cookie {}", cookie));
      }
      if (!buffer.add(entry.name, entry_of(entry.node, timeout), *next)) return absl::OkStatus();
    }
    if (entries.size() < wanted) break;
  }
  return absl::OkStatus();
}

// Errors.

void Operations::fail(fuse_req_t request, int error) {
  errors_.fetch_add(1, std::memory_order_relaxed);
  fuse_reply_err(request, error);
}

void Operations::fail(fuse_req_t request, int error, const absl::Status& status,
                      std::string_view what, tree::NodeId node) {
  if (is_our_trouble(error)) {
    if (const auto left_out = log_limit_.admit(LogLimit::Clock::now())) {
      spdlog::error("fuse: cannot {} node {}: {} ({} more errors not shown)", what, node,
                    base::message(status), *left_out);
    }
  }
  fail(request, error);
}

}  // namespace blobcache::fusefs
