#include "store/tree/impl/ballast.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>

#include "base/status.h"
#include "base/unique_fd.h"

namespace blobcache::tree {

bool Ballast::make() {
  const absl::MutexLock lock(&mutex_);
  if (made_) return true;
  {
    const base::UniqueFd fd(::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    made_ = fd.valid() && ::posix_fallocate(fd.get(), 0, kBytes) == 0;
  }
  // What a failure allocated would be held for nothing.
  if (!made_) ::unlink(file_.c_str());
  return made_;
}

void Ballast::give_up() {
  const absl::MutexLock lock(&mutex_);
  made_ = false;
  if (::unlink(file_.c_str()) == 0 || errno == ENOENT) return;
  spdlog::warn("cannot make room: {}", base::message(base::errno_error(errno, file_.string())));
}

absl::Status Ballast::with_room(absl::FunctionRef<absl::Status()> change) {
  absl::Status status = change();
  if (absl::IsResourceExhausted(status)) {
    give_up();
    status = change();
  }
  make();
  return status;
}

}  // namespace blobcache::tree
