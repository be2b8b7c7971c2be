#include "server/mount_table.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/status.h"
#include "store/tree/path.h"

namespace blobcache::server {
namespace {

void add_counters(base::DoorStats& sum, const base::DoorStats& part) {
  sum.requests += part.requests;
  sum.bytes_out += part.bytes_out;
  sum.bytes_in += part.bytes_in;
  sum.errors += part.errors;
  sum.passed_through += part.passed_through;
}

/// One spelling a path of the tree: no slash before or after it.
std::string without_slashes(std::string_view path) {
  while (path.starts_with('/')) path.remove_prefix(1);
  while (path.ends_with('/')) path.remove_suffix(1);
  return std::string(path);
}

/// One spelling a mountpoint: no "..", no doubled or trailing slash.
std::filesystem::path normal(const std::filesystem::path& mountpoint) {
  const std::filesystem::path path = mountpoint.lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

/// The same without symbolic links, where that can be told.
std::filesystem::path without_links(const std::filesystem::path& path) {
  std::error_code error;
  std::filesystem::path resolved = std::filesystem::canonical(path, error);
  return error ? path : resolved;
}

}  // namespace

std::string MountView::to_string() const {
  std::string how = subtree.empty() ? "" : tree::printable(subtree);
  const auto add = [&how](bool is_so, std::string_view word) {
    if (is_so) how += fmt::format("{}{}", how.empty() ? "" : ", ", word);
  };
  add(read_only, "read-only");
  add(no_exec, "noexec");
  add(writeback_cache, "writeback_cache");
  return how.empty() ? mountpoint.native() : fmt::format("{} ({})", mountpoint.native(), how);
}

MountTable::MountTable(fusefs::MountOptions defaults, StartMount start)
    : start_(std::move(start)), defaults_(std::move(defaults)), reaper_([this] { reap(); }) {}

absl::Status MountTable::add(const MountView& wanted) {
  const std::filesystem::path path = normal(wanted.mountpoint);
  fusefs::MountOptions options;
  uint64_t id = 0;
  {
    const absl::MutexLock lock(&mutex_);
    if (stopping_) return absl::UnavailableError("the daemon is stopping");
    if (paused_) return absl::UnavailableError("the daemon is being upgraded");
    if (entries_.contains(path)) {
      return absl::AlreadyExistsError(fmt::format("{}: mounted already", path.native()));
    }
    if (entries_.size() >= kMaxMounts) {
      return absl::ResourceExhaustedError(
          fmt::format("{}: there are {} mounts, no more are admitted", path.native(), kMaxMounts));
    }
    id = next_id_++;
    options = defaults_;
    options.mountpoint = path;
    options.subtree = without_slashes(wanted.subtree);
    options.read_only = wanted.read_only;
    options.no_exec = wanted.no_exec;
    options.writeback_cache = wanted.writeback_cache;
    entries_[path].id = id;
    entries_[path].view = wanted;
    entries_[path].view.mountpoint = path;
    entries_[path].view.subtree = options.subtree;
  }
  absl::StatusOr<std::unique_ptr<fusefs::Mount>> mount =
      start_(options, [this, id] { on_end(id); });
  const absl::MutexLock lock(&mutex_);
  if (!mount.ok()) {
    entries_.erase(path);
    std::erase(ended_, id);
    return mount.status();
  }
  entries_[path].mount = std::move(*mount);
  entries_[path].state = State::kServing;
  return absl::OkStatus();
}

absl::Status MountTable::remove(const std::filesystem::path& mountpoint) {
  std::filesystem::path path = normal(mountpoint);
  // Links are followed only where there must be some, since to look at a mount may take its time.
  if (!knows(path)) path = without_links(path);
  fusefs::Mount* mount = nullptr;
  {
    const absl::MutexLock lock(&mutex_);
    Entry* const found = find(path);
    if (found == nullptr) {
      return absl::NotFoundError(
          fmt::format("{}: no mount of this daemon is there", path.native()));
    }
    if (paused_) return absl::UnavailableError("the daemon is being upgraded");
    if (found->state != State::kServing) {
      return absl::FailedPreconditionError(
          fmt::format("{}: is just being {}", path.native(),
                      found->state == State::kStarting ? "mounted" : "unmounted"));
    }
    found->state = State::kEnding;
    mount = found->mount.get();
    path = found->view.mountpoint;
  }
  finish(path, *mount);
  return absl::OkStatus();
}

void MountTable::finish(const std::filesystem::path& mountpoint, fusefs::Mount& mount) {
  mount.unmount();
  std::unique_ptr<fusefs::Mount> dead;
  {
    const absl::MutexLock lock(&mutex_);
    Entry& entry = entries_[mountpoint];
    add_counters(past_, mount.stats());
    std::erase(ended_, entry.id);
    dead = std::move(entry.mount);
  }
  // Destroyed outside the lock, and yet before stop() may think that nobody is at work.
  dead.reset();
  const absl::MutexLock lock(&mutex_);
  entries_.erase(mountpoint);
}

void MountTable::set_defaults(const fusefs::MountOptions& defaults) {
  const absl::MutexLock lock(&mutex_);
  defaults_ = defaults;
}

MountTable::Entry* MountTable::find(const std::filesystem::path& path) {
  const auto found = entries_.find(path);
  if (found != entries_.end()) return &found->second;
  for (auto& [mountpoint, entry] : entries_) {
    if (entry.mount != nullptr && entry.mount->mountpoint() == path) return &entry;
  }
  return nullptr;
}

bool MountTable::knows(const std::filesystem::path& path) {
  const absl::MutexLock lock(&mutex_);
  return find(path) != nullptr;
}

std::vector<MountView> MountTable::list() const {
  std::vector<MountView> views;
  const absl::MutexLock lock(&mutex_);
  for (const auto& [mountpoint, entry] : entries_) {
    if (entry.state == State::kServing && !has_ended(entry)) views.push_back(entry.view);
  }
  return views;
}

base::DoorStats MountTable::stats() const {
  const absl::MutexLock lock(&mutex_);
  base::DoorStats sum = past_;
  for (const auto& [mountpoint, entry] : entries_) {
    if (entry.mount == nullptr) continue;
    const base::DoorStats part = entry.mount->stats();
    add_counters(sum, part);
    sum.open += part.open;
  }
  return sum;
}

void MountTable::stop() {
  std::vector<std::pair<std::filesystem::path, fusefs::Mount*>> rest;
  {
    const absl::MutexLock lock(&mutex_);
    stopping_ = true;
    // Whoever mounts or unmounts just now finishes first; the reaper too.
    mutex_.Await(absl::Condition(this, &MountTable::is_settled));
    for (auto& [mountpoint, entry] : entries_) {
      entry.state = State::kEnding;
      rest.emplace_back(mountpoint, entry.mount.get());
    }
  }
  if (reaper_.joinable()) reaper_.join();
  for (const auto& [mountpoint, mount] : rest) finish(mountpoint, *mount);
}

std::vector<std::pair<MountView, fusefs::Mount*>> MountTable::served() const {
  std::vector<std::pair<MountView, fusefs::Mount*>> out;
  const absl::MutexLock lock(&mutex_);
  for (const auto& [mountpoint, entry] : entries_) {
    if (entry.state == State::kServing && !has_ended(entry)) {
      out.emplace_back(entry.view, entry.mount.get());
    }
  }
  return out;
}

absl::Status MountTable::pause(absl::Time deadline) {
  {
    const absl::MutexLock lock(&mutex_);
    paused_ = true;
    if (!mutex_.AwaitWithDeadline(absl::Condition(this, &MountTable::is_settled), deadline)) {
      paused_ = false;
      return absl::DeadlineExceededError("a mount is just being made or taken away");
    }
  }
  for (const auto& [view, mount] : served()) {
    const absl::Status status = mount->pause(deadline);
    if (status.ok()) continue;
    resume();
    return status;
  }
  return absl::OkStatus();
}

void MountTable::resume() {
  for (const auto& [view, mount] : served()) mount->resume();
  const absl::MutexLock lock(&mutex_);
  paused_ = false;
}

std::vector<tree::OpenNode> MountTable::open_objects() const {
  std::vector<tree::OpenNode> all;
  for (const auto& [view, mount] : served()) {
    std::vector<tree::OpenNode> some = mount->open_objects();
    std::move(some.begin(), some.end(), std::back_inserter(all));
  }
  return all;
}

std::vector<dev_t> MountTable::devices() const {
  std::vector<dev_t> all;
  for (const auto& [view, mount] : served()) all.push_back(mount->device());
  return all;
}

void MountTable::watch_callers() {
  for (const auto& [view, mount] : served()) mount->watch_callers();
}

std::vector<pid_t> MountTable::take_callers() {
  std::vector<pid_t> all;
  for (const auto& [view, mount] : served()) {
    const std::vector<pid_t> callers = mount->take_callers();
    all.insert(all.end(), callers.begin(), callers.end());
  }
  return all;
}

absl::StatusOr<std::vector<base::Parcel>> MountTable::hand_over() {
  std::vector<base::Parcel> parcels;
  for (const auto& [view, mount] : served()) {
    absl::StatusOr<base::Parcel> handed = mount->hand_over();
    if (absl::IsFailedPrecondition(handed.status())) continue;  // it has ended
    if (!handed.ok()) return handed.status();
    base::ParcelWriter parcel;
    parcel.add_text(view.mountpoint.native());
    parcel.add_text(view.subtree);
    parcel.add_flag(view.read_only);
    parcel.add_flag(view.no_exec);
    parcel.add_flag(view.writeback_cache);
    parcel.add_parcel(*std::move(handed));
    parcels.push_back(std::move(parcel).take());
  }
  return parcels;
}

absl::Status MountTable::take_over(const base::Parcel& parcel, const TakeOverMount& take_over) {
  base::ParcelReader reader(parcel);
  MountView view;
  view.mountpoint = reader.text();
  view.subtree = reader.text();
  view.read_only = reader.flag();
  view.no_exec = reader.flag();
  view.writeback_cache = reader.flag();
  const base::Parcel handed = reader.parcel();
  BLOBCACHE_RETURN_IF_ERROR(reader.end());
  uint64_t id = 0;
  {
    const absl::MutexLock lock(&mutex_);
    paused_ = true;
    id = next_id_++;
  }
  absl::StatusOr<std::unique_ptr<fusefs::Mount>> mount =
      take_over(handed, [this, id] { on_end(id); });
  if (!mount.ok()) return base::annotate(mount.status(), view.mountpoint.native());
  const absl::MutexLock lock(&mutex_);
  Entry& entry = entries_[view.mountpoint];
  entry.id = id;
  entry.state = State::kServing;
  entry.view = view;
  entry.mount = std::move(*mount);
  return absl::OkStatus();
}

void MountTable::on_end(uint64_t id) {
  const absl::MutexLock lock(&mutex_);
  ended_.push_back(id);
}

bool MountTable::has_ended(const Entry& entry) const {
  return std::find(ended_.begin(), ended_.end(), entry.id) != ended_.end();
}

bool MountTable::work_for_reaper() const {
  if (paused_) return stopping_;
  return stopping_ || std::any_of(entries_.begin(), entries_.end(), [this](const auto& named) {
           mutex_.AssertHeld();
           return named.second.state == State::kServing && has_ended(named.second);
         });
}

bool MountTable::is_settled() const {
  return std::all_of(entries_.begin(), entries_.end(),
                     [](const auto& named) { return named.second.state == State::kServing; });
}

void MountTable::reap() {
  for (;;) {
    std::filesystem::path mountpoint;
    fusefs::Mount* mount = nullptr;
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(this, &MountTable::work_for_reaper));
      if (stopping_) return;
      for (auto& [path, entry] : entries_) {
        if (entry.state != State::kServing || !has_ended(entry)) continue;
        entry.state = State::kEnding;
        mountpoint = path;
        mount = entry.mount.get();
        break;
      }
    }
    spdlog::warn("{}: somebody unmounted it; it is served no more", mountpoint.native());
    finish(mountpoint, *mount);
  }
}

}  // namespace blobcache::server
