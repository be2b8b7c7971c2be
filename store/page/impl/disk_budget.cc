#include "store/page/impl/disk_budget.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <algorithm>

#include "base/size.h"

namespace blobcache::page {
namespace {

uint64_t free_bytes(const std::filesystem::path& path) {
  struct statvfs info{};
  if (::statvfs(path.c_str(), &info) != 0) return UINT64_MAX;  // the write itself will tell
  return uint64_t{info.f_bavail} * info.f_frsize;
}

FileSystemState state_of(const std::filesystem::path& path) {
  struct statvfs info{};
  if (::statvfs(path.c_str(), &info) != 0) return {};  // the creation itself will tell
  return {uint64_t{info.f_blocks} * info.f_frsize, info.f_files, info.f_favail};
}

/// Data and page map.
constexpr uint64_t kFilesOfAnObject = 2;
/// What the store makes beside objects and asks nobody for: marks, the catalog's journals.
constexpr uint64_t kOwnFiles = 4;
constexpr int kReclaimTries = 4;

}  // namespace

bool has_inodes(const FileSystemState& state, uint64_t reserve_bytes, uint64_t wanted) {
  if (state.inodes == 0) return true;
  const double share =
      state.bytes == 0 ? 0 : static_cast<double>(reserve_bytes) / static_cast<double>(state.bytes);
  const auto kept = static_cast<uint64_t>(std::min(share, 1.0) * static_cast<double>(state.inodes));
  return state.free_inodes >= kept + wanted;
}

bool DiskBudget::inodes_left(uint64_t files) const {
  return has_inodes(state_of(path_), reserve_bytes_, files);
}

absl::Status DiskBudget::check_inodes() {
  const auto enough = [this] {
    return has_inodes(state_of(path_), reserve_bytes_, kFilesOfAnObject + kOwnFiles);
  };
  while (!enough()) {
    if (reclaim_files()) continue;
    if (enough()) break;
    const FileSystemState state = state_of(path_);
    return absl::ResourceExhaustedError(
        fmt::format("the file system of {} is short of inodes: {} of {} free, and as large a share "
                    "of them is reserve as of its bytes",
                    path_.string(), state.free_inodes, state.inodes));
  }
  return absl::OkStatus();
}

bool DiskBudget::take(uint64_t bytes, Retention retention) {
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&fills_known_));
  if (!fits(bytes)) return false;
  (retention == Retention::kKept ? kept_ : cached_) += bytes;
  unsettled_ += bytes;
  return true;
}

bool DiskBudget::fits(uint64_t bytes) const {
  const uint64_t used = kept_ + cached_ + filled_;
  return used <= budget_bytes_ && bytes <= budget_bytes_ - used;
}

bool DiskBudget::take_fill(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  if (!fits(bytes)) return false;
  filled_ += bytes;
  return true;
}

void DiskBudget::release_fill(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  filled_ -= std::min(filled_, bytes);
}

void DiskBudget::await_fills() {
  absl::MutexLock lock(&mutex_);
  fills_known_ = false;
}

void DiskBudget::fills_known() {
  absl::MutexLock lock(&mutex_);
  fills_known_ = true;
}

void DiskBudget::correct_fill(int64_t bytes) {
  absl::MutexLock lock(&mutex_);
  if (bytes >= 0) {
    filled_ += static_cast<uint64_t>(bytes);
  } else {
    filled_ -= std::min(filled_, static_cast<uint64_t>(-bytes));
  }
}

uint64_t DiskBudget::short_of_space(uint64_t bytes) const {
  const uint64_t free = free_bytes(path_);
  absl::MutexLock lock(&mutex_);
  const uint64_t wanted = reserve_bytes_ + unsettled_ + bytes;
  return free >= wanted ? 0 : wanted - free;
}

bool DiskBudget::reclaim_files() {
  // Some more than are wanted now, since the next put wants as many.
  constexpr uint64_t kAtOnce = 16 * kFilesOfAnObject;
  absl::MutexLock lock(&reclaimer_mutex_);
  if (fill_reclaimer_ != nullptr && fill_reclaimer_->reclaim_files(kAtOnce) > 0) return true;
  return reclaimer_ != nullptr && reclaimer_->reclaim_files(kFilesOfAnObject) > 0;
}

void DiskBudget::reclaim_blobs(uint64_t bytes) {
  // Who holds it may be waiting for the caller's thread.
  if (!reclaimer_mutex_.TryLock()) return;
  if (reclaimer_ != nullptr) reclaimer_->reclaim(bytes);
  reclaimer_mutex_.Unlock();
}

void DiskBudget::settled(uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  unsettled_ -= std::min(unsettled_, bytes);
}

uint64_t DiskBudget::reclaim(uint64_t bytes) {
  absl::MutexLock lock(&reclaimer_mutex_);
  const uint64_t filled = fill_reclaimer_ == nullptr ? 0 : fill_reclaimer_->reclaim(bytes);
  if (filled >= bytes || reclaimer_ == nullptr) return filled;
  return filled + reclaimer_->reclaim(bytes - filled);
}

absl::Status DiskBudget::reserve(uint64_t bytes, Retention retention) {
  uint64_t lacking = short_of_space(bytes);
  // What was given up may have been taken by somebody else meanwhile, or be free only when who has
  // it open lets go: so more than once, and not until nothing is left.
  for (int tries = 0; lacking > 0 && tries < kReclaimTries; ++tries) {
    const uint64_t given_up = reclaim(lacking);
    lacking = short_of_space(bytes);
    if (given_up == 0) break;
  }
  if (lacking > 0) {
    return absl::ResourceExhaustedError(fmt::format(
        "the file system of {} is full: {} free, {} of them are reserve", path_.string(),
        base::format_size(free_bytes(path_)), base::format_size(reserve_bytes_)));
  }
  while (!take(bytes, retention)) {
    const Usage now = usage();
    const uint64_t wanted = now.used + bytes > now.budget ? now.used + bytes - now.budget : bytes;
    if (reclaim(wanted) > 0) continue;
    if (take(bytes, retention)) break;
    return absl::ResourceExhaustedError(
        fmt::format("the disk budget of {} is full: {} kept, {} cached, {} more wanted",
                    base::format_size(now.budget), base::format_size(now.kept),
                    base::format_size(now.used - now.kept), base::format_size(bytes)));
  }
  return absl::OkStatus();
}

void DiskBudget::release(uint64_t bytes, Retention retention) {
  absl::MutexLock lock(&mutex_);
  uint64_t& account = retention == Retention::kKept ? kept_ : cached_;
  account -= std::min(account, bytes);
}

void DiskBudget::restore(uint64_t kept_bytes, uint64_t cached_bytes) {
  absl::MutexLock lock(&mutex_);
  kept_ = kept_bytes;
  cached_ = cached_bytes;
}

void DiskBudget::change(Retention from, Retention to, uint64_t bytes) {
  absl::MutexLock lock(&mutex_);
  uint64_t& source = from == Retention::kKept ? kept_ : cached_;
  const uint64_t moved = std::min(source, bytes);
  source -= moved;
  (to == Retention::kKept ? kept_ : cached_) += moved;
}

void DiskBudget::set_fill_reclaimer(DiskReclaimer* reclaimer) {
  absl::MutexLock lock(&reclaimer_mutex_);
  fill_reclaimer_ = reclaimer;
}

void DiskBudget::set_reclaimer(DiskReclaimer* reclaimer) {
  absl::MutexLock lock(&reclaimer_mutex_);
  reclaimer_ = reclaimer;
}

DiskBudget::Usage DiskBudget::usage() const {
  Usage usage;
  usage.budget = budget_bytes_;
  usage.reserve = reserve_bytes_;
  usage.free = free_bytes(path_);
  absl::MutexLock lock(&mutex_);
  usage.kept = kept_;
  usage.filled = filled_;
  usage.used = kept_ + cached_ + filled_;
  return usage;
}

}  // namespace blobcache::page
