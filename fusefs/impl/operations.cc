#include "fusefs/impl/operations.h"

#include <spdlog/spdlog.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "base/status.h"
#include "fusefs/impl/kept_arguments.h"
#include "store/page/geometry.h"

namespace blobcache::fusefs {

Operations::Operations(tree::Namespace& names, const Places& places, Invalidator& invalidator,
                       const Timeouts& timeouts, const Limits& limits)
    : names_(names),
      places_(places),
      invalidator_(invalidator),
      timeouts_(timeouts),
      limits_(limits) {}

void Operations::shut_down() {
  pending_.cancel_all_and_wait();
  open_files_.clear();
  passthrough_.clear();
}

base::DoorStats Operations::stats() const {
  base::DoorStats out;
  out.requests = requests_.load(std::memory_order_relaxed);
  out.bytes_in = bytes_in_.load(std::memory_order_relaxed);
  out.bytes_out = bytes_out_.load(std::memory_order_relaxed);
  out.errors = errors_.load(std::memory_order_relaxed);
  out.open = open_files_.size();
  out.passed_through = passthrough_.opens();
  return out;
}

// The table: from C to the members above.

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

  /// An operation on a node, which comes first.
  template <auto method>
  struct On;
  template <typename... Arguments, void (Operations::*method)(fuse_req_t, fuse_ino_t, Arguments...)>
  struct On<method> {
    static void call(fuse_req_t request, fuse_ino_t inode, Arguments... arguments) noexcept {
      Operations& operations = self(request);
      operations.requests_.fetch_add(1, std::memory_order_relaxed);
      (operations.*method)(request, operations.node_of(inode), arguments...);
    }
  };

  /// The same for one that asks the tree about the node, which may have to wait for an origin.
  template <auto method>
  struct Ask;
  template <typename... Arguments, void (Operations::*method)(fuse_req_t, fuse_ino_t, Arguments...)>
  struct Ask<method> {
    static void call(fuse_req_t request, fuse_ino_t inode, Arguments... arguments) noexcept {
      Operations& operations = self(request);
      const tree::NodeId node = operations.node_of(inode);
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

  /// An operation on an open file, which is the last argument, and may have to be opened again.
  template <auto method>
  struct OnOpen;
  template <typename... Arguments, void (Operations::*method)(fuse_req_t, fuse_ino_t, Arguments...)>
  struct OnOpen<method> {
    static void call(fuse_req_t request, fuse_ino_t inode, Arguments... arguments) noexcept {
      Operations& operations = self(request);
      const tree::NodeId node = operations.node_of(inode);
      operations.requests_.fetch_add(1, std::memory_order_relaxed);
      const fuse_file_info* const file = std::get<sizeof...(Arguments) - 1>(std::tie(arguments...));
      if (!operations.open_files_.file(file->fh).is_dormant) {
        (operations.*method)(request, node, arguments...);
        return;
      }
      operations.run_awake(
          request, node, file->fh,
          [&operations, request, node, kept = KeptArguments<Arguments...>(arguments...)]() mutable {
            kept.apply([&](Arguments... again) { (operations.*method)(request, node, again...); });
          });
    }
  };

  /// The same for the one whose bytes are libfuse's.
  static void write(fuse_req_t request, fuse_ino_t inode, const char* bytes, size_t length,
                    off_t offset, fuse_file_info* file) noexcept {
    Operations& operations = self(request);
    const tree::NodeId node = operations.node_of(inode);
    operations.requests_.fetch_add(1, std::memory_order_relaxed);
    if (!operations.open_files_.file(file->fh).is_dormant) {
      return operations.write(request, node, bytes, length, offset, file);
    }
    operations.run_awake(request, node, file->fh,
                         [&operations, request, node, offset, kept_file = *file,
                          kept = std::string(bytes, length)]() mutable {
                           operations.write(request, node, kept.data(), kept.size(), offset,
                                            &kept_file);
                         });
  }

  static void init(void* operations, fuse_conn_info* connection) noexcept {
    static_cast<Operations*>(operations)->init(connection);
  }

  /// An operation that changes something: `inner`, unless the mount is read-only. The kernel
  /// refuses such itself, but a mount can be made writable from outside (mount -o remount,rw).
  template <auto inner>
  struct Change;
  template <typename... Arguments, void (*inner)(fuse_req_t, Arguments...) noexcept>
  struct Change<inner> {
    static void call(fuse_req_t request, Arguments... arguments) noexcept {
      Operations& operations = self(request);
      if (operations.limits_.read_only) {
        operations.requests_.fetch_add(1, std::memory_order_relaxed);
        return operations.fail(request, EROFS);
      }
      inner(request, arguments...);
    }
  };

  /// A change of names, made on this thread, of which the kernel learns by the answer.
  template <auto inner>
  struct Edit;
  template <typename... Arguments, void (*inner)(fuse_req_t, Arguments...) noexcept>
  struct Edit<inner> {
    static void edit(fuse_req_t request, Arguments... arguments) noexcept {
      const OwnChanges::Marker own(self(request).invalidator_.own());
      inner(request, arguments...);
    }
    static void call(fuse_req_t request, Arguments... arguments) noexcept {
      Change<&edit>::call(request, arguments...);
    }
  };

  static fuse_lowlevel_ops make();
};

fuse_lowlevel_ops Operations::Table::make() {
  fuse_lowlevel_ops out = {};
  out.init = &init;
  out.lookup = &Ask<&Operations::lookup>::call;
  out.forget = &On<&Operations::forget>::call;
  out.forget_multi = &Call<&Operations::forget_multi>::call;
  out.getattr = &Ask<&Operations::getattr>::call;
  out.open = &Ask<&Operations::open>::call;
  out.read = &OnOpen<&Operations::read>::call;
  out.release = &On<&Operations::release>::call;
  out.opendir = &Ask<&Operations::opendir>::call;
  out.readdir = &Ask<&Operations::readdir>::call;
  out.readdirplus = &Ask<&Operations::readdirplus>::call;
  out.releasedir = &On<&Operations::releasedir>::call;
  out.statfs = &On<&Operations::statfs>::call;
  out.getxattr = &Ask<&Operations::getxattr>::call;
  out.listxattr = &Ask<&Operations::listxattr>::call;
  out.readlink = &On<&Operations::readlink>::call;
  out.lseek = &OnOpen<&Operations::lseek>::call;
  out.fsync = &OnOpen<&Operations::fsync>::call;
  out.fsyncdir = &On<&Operations::fsyncdir>::call;
  out.write = &Change<&write>::call;
  out.fallocate = &Change<&OnOpen<&Operations::fallocate>::call>::call;
  out.setattr = &Change<&Ask<&Operations::setattr>::call>::call;
  out.setxattr = &Change<&On<&Operations::setxattr>::call>::call;
  out.removexattr = &Change<&On<&Operations::removexattr>::call>::call;
  out.create = &Edit<&On<&Operations::create>::call>::call;
  out.mknod = &Edit<&On<&Operations::mknod>::call>::call;
  out.mkdir = &Edit<&On<&Operations::mkdir>::call>::call;
  out.symlink = &Edit<&Call<&Operations::symlink>::call>::call;
  out.link = &Edit<&On<&Operations::link>::call>::call;
  out.unlink = &Edit<&On<&Operations::unlink>::call>::call;
  out.rmdir = &Edit<&On<&Operations::rmdir>::call>::call;
  out.rename = &Edit<&On<&Operations::rename>::call>::call;
  // What is left out is answered with ENOSYS by libfuse, after which the kernel does it alone
  // (locks, copying a range) or not at all (ioctl, bmap), or has nothing to do (flush: nothing
  // waits to be written when a file is closed).
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
  // O_TRUNC is part of an open. What a symbolic link says never changes.
  want(static_cast<unsigned>(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_CACHE_SYMLINKS));
  // Answers are written from frames, which splice would copy into a pipe first. When bytes change
  // that the kernel has cached it is told, so it need not drop them when times do. And it takes the
  // set-user-ID away itself from what is written or given to somebody else.
  leave(static_cast<unsigned>(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE |
                              FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV));
  if (limits_.writeback_cache) {
    want(static_cast<unsigned>(FUSE_CAP_WRITEBACK_CACHE));
  } else {
    leave(static_cast<unsigned>(FUSE_CAP_WRITEBACK_CACHE));
  }
  if (limits_.async_direct) {
    want(static_cast<unsigned>(FUSE_CAP_ASYNC_DIO));
  } else {
    leave(static_cast<unsigned>(FUSE_CAP_ASYNC_DIO));
  }
#ifdef FUSE_CAP_PASSTHROUGH
  // The store's files lie on no stacked file system, as far as we know; on one they are refused.
  leave(static_cast<unsigned>(FUSE_CAP_PASSTHROUGH));
  const bool is_there = (connection->capable & FUSE_CAP_PASSTHROUGH) != 0;
  // (The kernel has it with a writeback cache for none.)
  const bool is_wanted = limits_.passthrough != PassthroughFiles::kNone && !limits_.writeback_cache;
  if (is_wanted && is_there) {
    want(static_cast<unsigned>(FUSE_CAP_PASSTHROUGH));
    passthrough_.enable();
  }
#endif
  connection->max_read = limits_.max_request_bytes;
  connection->max_readahead = limits_.max_request_bytes;
  // From this libfuse computes, too, how many pages the kernel may ask for at once.
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
  // Should the kernel have to forget everything, it cannot be made to forget the root of a mount.
  const bool immutable = parent == places_.blobs && parent != places_.root;
  return immutable ? timeouts_.immutable : timeouts_.entry;
}

void Operations::lookup(fuse_req_t request, tree::NodeId parent, const char* name) {
  if (std::strlen(name) > NAME_MAX) return fail(request, ENAMETOOLONG);
  const absl::StatusOr<tree::Node> node = names_.lookup(parent, name);
  if (node.ok()) {
    const fuse_entry_param entry = entry_for(as_open(*node), timeout_of(parent));
    fuse_reply_entry(request, &entry);
  } else if (absl::IsNotFound(node.status())) {
    const fuse_entry_param entry = negative_entry(timeouts_.negative);
    fuse_reply_entry(request, &entry);
  } else {
    fail(request, errno_of(node.status()), node.status(), "look a name up in", parent);
  }
}

void Operations::forget(fuse_req_t request, tree::NodeId /*node*/, uint64_t /*lookups*/) {
  fuse_reply_none(request);
}

void Operations::forget_multi(fuse_req_t request, size_t /*count*/, fuse_forget_data* /*forgets*/) {
  fuse_reply_none(request);
}

/// A file that is open knows best what it is; the tree's rows follow what is written.
tree::Node Operations::as_open(const tree::Node& node) const {
  if (node.type != tree::NodeType::kFile) return node;
  const std::shared_ptr<const OpenFile> open = open_files_.find(node.id);
  return open == nullptr || open->file == nullptr ? node : open->file->node();
}

absl::StatusOr<tree::Node> Operations::stat(tree::NodeId node) const {
  const std::shared_ptr<const OpenFile> open = open_files_.find(node);
  if (open != nullptr && open->file != nullptr) return open->file->node();
  absl::StatusOr<tree::Node> out = names_.stat(node);
  if (out.ok() || open == nullptr) return out;
  // An open file is left: of a name that is gone, or of an origin that is away for now.
  tree::Node left = open->node;
  if (absl::IsNotFound(out.status())) left.links = 0;
  return left;
}

fuse_entry_param Operations::entry_for(const tree::Node& node, absl::Duration timeout) const {
  return entry_of(limits_.writeback_cache ? as_written_back(node) : node, timeout);
}

void Operations::reply_attributes(fuse_req_t request, const tree::Node& node) {
  struct stat attributes = entry_for(node, timeouts_.entry).attr;
  attributes.st_ino = inode_of(node.id);
  fuse_reply_attr(request, &attributes, absl::ToDoubleSeconds(timeouts_.entry));
}

void Operations::getattr(fuse_req_t request, tree::NodeId node, fuse_file_info* /*file*/) {
  const absl::StatusOr<tree::Node> found = stat(node);
  if (!found.ok()) {
    return fail(request, errno_of_node(found.status()), found.status(), "stat", node);
  }
  reply_attributes(request, *found);
}

void Operations::statfs(fuse_req_t request, tree::NodeId node) {
  const absl::StatusOr<tree::Namespace::Counts> counts = names_.counts();
  const absl::StatusOr<tree::Namespace::Space> space = names_.space();
  const absl::Status& status = counts.ok() ? space.status() : counts.status();
  if (!status.ok()) {
    return fail(request, errno_of(status), status, "count what is under", node);
  }
  struct statvfs out = {};
  out.f_bsize = page::kPageSize;
  out.f_frsize = page::kPageSize;
  out.f_blocks = page::page_count(space->total_bytes);
  out.f_bfree = space->free_bytes / page::kPageSize;
  out.f_bavail = limits_.read_only ? 0 : out.f_bfree;
  // No number of files is too many; one that is not empty takes a page.
  out.f_ffree = out.f_bfree;
  out.f_favail = out.f_bavail;
  out.f_files = counts->blobs + counts->names + out.f_ffree;
  out.f_namemax = NAME_MAX;
  fuse_reply_statfs(request, &out);
}

// Errors.

void Operations::fail(fuse_req_t request, int error) {
  errors_.fetch_add(1, std::memory_order_relaxed);
  fuse_reply_err(request, error);
}

void Operations::fail(fuse_req_t request, int error, const absl::Status& status,
                      std::string_view what, tree::NodeId node) {
  if (is_our_trouble(status)) {
    if (const auto left_out = log_limit_.admit(LogLimit::Clock::now())) {
      spdlog::error("fuse: cannot {} node {}: {} ({} more errors not shown)", what, node,
                    base::message(status), *left_out);
    }
  }
  fail(request, error);
}

}  // namespace blobcache::fusefs
