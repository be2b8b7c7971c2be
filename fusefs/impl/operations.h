#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/synchronization/notification.h"
#include "base/door_stats.h"
#include "fusefs/impl/directory_buffer.h"
#include "fusefs/impl/fuse.h"
#include "fusefs/impl/log_limit.h"
#include "fusefs/impl/open_files.h"
#include "fusefs/impl/pending_reads.h"
#include "fusefs/impl/reply.h"
#include "store/tree/namespace.h"

namespace blobcache::fusefs {

/// What one mount does with each request of the kernel: the tree's names and the store's bytes,
/// read-only.
///
/// Threads: libfuse calls an operation on one of its workers, several at once and in no order; each
/// operation answers its request exactly once. Nearly all answer before they return. The exceptions
/// are a read whose pages are not in RAM: the worker hands it to the store and is free, and a
/// thread of the store answers; and what is asked about a node of an origin, which a thread of that
/// origin does and answers. So no worker ever waits for a page or the network, though one may wait
/// for the catalog for a moment.
///
/// An inode number is a tree::NodeId. The tree keeps its nodes itself, so there is no table of
/// inodes here and a FORGET has nothing to do.
class Operations {
 public:
  struct Limits {
    uint32_t max_request_bytes;
    uint32_t max_background;
    bool async_direct;  ///< as in MountOptions
  };

  /// `blobs` is the node of the directory whose names are digests. `names` must outlive the
  /// operations.
  Operations(tree::Namespace& names, tree::NodeId blobs, const Timeouts& timeouts,
             const Limits& limits);

  /// The table for fuse_session_new(), whose user data must be the Operations.
  [[nodiscard]] static const fuse_lowlevel_ops& table();

  /// Notified once the kernel and libfuse have agreed on how to talk.
  [[nodiscard]] const absl::Notification& initialised() const { return initialised_; }

  /// For when the workers have ended: ends the reads that wait (with ECONNABORTED), returns when
  /// each is answered, and closes the open files.
  void shut_down();

  [[nodiscard]] base::DoorStats stats() const;

 private:
  struct Table;  // the thunks from C to here

  void init(fuse_conn_info* connection);
  void lookup(fuse_req_t request, fuse_ino_t parent, const char* name);
  void forget(fuse_req_t request, fuse_ino_t node, uint64_t lookups);
  void forget_multi(fuse_req_t request, size_t count, fuse_forget_data* forgets);
  void getattr(fuse_req_t request, fuse_ino_t node, fuse_file_info* file);
  void open(fuse_req_t request, fuse_ino_t node, fuse_file_info* file);
  void read(fuse_req_t request, fuse_ino_t node, size_t length, off_t offset, fuse_file_info* file);
  void release(fuse_req_t request, fuse_ino_t node, fuse_file_info* file);
  void opendir(fuse_req_t request, fuse_ino_t node, fuse_file_info* file);
  void readdir(fuse_req_t request, fuse_ino_t node, size_t room, off_t offset,
               fuse_file_info* file);
  void readdirplus(fuse_req_t request, fuse_ino_t node, size_t room, off_t offset,
                   fuse_file_info* file);
  void releasedir(fuse_req_t request, fuse_ino_t node, fuse_file_info* file);
  void statfs(fuse_req_t request, fuse_ino_t node);
  void getxattr(fuse_req_t request, fuse_ino_t node, const char* name, size_t room);
  void listxattr(fuse_req_t request, fuse_ino_t node, size_t room);

  void run_waiting(fuse_req_t request, tree::NodeId node, absl::AnyInvocable<void()> call);
  void read_missing(fuse_req_t request, page::Object& object, uint64_t offset, uint64_t length);
  void finish_read(fuse_req_t request, uint64_t id, const page::Object& object,
                   const absl::StatusOr<page::PinnedRange>& range);
  void read_image(fuse_req_t request, const OpenFile& file, uint64_t offset, size_t length);
  [[nodiscard]] absl::StatusOr<OpenFile> open_node(tree::NodeId node);
  void reply_range(fuse_req_t request, const page::PinnedRange& range);
  void list(fuse_req_t request, fuse_ino_t node, size_t room, off_t offset, Listing listing);
  [[nodiscard]] absl::Status fill(DirectoryBuffer& buffer, Listing listing, tree::NodeId node,
                                  off_t offset);
  [[nodiscard]] absl::StatusOr<tree::Node> stat(tree::NodeId node) const;
  [[nodiscard]] absl::StatusOr<std::string> attribute(tree::NodeId node, std::string_view name);
  void reply_attribute(fuse_req_t request, std::string_view value, size_t room);
  [[nodiscard]] absl::Duration timeout_of(tree::NodeId parent) const;

  /// Answers with an error, counts it, and logs what somebody should look into.
  void fail(fuse_req_t request, int error);
  void fail(fuse_req_t request, int error, const absl::Status& status, std::string_view what,
            tree::NodeId node);

  tree::Namespace& names_;
  const tree::NodeId blobs_;
  const Timeouts timeouts_;
  const Limits limits_;
  absl::Notification initialised_;
  OpenFiles open_files_;
  PendingReads pending_;
  LogLimit log_limit_;
  std::atomic<uint64_t> requests_{0};
  std::atomic<uint64_t> bytes_out_{0};
  std::atomic<uint64_t> errors_{0};
};

}  // namespace blobcache::fusefs
