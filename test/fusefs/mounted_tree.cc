#include "test/fusefs/mounted_tree.h"

#include <unistd.h>

#include <cerrno>

#include "base/status.h"
#include "fusefs/impl/mountpoint.h"

namespace blobcache::fusefs {
namespace {

std::unique_ptr<page::PageStore> open_store(const std::filesystem::path& path) {
  std::filesystem::create_directory(path);
  page::PageStoreOptions options;
  options.path = path;
  options.memory_bytes = uint64_t{64} << 20;
  options.disk_bytes = uint64_t{1} << 30;
  auto store = page::PageStore::open(options);
  if (!store.ok()) throw std::runtime_error(std::string(base::message(store.status())));
  (*store)->restore_usage(0, 0);
  return *std::move(store);
}

}  // namespace

bool can_mount() {
  const absl::Status device = check_fuse_device();
  if (device.ok() && ::geteuid() == 0) return true;
  MESSAGE("SKIP: cannot mount here: ", device.ok() ? "not root" : base::message(device));
  return false;
}

MountedTree::MountedTree(const std::function<void(MountOptions&)>& adjust)
    : mountpoint_(std::filesystem::canonical(dir_.path()) / "mnt"),
      store_(open_store(dir_.path() / "store")),
      tree_(*store_) {
  std::filesystem::create_directory(mountpoint_);
  MountOptions options = options_for(mountpoint_);
  adjust(options);
  auto mount = Mount::start(options, tree_, [this] { ended_.Notify(); });
  if (!mount.ok()) throw std::runtime_error(std::string(base::message(mount.status())));
  mount_ = *std::move(mount);
}

MountedTree::~MountedTree() {
  mount_.reset();
  const auto left = mounted_at(mountpoint_);
  CHECK(left.ok());
  CHECK_FALSE(left->has_value());
}

MountOptions MountedTree::options_for(const std::filesystem::path& mountpoint) {
  MountOptions options;
  options.mountpoint = mountpoint;
  options.entry_timeout = absl::Hours(1);
  options.negative_timeout = absl::Hours(1);
  return options;
}

base::UniqueFd open_file(const std::filesystem::path& path, int flags) {
  base::UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  REQUIRE_MESSAGE(fd.valid(), path.string(), ": errno ", errno);
  return fd;
}

std::string read_at(int fd, uint64_t offset, uint64_t length) {
  std::string out(length, '\0');
  const ssize_t got = ::pread(fd, out.data(), length, static_cast<off_t>(offset));
  if (got < 0) return "errno " + std::to_string(errno);
  out.resize(static_cast<size_t>(got));
  return out;
}

int error_of(int64_t result) { return result == -1 ? errno : 0; }

}  // namespace blobcache::fusefs
