#include "test/store/tree/sync_recorder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"

namespace blobcache::tree {
namespace {

namespace fs = std::filesystem;

/// What the recorder cannot do is no finding about the store: the process says so and ends.
[[noreturn]] void give_up(std::string_view what) {
  std::fputs(fmt::format("the recorder of syncs: {}: errno {}\n", what, errno).c_str(), stderr);
  ::_exit(100);
}

void write_file(const fs::path& path, absl::Span<const char> bytes, bool append) {
  const int how = append ? O_APPEND : O_TRUNC;
  const base::UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | how, 0600));
  const ssize_t written = ::write(fd.get(), bytes.data(), bytes.size());
  if (written != static_cast<ssize_t>(bytes.size())) give_up(path.string());
}

/// A kill finds the old file or the new one.
void rename_into_place(const fs::path& path) {
  if (::rename((path.string() + ".new").c_str(), path.c_str()) != 0) give_up(path.string());
}

class SyncRecorder {
 public:
  explicit SyncRecorder(RecordOptions options) : options_(std::move(options)) {
    for (const char* folder : {"data", "names", "links"}) {
      fs::create_directories(options_.record / folder);
    }
    const absl::MutexLock lock(&mutex_);
    record_all();
  }

  int file_or_directory(int fd) {
    struct stat info{};
    if (::fstat(fd, &info) != 0) return -1;
    const bool directory = S_ISDIR(info.st_mode);
    sync(directory ? IgnoredSyncs::kDirectories : IgnoredSyncs::kFiles,
         [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
           directory ? record_names(fd, info.st_ino) : record_data(fd, info);
         });
    return 0;
  }

  int file_system() {
    sync(IgnoredSyncs::kFileSystems,
         [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { record_all(); });
    return 0;
  }

 private:
  /// Enough to see that a file was not changed since it was copied.
  struct Stamp {
    off_t size = -1;
    timespec modified{};
    timespec changed{};
  };

  template <typename Record>
  void sync(IgnoredSyncs kind, const Record& record) {
    const absl::MutexLock lock(&mutex_);
    const bool dies = ++syncs_ == options_.die_at_sync;
    if (dies && !options_.die_after_record) ::raise(SIGKILL);
    if (options_.ignored != kind && options_.ignored != IgnoredSyncs::kAll) record();
    if (dies) ::raise(SIGKILL);
  }

  /// Keeps the inode. False for a file whose last name is gone.
  [[nodiscard]] bool hold(const fs::path& path, uint64_t inode) {
    const fs::path link = link_of(options_.record, inode);
    if (::linkat(AT_FDCWD, path.c_str(), AT_FDCWD, link.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      return true;
    }
    if (errno == EEXIST) return true;
    if (errno != ENOENT) give_up(path.string());
    return false;
  }

  void record_data(int fd, const struct stat& info) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const std::string path = fmt::format("/proc/self/fd/{}", fd);
    // A file that no durable name can lead to.
    if (!hold(path, info.st_ino)) return;
    copy_data(path, info);
  }

  void copy_data(const fs::path& path, const struct stat& info)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const fs::path to = data_of(options_.record, info.st_ino);
    const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) give_up(path.string());
    const std::string unfinished = to.string() + ".new";
    write_file(unfinished, {}, false);
    for (;;) {
      const ssize_t length = ::read(fd.get(), buffer_.data(), buffer_.size());
      if (length < 0) give_up(path.string());
      if (length == 0) break;
      write_file(unfinished, {buffer_.data(), static_cast<size_t>(length)}, true);
    }
    rename_into_place(to);
    note_copied(info);
  }

  /// Time stamps are coarse: one that is younger than a second does not tell a later write apart.
  void note_copied(const struct stat& info) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    const bool tells = now.tv_sec > info.st_ctim.tv_sec + 1 && now.tv_sec > info.st_mtim.tv_sec + 1;
    copied_[info.st_ino] = tells ? Stamp{info.st_size, info.st_mtim, info.st_ctim} : Stamp{};
  }

  [[nodiscard]] bool is_copied(const struct stat& info) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto at = copied_.find(info.st_ino);
    if (at == copied_.end()) return false;
    const auto same = [](const timespec& a, const timespec& b) {
      return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
    };
    return at->second.size == info.st_size && same(at->second.modified, info.st_mtim) &&
           same(at->second.changed, info.st_ctim);
  }

  struct Entry {
    std::string name;
    struct stat info{};
  };

  /// What the directory holds, in no order.
  static std::vector<Entry> list(int fd) {
    // An open directory of its own: the position of `fd` is its owner's.
    DIR* directory = ::fdopendir(::openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory == nullptr) give_up("a directory");
    std::vector<Entry> entries;
    while (const dirent* found = ::readdir(directory)) {
      Entry entry{static_cast<const char*>(found->d_name), {}};
      if (entry.name == "." || entry.name == "..") continue;
      // Another thread may rename or remove it meanwhile; then the sync came after that.
      if (::fstatat(fd, entry.name.c_str(), &entry.info, AT_SYMLINK_NOFOLLOW) == 0) {
        entries.push_back(std::move(entry));
      }
    }
    ::closedir(directory);
    return entries;
  }

  void record_names(int fd, uint64_t inode) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    std::string lines;
    for (const auto& [name, info] : list(fd)) {
      const bool directory = S_ISDIR(info.st_mode);
      if (!directory && !hold(fmt::format("/proc/self/fd/{}/{}", fd, name), info.st_ino)) continue;
      lines += fmt::format("{} {} {}\n", info.st_ino, directory ? 'd' : 'f', name);
    }
    const fs::path to = names_of(options_.record, inode);
    write_file(to.string() + ".new", lines, false);
    rename_into_place(to);
  }

  void record_all() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { record_beneath(options_.store); }

  void record_beneath(const fs::path& path) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const base::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    struct stat here{};
    if (!fd.valid() || ::fstat(fd.get(), &here) != 0) give_up(path.string());
    for (const auto& [name, info] : list(fd.get())) {
      if (S_ISDIR(info.st_mode)) {
        record_beneath(path / name);
      } else if (S_ISREG(info.st_mode) && !is_copied(info) && hold(path / name, info.st_ino)) {
        copy_data(link_of(options_.record, info.st_ino), info);
      }
    }
    record_names(fd.get(), here.st_ino);
  }

  const RecordOptions options_;
  absl::Mutex mutex_;
  uint64_t syncs_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::flat_hash_map<uint64_t, Stamp> copied_ ABSL_GUARDED_BY(mutex_);
  std::vector<char> buffer_ ABSL_GUARDED_BY(mutex_) = std::vector<char>(size_t{1} << 20);
};

/// The functions below have no other way to it. Never destroyed: the process is killed.
SyncRecorder* recorder = nullptr;

}  // namespace

void record_syncs(const RecordOptions& options) {
  recorder = std::make_unique<SyncRecorder>(options).release();
}

fs::path data_of(const fs::path& record, uint64_t inode) {
  return record / "data" / std::to_string(inode);
}
fs::path names_of(const fs::path& record, uint64_t inode) {
  return record / "names" / std::to_string(inode);
}
fs::path link_of(const fs::path& record, uint64_t inode) {
  return record / "links" / std::to_string(inode);
}

}  // namespace blobcache::tree

extern "C" {

int fsync(int fd) {
  using blobcache::tree::recorder;
  return recorder == nullptr ? 0 : recorder->file_or_directory(fd);
}

int fdatasync(int fd) { return fsync(fd); }

int syncfs(int /*fd*/) noexcept {
  using blobcache::tree::recorder;
  return recorder == nullptr ? 0 : recorder->file_system();
}
}
