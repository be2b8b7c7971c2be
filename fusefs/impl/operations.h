#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/door_stats.h"
#include "base/parcel.h"
#include "fusefs/impl/directory_buffer.h"
#include "fusefs/impl/fuse.h"
#include "fusefs/impl/invalidator.h"
#include "fusefs/impl/log_limit.h"
#include "fusefs/impl/open_files.h"
#include "fusefs/impl/passthrough.h"
#include "fusefs/impl/pending_reads.h"
#include "fusefs/impl/reply.h"
#include "fusefs/impl/request_gate.h"
#include "fusefs/impl/write_rules.h"
#include "fusefs/mount.h"
#include "store/tree/files.h"
#include "store/tree/namespace.h"
#include "store/volume/image.h"

namespace blobcache::fusefs {

/// What one mount does with each request of the kernel: the tree's names and the store's bytes.
///
/// Threads: libfuse calls an operation on one of its workers, several at once and in no order; each
/// operation answers its request exactly once. Nearly all answer before they return. The exceptions
/// are a read whose pages a source has to bring, or the disk while Limits::disk_waiters others wait
/// for it, and a change of bytes that does not end at once: the worker hands it to the store and is
/// free, and a thread of the store answers; and what is asked about a node of an origin, which a
/// thread of that origin does and answers. So no worker ever waits for the network, though one may
/// wait for a moment for the catalog, or for the disk when a file is read from there, or a name
/// made.
///
/// What may be changed: names and attributes where tree::NameEditor lets them be, which is beneath
/// files/, and the bytes of files there and of images. The kernel has checked modes and owners.
/// What its node says cannot be written is not, by nobody.
///
/// An inode number is a tree::NodeId, but for the root of the mount, which the kernel always calls
/// FUSE_ROOT_ID: members are told of nodes, and what the kernel is told goes through inode_of().
/// The tree keeps its nodes itself, so there is no table of inodes here and a FORGET has nothing to
/// do.
class Operations {
 public:
  struct Limits {
    uint32_t max_request_bytes;
    uint32_t max_background;
    bool async_direct;  ///< as in MountOptions
    bool read_only;
    PassthroughFiles passthrough;
    uint32_t disk_waiters;  ///< workers that may wait for the disk at once
    bool writeback_cache;
  };
  struct Places {
    tree::NodeId root;   ///< the directory that is the root of the mount
    tree::NodeId blobs;  ///< the directory whose names are digests
  };

  /// `names` and `invalidator`, which learns what it need not tell, must outlive the operations.
  Operations(tree::Namespace& names, const Places& places, Invalidator& invalidator,
             const Timeouts& timeouts, const Limits& limits);

  /// The table for fuse_session_new(), whose user data must be the Operations.
  [[nodiscard]] static const fuse_lowlevel_ops& table();

  /// The connection's descriptor. Before the first request.
  void attach(int fuse_fd) { backing_files_.attach(fuse_fd); }

  /// Notified once the kernel and libfuse have agreed on how to talk.
  [[nodiscard]] const absl::Notification& initialised() const { return initialised_; }

  /// Through which the requests come that libfuse calls these operations for.
  [[nodiscard]] RequestGate& gate() { return gate_; }

  /// Whether by then all requests that were taken are answered; for when the gate is closed.
  [[nodiscard]] bool wait_until_answered(absl::Time deadline);
  /// Packs the open files for another process, and has them again there, before the first request.
  /// DATA_LOSS for a parcel that is damaged.
  void hand_over(base::ParcelWriter& parcel) const;
  [[nodiscard]] absl::Status take_over(base::ParcelReader& parcel);
  /// Each open file, with its object where it is one.
  [[nodiscard]] std::vector<tree::OpenNode> open_objects() const;

  /// Ends the reads that wait, with ECONNABORTED, and those that would have to: the mount ends.
  void end_reads() { pending_.cancel_all(); }
  /// For when the workers have ended: ends the reads that wait (with ECONNABORTED), returns when
  /// each request is answered, and closes the open files.
  void shut_down();

  /// What the kernel calls a node. (Another node that is called FUSE_ROOT_ID in the tree, its root,
  /// is above every subtree, and so in none.)
  [[nodiscard]] fuse_ino_t inode_of(tree::NodeId node) const {
    return node == places_.root ? fuse_ino_t{FUSE_ROOT_ID} : node;
  }

  [[nodiscard]] base::DoorStats stats() const;
  /// Each node that somebody has open.
  [[nodiscard]] std::vector<tree::NodeId> open_nodes() const { return open_files_.nodes(); }
  /// Each node beneath files/ that somebody has open for writing.
  [[nodiscard]] absl::flat_hash_set<tree::NodeId> written_nodes() const {
    return open_files_.written_nodes();
  }

 private:
  struct Table;  // the thunks from C to here

  [[nodiscard]] tree::NodeId node_of(fuse_ino_t inode) const {
    return inode == FUSE_ROOT_ID ? places_.root : inode;
  }

  // Looking: operations.cc, operations_attributes.cc, operations_directories.cc.
  void init(fuse_conn_info* connection);
  void lookup(fuse_req_t request, tree::NodeId parent, const char* name);
  void forget(fuse_req_t request, tree::NodeId node, uint64_t lookups);
  void forget_multi(fuse_req_t request, size_t count, fuse_forget_data* forgets);
  void getattr(fuse_req_t request, tree::NodeId node, fuse_file_info* file);
  void readlink(fuse_req_t request, tree::NodeId node);
  void opendir(fuse_req_t request, tree::NodeId node, fuse_file_info* file);
  void readdir(fuse_req_t request, tree::NodeId node, size_t room, off_t offset,
               fuse_file_info* file);
  void readdirplus(fuse_req_t request, tree::NodeId node, size_t room, off_t offset,
                   fuse_file_info* file);
  void releasedir(fuse_req_t request, tree::NodeId node, fuse_file_info* file);
  void statfs(fuse_req_t request, tree::NodeId node);
  void getxattr(fuse_req_t request, tree::NodeId node, const char* name, size_t room);
  void listxattr(fuse_req_t request, tree::NodeId node, size_t room);

  // Bytes: operations_files.cc reads, operations_write.cc writes.
  void open(fuse_req_t request, tree::NodeId node, fuse_file_info* file);
  void read(fuse_req_t request, tree::NodeId node, size_t length, off_t offset,
            fuse_file_info* file);
  void lseek(fuse_req_t request, tree::NodeId node, off_t offset, int whence, fuse_file_info* file);
  void release(fuse_req_t request, tree::NodeId node, fuse_file_info* file);
  void write(fuse_req_t request, tree::NodeId node, const char* bytes, size_t length, off_t offset,
             fuse_file_info* file);
  void fsync(fuse_req_t request, tree::NodeId node, int data_only, fuse_file_info* file);
  void fallocate(fuse_req_t request, tree::NodeId node, int mode, off_t offset, off_t length,
                 fuse_file_info* file);

  // Names: operations_names.cc. A second directory comes as the kernel calls it.
  void create(fuse_req_t request, tree::NodeId parent, const char* name, mode_t mode,
              fuse_file_info* file);
  void mknod(fuse_req_t request, tree::NodeId parent, const char* name, mode_t mode, dev_t device);
  void mkdir(fuse_req_t request, tree::NodeId parent, const char* name, mode_t mode);
  void symlink(fuse_req_t request, const char* target, fuse_ino_t parent_inode, const char* name);
  void link(fuse_req_t request, tree::NodeId node, fuse_ino_t parent_inode, const char* name);
  void unlink(fuse_req_t request, tree::NodeId parent, const char* name);
  void rmdir(fuse_req_t request, tree::NodeId parent, const char* name);
  void rename(fuse_req_t request, tree::NodeId parent, const char* name,
              fuse_ino_t new_parent_inode, const char* new_name, unsigned flags);
  void setattr(fuse_req_t request, tree::NodeId node, struct stat* attributes, int which,
               fuse_file_info* file);
  void fsyncdir(fuse_req_t request, tree::NodeId node, int data_only, fuse_file_info* file);
  void setxattr(fuse_req_t request, tree::NodeId node, const char* name, const char* value,
                size_t length, int flags);
  void removexattr(fuse_req_t request, tree::NodeId node, const char* name);

  void run_waiting(fuse_req_t request, tree::NodeId node, absl::AnyInvocable<void()> call);
  /// The same once the file of a handle that is dormant is open again; else the request fails.
  void run_awake(fuse_req_t request, tree::NodeId node, uint64_t handle,
                 absl::AnyInvocable<void()> call);
  [[nodiscard]] absl::StatusOr<OpenFile> open_node(tree::NodeId node, bool writing);
  [[nodiscard]] absl::StatusOr<page::LentFile> lend(const OpenFile& opened) const;
  void keep_open(OpenFile opened, fuse_file_info& file);
  void close_opened(uint64_t handle);
  /// Opens what is dormant.
  [[nodiscard]] absl::Status wake(uint64_t handle);
  [[nodiscard]] absl::Status prepare_opened(const OpenFile& opened, int flags);
  /// With a writeback cache the kernel appends by itself. And of what is open for direct I/O it
  /// does not take the set-user-ID away.
  [[nodiscard]] bool is_append_handle(const OpenFile& opened, int flags) const {
    return opened.file != nullptr && (opened.node.mode & (S_ISUID | S_ISGID)) == 0 &&
           !limits_.writeback_cache && opens_to_append(flags);
  }
  void read_opened(fuse_req_t request, const OpenFile& opened, uint64_t offset, uint64_t length);
  void read_object(fuse_req_t request, const page::ObjectRef& object, uint64_t offset,
                   uint64_t length);
  void start_read(fuse_req_t request, uint64_t id, const page::ObjectRef& object, uint64_t offset,
                  uint64_t length);
  void finish_read(fuse_req_t request, uint64_t id, const page::Object& object,
                   const absl::StatusOr<page::PinnedRange>& range);
  static void interrupted(fuse_req_t request, void* id);
  void read_image(fuse_req_t request, const OpenFile& opened, volume::Image& image, uint64_t offset,
                  uint64_t length);
  void reply_range(fuse_req_t request, const page::PinnedRange& range);

  /// What starts a write of the bytes, which stay as they are until it is done.
  using StartWrite = absl::FunctionRef<void(absl::Span<const std::byte>, volume::Done)>;
  struct WriteRequest {
    fuse_req_t request;
    tree::NodeId node;
    /// It is answered whole or with an error: the kernel takes the answer to what it writes back
    /// from its cache for no less.
    bool whole;
    /// Where the bytes went by a handle for direct I/O. A reader may have filled the kernel's cache
    /// beside it, with what was there before; so it is made to forget that before the answer. (It
    /// must not be for other writes, which hold the pages until they are answered.)
    std::shared_ptr<ByteRange> uncached = nullptr;
    /// Such a write that is to be on stable storage when it is answered: no FSYNC follows it.
    bool synced = false;
  };
  void write_bytes(const WriteRequest& request, absl::Span<const std::byte> bytes,
                   StartWrite start);
  /// Bytes, and where the kernel thinks that they go.
  struct PlacedBytes {
    uint64_t offset;
    absl::Span<const std::byte> bytes;
  };
  void write_file(const WriteRequest& request, const OpenFile& opened, const PlacedBytes& asked,
                  int flags);
  [[nodiscard]] static volume::Done synced_if_asked(const WriteRequest& request, tree::File& file,
                                                    volume::Done done);
  void append_file(const WriteRequest& request, const tree::FileRef& file,
                   const PlacedBytes& asked);
  void finish_write(const WriteRequest& request, uint64_t id, uint64_t length,
                    const absl::Status& status);
  void reply_write(const WriteRequest& request, uint64_t length, const absl::Status& status);
  void fallocate_image(fuse_req_t request, const OpenFile& opened, int mode, ByteRange range);
  void fallocate_file(fuse_req_t request, const OpenFile& opened, int mode, ByteRange range);
  void set_length(fuse_req_t request, tree::NodeId node, uint64_t length,
                  const fuse_file_info* file);
  [[nodiscard]] absl::Status set_length_now(tree::File& file, uint64_t length);
  [[nodiscard]] volume::Done when_done(fuse_req_t request, tree::NodeId node, std::string_view what,
                                       absl::AnyInvocable<void()> reply);

  void reply_made(fuse_req_t request, const absl::StatusOr<tree::Node>& node, tree::NodeId parent);
  void reply_attributes(fuse_req_t request, const tree::Node& node);
  void list(fuse_req_t request, tree::NodeId node, size_t room, off_t offset, Listing listing);
  [[nodiscard]] absl::Status fill(DirectoryBuffer& buffer, Listing listing, tree::NodeId node,
                                  off_t offset);
  [[nodiscard]] absl::StatusOr<tree::Node> stat(tree::NodeId node) const;
  [[nodiscard]] tree::Node as_open(const tree::Node& node) const;
  /// What the kernel is told of a node.
  [[nodiscard]] fuse_entry_param entry_for(const tree::Node& node, absl::Duration timeout) const;
  [[nodiscard]] absl::StatusOr<std::string> attribute(tree::NodeId node, std::string_view name);
  void reply_attribute(fuse_req_t request, std::string_view value, size_t room);
  [[nodiscard]] absl::Duration timeout_of(tree::NodeId parent) const;

  /// Answers with an error, counts it, and logs what somebody should look into.
  void fail(fuse_req_t request, int error);
  void fail(fuse_req_t request, int error, const absl::Status& status, std::string_view what,
            tree::NodeId node);

  tree::Namespace& names_;
  const Places places_;
  Invalidator& invalidator_;
  const Timeouts timeouts_;
  const Limits limits_;
  absl::Notification initialised_;
  RequestGate gate_;
  OpenFiles open_files_;
  KernelBackingFiles backing_files_;
  Passthrough passthrough_{backing_files_};
  PendingReads pending_;
  LogLimit log_limit_;
  std::atomic<uint64_t> requests_{0};
  std::atomic<uint64_t> bytes_out_{0};
  std::atomic<uint64_t> bytes_in_{0};
  std::atomic<uint64_t> errors_{0};
  std::atomic<uint64_t> copied_bytes_{0};  // of writes under way
  std::atomic<uint32_t> disk_waiters_{0};
};

}  // namespace blobcache::fusefs
