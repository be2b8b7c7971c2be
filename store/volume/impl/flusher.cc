#include "store/volume/impl/flusher.h"

#include <utility>

#include "base/status.h"
#include "store/volume/impl/file_calls.h"
#include "store/volume/impl/journal.h"

namespace blobcache::volume {

bool Flusher::add(Done done) {
  const absl::MutexLock lock(&mutex_);
  waiting_.push_back(std::move(done));
  return !std::exchange(running_, true);
}

void Flusher::run() {
  for (;;) {
    std::vector<Done> served;
    {
      const absl::MutexLock lock(&mutex_);
      if (waiting_.empty()) {
        running_ = false;
        return;
      }
      served.swap(waiting_);
    }
    const absl::Status status = flush();
    for (Done& done : served) {
      core_.end_operation();
      done(status);
    }
  }
}

absl::Status Flusher::flush() {
  core_.flushes.fetch_add(1, std::memory_order_relaxed);
  // A record before this one was appended after its page was written.
  const uint64_t end = core_.journal.next();
  const bool has_states = flushed_ < core_.journal.states_end();
  BLOBCACHE_RETURN_IF_ERROR(core_.sync_data());
  if (has_states) {
    BLOBCACHE_RETURN_IF_ERROR(core_.journal.append({Record::Kind::kFlush, 0, end}));
  } else if (names_are_durable_) {
    return absl::OkStatus();
  }
  // Of a file this is the header, too.
  BLOBCACHE_RETURN_IF_ERROR(core_.sync_journal());
  BLOBCACHE_RETURN_IF_ERROR(sync_names());
  flushed_ = end;
  return absl::OkStatus();
}

absl::Status Flusher::sync_names() {
  if (names_are_durable_) return absl::OkStatus();
  absl::Status status = core_.calls.sync_folder(folder_of(core_.options));
  if (status.ok() && core_.options.in_folder)
    status = core_.calls.sync_folder(parent_of(core_.options.path));
  if (!status.ok()) {
    core_.fail(status);
    return status;
  }
  names_are_durable_ = true;
  return absl::OkStatus();
}

}  // namespace blobcache::volume
