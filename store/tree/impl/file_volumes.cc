#include "store/tree/impl/file_volumes.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "base/hex.h"
#include "base/status.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

}  // namespace

std::vector<page::Incarnation> FileVolumes::find_all(const fs::path& folder) {
  absl::btree_set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    names.insert(at->path().stem().native());
  }
  std::vector<page::Incarnation> found;
  for (const std::string& name : names) {
    page::Incarnation incarnation;
    if (base::from_hex(name, absl::MakeSpan(incarnation.bytes))) found.push_back(incarnation);
  }
  return found;
}

FileVolumes::~FileVolumes() {
  {
    const absl::MutexLock lock(&mutex_);
    ending_ = true;
  }
  if (remover_.joinable()) remover_.join();
}

absl::Status FileVolumes::begin() {
  if (::mkdir(folder_.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    return base::errno_error(errno, folder_.string());
  }
  remover_ = std::thread([this] { work(); });
  return absl::OkStatus();
}

void FileVolumes::bury(const page::Incarnation& incarnation) { buried_.push_back(incarnation); }

/// Those of a while go with one sync of the catalog's log.
void FileVolumes::work() {
  constexpr absl::Duration kWhile = absl::Milliseconds(500);
  for (bool ending = false; !ending;) {
    {
      const absl::MutexLock lock(&mutex_);
      const auto any = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return ending_ || !buried_.empty();
      };
      mutex_.Await(absl::Condition(&any));
      mutex_.AwaitWithTimeout(absl::Condition(&ending_), kWhile);
      ending = ending_;
    }
    remove_now();
  }
}

void FileVolumes::leave_rest() { leaves_rest_.store(true); }

bool FileVolumes::remove_now() {
  const absl::MutexLock removing(&removing_mutex_);
  std::vector<page::Incarnation> buried;
  {
    const absl::MutexLock lock(&mutex_);
    if (!leaves_rest_.load()) buried.swap(buried_);
  }
  if (buried.empty()) return false;
  if (const absl::Status synced = catalog_.sync(); !synced.ok()) {
    spdlog::warn("files of {} that were written to stay until the next start: {}", buried.size(),
                 base::message(synced));
    return false;
  }
  for (const page::Incarnation& incarnation : buried) {
    if (leaves_rest_.load()) break;
    remove_files(incarnation);
    forget(incarnation);
  }
  return true;
}

volume::VolumeOptions FileVolumes::options_for(const page::Incarnation& incarnation,
                                               page::ObjectRef base) const {
  // Enough of the map for 240 MiB that are written all over; there may be thousands of files.
  constexpr size_t kCachedBlocks = 64;
  volume::VolumeOptions options;
  options.path = folder_ / incarnation.hex();
  options.in_folder = false;
  options.base = std::move(base);
  options.workers = &shared_.workers;
  options.budget = &shared_.budget;
  options.cached_blocks = kCachedBlocks;
  return options;
}

absl::StatusOr<std::shared_ptr<volume::Volume>> FileVolumes::create(
    const page::Incarnation& incarnation, page::ObjectRef base) {
  {
    const absl::MutexLock lock(&mutex_);
    ours_[incarnation.hex()] = {.open = true};
  }
  const uint64_t length = base == nullptr ? 0 : base->size_bytes();
  absl::StatusOr<std::shared_ptr<volume::Volume>> made =
      volume::Volume::create_file(options_for(incarnation, std::move(base)), length);
  if (made.ok()) return hand_out(incarnation, *std::move(made));
  remove_files(incarnation);
  forget(incarnation);
  return made;
}

absl::StatusOr<std::shared_ptr<volume::Volume>> FileVolumes::open(
    const page::Incarnation& incarnation, page::ObjectRef base) {
  {
    const absl::MutexLock lock(&mutex_);
    ours_[incarnation.hex()] = {.open = true};
  }
  absl::StatusOr<std::shared_ptr<volume::Volume>> opened =
      volume::Volume::open(options_for(incarnation, std::move(base)));
  if (opened.ok()) return hand_out(incarnation, *std::move(opened));
  forget(incarnation);
  return opened;
}

std::shared_ptr<volume::Volume> FileVolumes::hand_out(const page::Incarnation& incarnation,
                                                      std::shared_ptr<volume::Volume> opened) {
  volume::Volume* const it = opened.get();
  return {it, [this, incarnation, held = std::move(opened)](volume::Volume* /*unused*/) mutable {
            let_go(incarnation, std::move(held));
          }};
}

void FileVolumes::let_go(const page::Incarnation& incarnation,
                         std::shared_ptr<volume::Volume> opened) {
  {
    const absl::MutexLock lock(&mutex_);
    State& state = ours_[incarnation.hex()];
    state.open = false;
    if (!state.doomed) return;
  }
  opened->abandon();  // what it may be doing in the background comes to its end
  opened = nullptr;
  const absl::MutexLock lock(&mutex_);
  bury(incarnation);
}

absl::Time FileVolumes::modified(const page::Incarnation& incarnation) const {
  struct stat told = {};
  const std::string data = (folder_ / (incarnation.hex() + ".data")).string();
  if (::stat(data.c_str(), &told) != 0) return absl::InfinitePast();
  return absl::TimeFromTimespec(told.st_mtim);
}

void FileVolumes::remove(const page::Incarnation& incarnation) {
  const absl::MutexLock lock(&mutex_);
  State& state = ours_[incarnation.hex()];
  state.doomed = true;
  if (!state.open) bury(incarnation);
}

void FileVolumes::remove_files(const page::Incarnation& incarnation) const {
  const absl::Status status = volume::Volume::remove_file(options_for(incarnation, nullptr));
  if (status.ok()) return;
  spdlog::warn("{}: is not needed any more, and cannot be removed: {}",
               (folder_ / incarnation.hex()).string(), base::message(status));
}

void FileVolumes::forget(const page::Incarnation& incarnation) {
  const absl::MutexLock lock(&mutex_);
  ours_.erase(incarnation.hex());
}

absl::StatusOr<uint64_t> FileVolumes::remove_orphans() {
  uint64_t removed = 0;
  for (const page::Incarnation& incarnation : find_all(folder_)) {
    {
      const absl::MutexLock lock(&mutex_);
      if (ours_.contains(incarnation.hex())) continue;
    }
    BLOBCACHE_ASSIGN_OR_RETURN(const bool known, catalog_.read()->has_volume(incarnation));
    if (known) continue;
    BLOBCACHE_RETURN_IF_ERROR(catalog_.vouch());
    remove(incarnation);
    ++removed;
  }
  return removed;
}

}  // namespace blobcache::tree
