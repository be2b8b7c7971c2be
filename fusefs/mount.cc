#include "fusefs/mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "fusefs/impl/fuse.h"
#include "fusefs/impl/fuse_log.h"
#include "fusefs/impl/invalidator.h"
#include "fusefs/impl/mount_parcel.h"
#include "fusefs/impl/mountpoint.h"
#include "fusefs/impl/operations.h"
#include "fusefs/impl/request_gate.h"
#include "fusefs/impl/threads.h"
#include "fusefs/impl/write_rules.h"
#include "store/page/geometry.h"
#include "store/tree/path.h"

namespace blobcache::fusefs {
namespace {

// A digest means the same bytes for ever, and when a blob is removed the kernel is told.
constexpr absl::Duration kImmutableTimeout = absl::Hours(24);

struct SessionDelete {
  void operator()(fuse_session* session) const { fuse_session_destroy(session); }
};
using Session = std::unique_ptr<fuse_session, SessionDelete>;

struct LoopConfigDelete {
  void operator()(fuse_loop_config* config) const { fuse_loop_cfg_destroy(config); }
};
using LoopConfig = std::unique_ptr<fuse_loop_config, LoopConfigDelete>;

absl::Status check_options(const MountOptions& options) {
  const auto bad = [](std::string_view why) {
    return base::error(absl::StatusCode::kInvalidArgument, fmt::format("fuse: {}", why));
  };
  if (options.max_request_bytes < page::kPageSize ||
      options.max_request_bytes > page::Object::kMaxRead ||
      options.max_request_bytes % page::kPageSize != 0) {
    return bad("max_request must be 4KiB to 1MiB, in whole pages");
  }
  if (options.max_background < 1 || options.max_background > 65535) {
    return bad("max_background must be 1 to 65535");
  }
  if (options.entry_timeout < absl::ZeroDuration() ||
      options.negative_timeout < absl::ZeroDuration()) {
    return bad("timeouts must not be negative");
  }
  return options.writeback_cache ? check_writeback(options.subtree, options.read_only)
                                 : absl::OkStatus();
}

/// The directory that a mount shows as its root.
absl::StatusOr<tree::NodeId> find_root(tree::Namespace& names, const std::string& subtree) {
  if (subtree.empty()) return tree::kRootNode;
  const auto refused = [&subtree](absl::StatusCode code, std::string_view why) {
    return base::error(code, fmt::format("subtree {}: {}", tree::printable(subtree), why));
  };
  const absl::StatusOr<tree::Node> found = names.resolve(subtree);
  if (absl::IsNotFound(found.status())) {
    return refused(absl::StatusCode::kNotFound, "there is no such directory in the tree");
  }
  if (!found.ok()) return base::annotate(found.status(), "subtree");
  switch (found->type) {
    case tree::NodeType::kDirectory:
      return found->id;
    case tree::NodeType::kSymlink:
      return refused(absl::StatusCode::kFailedPrecondition,
                     "it is a symbolic link, which is not followed");
    case tree::NodeType::kFile:
    case tree::NodeType::kImage:
      break;
  }
  return refused(absl::StatusCode::kFailedPrecondition, "it is not a directory");
}

/// Workers copy bytes and ask the catalog, and half of them at most wait for the disk: a few more
/// than there are processors.
unsigned worker_count() { return std::clamp(2 * std::thread::hardware_concurrency(), 4U, 32U); }

}  // namespace

/// The life of a mount: session, loop thread with libfuse's workers, invalidator.
class MountImpl final : public Mount, private KernelCache {
 public:
  MountImpl(const MountOptions& options, std::filesystem::path mountpoint, tree::Namespace& names,
            const Operations::Places& places, std::function<void()> on_end, std::string device = "")
      : options_(options),
        mountpoint_(std::move(mountpoint)),
        names_(names),
        root_(places.root),
        on_end_(std::move(on_end)),
        invalidator_(*this),
        operations_(
            names, places, invalidator_,
            Timeouts{options.entry_timeout, options.negative_timeout,
                     std::max(options.entry_timeout, kImmutableTimeout)},
            Operations::Limits{static_cast<uint32_t>(options.max_request_bytes),
                               options.max_background, options.async_direct, options.read_only,
                               options.passthrough, worker_count() / 2, options.writeback_cache}),
        device_(std::move(device)) {}
  ~MountImpl() override { unmount(); }

  [[nodiscard]] absl::Status mount();
  [[nodiscard]] absl::Status go_on(base::ParcelReader& parcel);
  void unmount() override;
  absl::Status pause(absl::Time deadline) override;
  void resume() override;
  std::vector<tree::OpenNode> open_objects() const override { return operations_.open_objects(); }
  absl::StatusOr<base::Parcel> hand_over() override;
  void watch_callers() override { operations_.gate().watch_callers(); }
  std::vector<pid_t> take_callers() override { return operations_.gate().take_callers(); }
  dev_t device() const override { return parse_device(device_); }
  [[nodiscard]] const std::filesystem::path& mountpoint() const override { return mountpoint_; }
  [[nodiscard]] base::DoorStats stats() const override { return operations_.stats(); }

 private:
  enum class State : uint8_t { kServing, kEnded, kUnmounting };

  [[nodiscard]] absl::Status make_session();
  [[nodiscard]] absl::Status mount_session();
  [[nodiscard]] absl::Status read_through_gate(int device);
  void start_threads();
  [[nodiscard]] absl::Status wait_until_served();
  void serve();
  void write_mappings_back();
  void end_loop();
  [[nodiscard]] bool break_session();
  void detach();
  void raise_readahead() const;
  void forget_name(tree::NodeId parent, const std::string& name) override;
  void forget_content(tree::NodeId file, uint64_t offset, uint64_t length) override;
  void forget_all() override;

  const MountOptions options_;
  const std::filesystem::path mountpoint_;
  tree::Namespace& names_;
  const tree::NodeId root_;
  const std::function<void()> on_end_;
  Invalidator invalidator_;
  Operations operations_;
  const WakeSignal wake_signal_;
  Session session_;     // set before the threads start, reset after they have ended
  std::string device_;  // "MAJOR:MINOR", to know our mount from another at the same path
  std::atomic<State> state_{State::kServing};
  absl::Notification loop_ended_;
  std::thread loop_;
  absl::Mutex unmount_mutex_;  // held for the whole of unmount(), pause() and hand_over()
  bool unmounted_ ABSL_GUARDED_BY(unmount_mutex_) = false;
};

absl::StatusOr<std::unique_ptr<Mount>> Mount::start(const MountOptions& options,
                                                    tree::Namespace& names,
                                                    std::function<void()> on_end) {
  BLOBCACHE_RETURN_IF_ERROR(check_options(options));
  route_fuse_log();
  std::filesystem::path mountpoint;
  BLOBCACHE_ASSIGN_OR_RETURN(mountpoint, prepare_mountpoint(options.mountpoint));
  BLOBCACHE_RETURN_IF_ERROR(check_fuse_device());
  Operations::Places places{};
  BLOBCACHE_ASSIGN_OR_RETURN(places.root, find_root(names, options.subtree));
  tree::Node blobs;
  BLOBCACHE_ASSIGN_OR_RETURN(blobs, names.resolve("blobs"));
  places.blobs = blobs.id;
  auto mount =
      std::make_unique<MountImpl>(options, std::move(mountpoint), names, places, std::move(on_end));
  BLOBCACHE_RETURN_IF_ERROR(mount->mount());
  return mount;
}

absl::Status MountImpl::make_session() {
  // The kernel checks modes and owners itself (default_permissions), from attributes that it has.
  const std::string words = fmt::format(
      "-o{},noatime{},fsname=blobcache,subtype=blobcache,default_permissions,max_read={}{}",
      options_.read_only ? "ro" : "rw", options_.no_exec ? ",noexec" : "",
      options_.max_request_bytes, options_.allow_other ? ",allow_other" : "");
  fuse_args arguments = FUSE_ARGS_INIT(0, nullptr);
  const std::unique_ptr<fuse_args, decltype(&fuse_opt_free_args)> owner(&arguments,
                                                                        &fuse_opt_free_args);
  const FuseLogCapture said;
  if (fuse_opt_add_arg(&arguments, "blobcached") == 0 &&
      fuse_opt_add_arg(&arguments, words.c_str()) == 0) {
    session_.reset(fuse_session_new(&arguments, &Operations::table(), sizeof(fuse_lowlevel_ops),
                                    &operations_));
  }
  if (session_ == nullptr) {
    return base::error(absl::StatusCode::kInternal,
                       fmt::format("cannot make a FUSE session: {}", said.text()));
  }
  return absl::OkStatus();
}

absl::Status MountImpl::mount_session() {
  const FuseLogCapture said;
  if (fuse_session_mount(session_.get(), mountpoint_.c_str()) == 0) return absl::OkStatus();
  const bool denied = said.text().find(std::strerror(EPERM)) != std::string::npos;
  return base::error(denied ? absl::StatusCode::kPermissionDenied : absl::StatusCode::kUnavailable,
                     fmt::format("cannot mount at {}: {}", mountpoint_.string(),
                                 said.text().empty() ? "see what fusermount3 said" : said.text()));
}

/// Has libfuse read requests from the device and write answers to it through the gate.
absl::Status MountImpl::read_through_gate(int device) {
  fuse_custom_io calls = {};
  calls.read = [](int from, void* into, size_t size, void* operations) {
    return static_cast<Operations*>(operations)->gate().read(from, into, size);
  };
  calls.writev = [](int to, iovec* pieces, int count, void* operations) {
    return static_cast<Operations*>(operations)->gate().write(to, pieces, count);
  };
  operations_.attach(device);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
  // Which would not clone the device by itself any more.
  calls.clone_fd = &RequestGate::clone_device;
  const int taken = fuse_session_custom_io_317(session_.get(), &calls, sizeof(calls), device);
#else
  const int taken = fuse_session_custom_io(session_.get(), &calls, device);
#endif
  if (taken == 0) return absl::OkStatus();
  return absl::InternalError("libfuse takes no calls of ours");
}

absl::Status MountImpl::mount() {
  BLOBCACHE_RETURN_IF_ERROR(make_session());
  BLOBCACHE_RETURN_IF_ERROR(mount_session());
  BLOBCACHE_RETURN_IF_ERROR(read_through_gate(fuse_session_fd(session_.get())));
  std::optional<MountEntry> entry;
  BLOBCACHE_ASSIGN_OR_RETURN(entry, mounted_at(mountpoint_));
  if (entry.has_value()) device_ = entry->device;
  start_threads();
  BLOBCACHE_RETURN_IF_ERROR(wait_until_served());
  raise_readahead();
  return absl::OkStatus();
}

void MountImpl::start_threads() {
  names_.add_listener(&invalidator_);
  invalidator_.start();
  loop_ = std::thread([this] {
    prepare_thread("fuse");
    wake_signal_.admit();
    serve();
  });
}

absl::Status MountImpl::wait_until_served() {
  while (!operations_.initialised().WaitForNotificationWithTimeout(absl::Milliseconds(50))) {
    if (loop_ended_.HasBeenNotified()) {
      return base::error(
          absl::StatusCode::kUnavailable,
          fmt::format("mount at {} ended before it was served; see the log", mountpoint_.string()));
    }
  }
  return absl::OkStatus();
}

void MountImpl::raise_readahead() const {
  // The kernel starts a mount at 128 KiB. Two requests' worth, so that the disk or the network does
  // one while the answer to the other is copied. Best effort: a container may not write here.
  std::ofstream file(fmt::format("/sys/class/bdi/{}/read_ahead_kb", device_));
  file << 2 * options_.max_request_bytes / 1024 << std::flush;
  if (!file) spdlog::debug("fuse: cannot raise the readahead of {}", mountpoint_.string());
}

void MountImpl::serve() {
  const LoopConfig config(fuse_loop_cfg_create());
  fuse_loop_cfg_set_clone_fd(config.get(), 1);
  fuse_loop_cfg_set_max_threads(config.get(), worker_count());
  const int result = fuse_session_loop_mt(session_.get(), config.get());
  loop_ended_.Notify();
  State serving = State::kServing;
  if (!state_.compare_exchange_strong(serving, State::kEnded)) return;
  if (result != 0) {
    spdlog::error("fuse: mount at {} failed: {}", mountpoint_.string(), std::strerror(-result));
  } else {
    spdlog::info("fuse: {} was unmounted", mountpoint_.string());
  }
  operations_.shut_down();
  if (on_end_) on_end_();
}

void MountImpl::unmount() {
  if (std::this_thread::get_id() == loop_.get_id()) return;  // from on_end
  absl::MutexLock lock(&unmount_mutex_);
  if (std::exchange(unmounted_, true)) return;
  State serving = State::kServing;
  state_.compare_exchange_strong(serving, State::kUnmounting);
  if (session_ == nullptr) return;
  // While the kernel is still served: the invalidator may wait for a directory whose reader waits
  // for us, or for pages. No read waits for a source any more, which may not answer.
  names_.remove_listener(&invalidator_);
  operations_.end_reads();
  invalidator_.stop();
  write_mappings_back();
  end_loop();
  operations_.shut_down();
  detach();
}

/// Has the kernel write what processes changed through shared mappings, the only bytes that it has
/// and we have not. To forget a file's pages it writes them and waits for that.
void MountImpl::write_mappings_back() {
  if (loop_ended_.HasBeenNotified()) return;
  for (const tree::NodeId file : operations_.written_nodes()) forget_content(file, 0, 0);
}

/// Ends the workers: they finish the requests that they have and take no more.
void MountImpl::end_loop() {
  if (!loop_.joinable()) return;
  operations_.gate().close();  // libfuse drops what is read once it was told to exit
  fuse_session_exit(session_.get());
  operations_.gate().dismiss();
  do {  // again, since it may have been just about to wait
    wake_signal_.send(loop_.native_handle());
  } while (!loop_ended_.WaitForNotificationWithTimeout(absl::Milliseconds(10)));
  loop_.join();
}

/// libfuse would unmount by path, whatever is mounted there by now, unless it sees the connection
/// broken. So what it sees is a broken pipe. False when there is none to be had.
bool MountImpl::break_session() {
  std::array<int, 2> ends = {-1, -1};
  if (fuse_session_fd(session_.get()) < 0 || ::pipe2(ends.data(), O_CLOEXEC) != 0) return false;
  base::UniqueFd read_end(ends[0]);
  const base::UniqueFd broken(ends[1]);
  read_end.reset();
  return ::dup3(broken.get(), fuse_session_fd(session_.get()), O_CLOEXEC) >= 0;
}

/// Closes the connection, so that who waits for an answer gets an error, and takes the mount out of
/// the tree of files whether or not it is in use.
void MountImpl::detach() {
  static_cast<void>(break_session());
  fuse_session_unmount(session_.get());
  session_.reset();
  // Ours is dead now; a live one, even with the same device number, is somebody else's.
  const auto there = mounted_at(mountpoint_);
  if (!there.ok() || !there->has_value() || (*there)->device != device_) return;
  if (!is_dead_mount(mountpoint_)) return;
  const absl::Status status = detach_mount(mountpoint_);
  if (!status.ok()) {
    spdlog::warn("fuse: cannot unmount {}: {}", mountpoint_.string(), base::message(status));
  }
}

// Handing over.

absl::Status MountImpl::pause(absl::Time deadline) {
  // Changes that other doors have just made are told first, as far as that goes quickly.
  constexpr absl::Duration kPatience = absl::Milliseconds(200);
  const absl::MutexLock lock(&unmount_mutex_);
  if (unmounted_) return absl::OkStatus();
  // While the kernel is served: what it is told may wait for an answer of ours.
  const bool is_quiet = invalidator_.pause(kPatience, deadline);
  if (is_quiet) operations_.gate().close();
  if (is_quiet && operations_.wait_until_answered(deadline)) return absl::OkStatus();
  resume();
  return base::error(absl::StatusCode::kDeadlineExceeded,
                     fmt::format("{}: requests are under way that were not answered in time; they "
                                 "may wait for an origin or the disk",
                                 mountpoint_.string()));
}

void MountImpl::resume() {
  operations_.gate().open();
  invalidator_.resume();
}

absl::StatusOr<base::Parcel> MountImpl::hand_over() {
  const absl::MutexLock lock(&unmount_mutex_);
  if (unmounted_ || loop_ended_.HasBeenNotified()) {
    return absl::FailedPreconditionError("the mount has ended");
  }
  base::UniqueFd device(::fcntl(fuse_session_fd(session_.get()), F_DUPFD_CLOEXEC, 0));
  if (!device.valid()) return base::errno_error(errno, "the mount's descriptor");
  unmounted_ = true;
  State serving = State::kServing;
  state_.compare_exchange_strong(serving, State::kUnmounting);
  names_.remove_listener(&invalidator_);
  base::ParcelWriter parcel;
  add_options(parcel, options_);
  parcel.add_text(mountpoint_.native());
  parcel.add_text(device_);
  parcel.add_number(root_);
  parcel.add_descriptor(std::move(device));
  const RequestGate::Agreement agreement = operations_.gate().agreement();
  parcel.add_text(agreement.request);
  parcel.add_text(agreement.answer);
  parcel.add_flag(invalidator_.has_news());
  operations_.hand_over(parcel);
  end_loop();
  invalidator_.stop();
  // The connection lives by the descriptor in the parcel; libfuse lets go of what else it has.
  if (break_session()) fuse_session_unmount(session_.get());
  return std::move(parcel).take();
}

/// The parcel, from the descriptor on.
absl::Status MountImpl::go_on(base::ParcelReader& parcel) {
  const absl::MutexLock lock(&unmount_mutex_);
  unmounted_ = true;  // until all is well it is not ours to unmount
  base::UniqueFd device = parcel.descriptor();
  RequestGate::Agreement agreement;
  agreement.request = parcel.text();
  agreement.answer = parcel.text();
  const bool has_news = parcel.flag();
  BLOBCACHE_RETURN_IF_ERROR(operations_.take_over(parcel));
  BLOBCACHE_RETURN_IF_ERROR(parcel.end());
  if (!device.valid()) return absl::DataLossError("has no descriptor");
  operations_.gate().close();
  static_cast<void>(invalidator_.pause(absl::ZeroDuration(), absl::InfiniteFuture()));
  if (has_news) invalidator_.forget_all();
  BLOBCACHE_RETURN_IF_ERROR(make_session());
  BLOBCACHE_RETURN_IF_ERROR(read_through_gate(device.get()));
  static_cast<void>(device.release());  // the session's
  BLOBCACHE_RETURN_IF_ERROR(operations_.gate().agree_again(*session_, agreement));
  start_threads();
  unmounted_ = false;
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Mount>> Mount::take_over(const base::Parcel& parcel,
                                                        tree::Namespace& names,
                                                        std::function<void()> on_end) {
  route_fuse_log();
  base::ParcelReader reader(parcel);
  const MountOptions options = read_options(reader);
  std::filesystem::path mountpoint = reader.text();
  std::string device = reader.text();
  Operations::Places places{};
  places.root = reader.number();
  BLOBCACHE_RETURN_IF_ERROR(reader.status());
  BLOBCACHE_RETURN_IF_ERROR(check_options(options));
  tree::Node blobs;
  BLOBCACHE_ASSIGN_OR_RETURN(blobs, names.resolve("blobs"));
  places.blobs = blobs.id;
  auto mount = std::make_unique<MountImpl>(options, std::move(mountpoint), names, places,
                                           std::move(on_end), std::move(device));
  BLOBCACHE_RETURN_IF_ERROR(mount->go_on(reader));
  return mount;
}

void MountImpl::forget_name(tree::NodeId parent, const std::string& name) {
  // Errors say that the kernel does not know the name or the directory, or that the mount has
  // ended.
  const fuse_ino_t directory = operations_.inode_of(parent);
  fuse_lowlevel_notify_inval_entry(session_.get(), directory, name.data(), name.size());
  constexpr off_t kAttributesOnly = -1;
  fuse_lowlevel_notify_inval_inode(session_.get(), directory, kAttributesOnly, 0);
}

void MountImpl::forget_content(tree::NodeId file, uint64_t offset, uint64_t length) {
  // An end beyond what the kernel can count is "to the end".
  constexpr uint64_t kMost = std::numeric_limits<off_t>::max();
  const uint64_t begin = std::min(offset, kMost);
  const uint64_t counted = length > kMost - begin ? 0 : length;
  fuse_lowlevel_notify_inval_inode(session_.get(), file, static_cast<off_t>(begin),
                                   static_cast<off_t>(counted));
}

void MountImpl::forget_all() {
  for (const tree::NodeId file : operations_.open_nodes()) forget_content(file, 0, 0);
  // Of an origin's names nobody tells us, and to list them may wait for it.
  if (names_.waits(root_)) return;
  // A directory that is forgotten takes with it all that lies beneath. What is no name of the root
  // any more is not listed: the kernel may show it until its time is over.
  constexpr size_t kAtOnce = 1024;
  uint64_t cookie = 0;
  while (state_.load() == State::kServing) {
    const auto entries = names_.list(root_, cookie, kAtOnce);
    if (!entries.ok()) return;
    for (const tree::NamedNode& entry : *entries) forget_name(root_, entry.name);
    if (entries->size() < kAtOnce) return;
    cookie = entries->back().cookie;
  }
}

}  // namespace blobcache::fusefs
