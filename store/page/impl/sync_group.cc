#include "store/page/impl/sync_group.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/status.h"

namespace blobcache::page {

absl::Status sync_directory(const std::filesystem::path& path, Counters& counters) {
  const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  counters.add(Counters::kSyncs);
  if (!fd.valid() || ::fsync(fd.get()) != 0) return base::errno_error(errno, path.string());
  return absl::OkStatus();
}

absl::Status SyncGroup::sync(const Files& files) {
  Waiting mine{files, absl::OkStatus(), false};
  absl::MutexLock lock(&mutex_);
  waiting_.push_back(&mine);
  const auto my_turn = [&]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return mine.done || !leading_; };
  mutex_.Await(absl::Condition(&my_turn));
  if (mine.done) return mine.status;
  leading_ = true;
  const std::vector<Waiting*> batch = std::exchange(waiting_, {});
  mutex_.Unlock();
  sync_batch(batch);
  mutex_.Lock();
  for (Waiting* waiting : batch) waiting->done = true;
  leading_ = false;
  return mine.status;
}

void SyncGroup::sync_batch(const std::vector<Waiting*>& batch) {
  if (batch.size() < kManyWriters) {
    for (Waiting* waiting : batch) waiting->status = sync_files(waiting->files);
    return;
  }
  const absl::Status status = sync_file_system();
  for (Waiting* waiting : batch) waiting->status = status;
}

absl::Status SyncGroup::sync_files(const Files& files) {
  for (const int fd : files.fds) {
    counters_.add(Counters::kSyncs);
    if (::fsync(fd) != 0) return base::errno_error(errno, "syncing an object");
  }
  return sync_directory(files.directory, counters_);
}

absl::Status SyncGroup::sync_file_system() {
  counters_.add(Counters::kSyncs);
  if (::syncfs(root_.get()) != 0) return base::errno_error(errno, "syncing the store");
  return absl::OkStatus();
}

}  // namespace blobcache::page
