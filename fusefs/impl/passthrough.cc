#include "fusefs/impl/passthrough.h"

#include <linux/fuse.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <utility>

#include "base/status.h"
#include "fusefs/impl/fuse.h"

#if defined(FUSE_CAP_PASSTHROUGH) && defined(FUSE_DEV_IOC_BACKING_OPEN)
#define BLOBCACHE_PASSTHROUGH 1
#else
#define BLOBCACHE_PASSTHROUGH 0
#endif

namespace blobcache::fusefs {

int32_t Passthrough::enter(tree::NodeId node, Lend lend) {
  if (!enabled()) return 0;
  const absl::MutexLock lock(&mutex_);
  Open& open = open_[node];
  if (open.handles++ == 0) lend_to_kernel(lend, open);
  if (open.backing != 0) opens_.fetch_add(1, std::memory_order_relaxed);
  return open.backing;
}

void Passthrough::lend_to_kernel(Lend lend, Open& open) {
  if (refused_.load(std::memory_order_relaxed)) return;
  absl::StatusOr<page::LentFile> lent = lend();
  if (!lent.ok()) return;
  const absl::StatusOr<int32_t> backing = kernel_.open(lent->fd.get());
  if (backing.ok()) {
    open.backing = *backing;
    open.lease = std::move(lent->lease);
    return;
  }
  // ENOMEM, ENFILE: this one is read by us, and the next one has its own luck.
  const absl::Status& why = backing.status();
  if (absl::IsResourceExhausted(why) || absl::IsUnavailable(why)) return;
  // EPERM: without CAP_SYS_ADMIN. ELOOP, EOPNOTSUPP: not with the file system that the store is
  // on. So it will be with the next one.
  if (!refused_.exchange(true)) {
    spdlog::warn("fuse: files are not passed through: {}", base::message(why));
  }
}

int32_t Passthrough::backing(tree::NodeId node) const {
  const absl::ReaderMutexLock lock(&mutex_);
  const auto at = open_.find(node);
  return at == open_.end() ? 0 : at->second.backing;
}

void Passthrough::restore(tree::NodeId node, int32_t backing, std::shared_ptr<const void> lease) {
  const absl::MutexLock lock(&mutex_);
  Open& open = open_[node];
  if (open.handles++ > 0) return;
  open.backing = backing;
  open.lease = std::move(lease);
}

void Passthrough::leave(tree::NodeId node) {
  std::shared_ptr<const void> lease;  // dies after the lock
  const absl::MutexLock lock(&mutex_);
  const auto at = open_.find(node);
  if (at == open_.end() || --at->second.handles > 0) return;
  // Under the lock: the number may be given to the next file at once.
  if (at->second.backing != 0) kernel_.close(at->second.backing);
  lease = std::move(at->second.lease);
  open_.erase(at);
}

void Passthrough::clear() {
  absl::flat_hash_map<tree::NodeId, Open> open;
  const absl::MutexLock lock(&mutex_);
  open.swap(open_);
}

#if BLOBCACHE_PASSTHROUGH

absl::StatusOr<int32_t> KernelBackingFiles::open(int fd) {
  fuse_backing_map map{};
  map.fd = fd;
  const int backing = ::ioctl(fuse_fd_.load(), FUSE_DEV_IOC_BACKING_OPEN, &map);
  if (backing <= 0) return base::errno_error(errno, "FUSE_DEV_IOC_BACKING_OPEN");
  return backing;
}

void KernelBackingFiles::close(int32_t backing) {
  auto number = static_cast<uint32_t>(backing);
  // It fails once the connection is gone, and the kernel has let go of all by itself.
  (void)::ioctl(fuse_fd_.load(), FUSE_DEV_IOC_BACKING_CLOSE, &number);
}

#else

absl::StatusOr<int32_t> KernelBackingFiles::open(int /*fd*/) {
  return base::errno_error(EOPNOTSUPP, "built without passthrough");
}

void KernelBackingFiles::close(int32_t /*backing*/) {}

#endif

}  // namespace blobcache::fusefs
