#include "blockdev/ublk_devices.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "blockdev/export_filter.h"
#include "blockdev/impl/device.h"
#include "blockdev/impl/export_directory.h"
#include "blockdev/impl/tree_exports.h"
#include "blockdev/impl/ublk_control.h"
#include "blockdev/impl/ublk_protocol.h"
#include "blockdev/impl/ublk_queue.h"

namespace blobcache::blockdev {
namespace {

constexpr uint16_t kDepth = 64;
constexpr uint16_t kMaxQueues = 4;
/// Of a request; no more than a device reads or writes at once.
constexpr uint32_t kMaxBytes = 256U << 10;
static_assert(kMaxBytes <= Device::kMaxRead && kMaxBytes <= Device::kMaxWrite);
/// Of a discard or of zeroes, which move no bytes.
constexpr uint32_t kMaxZeroes = 1U << 30;
constexpr uint8_t kSectorShift = 9;
constexpr absl::Duration kNotice = absl::Seconds(10);
constexpr uint8_t kPageShift = 12;
constexpr uint64_t kNeeded = UBLK_F_CMD_IOCTL_ENCODE | UBLK_F_USER_COPY;
constexpr uint64_t kFlags = kNeeded | UBLK_F_USER_RECOVERY | UBLK_F_USER_RECOVERY_REISSUE;

/// The driver keeps 64 bits for its server. Ours say that a device is ours, in the upper 16, and
/// what it shows, by 48 bits of the device's identity: enough to find a mistake, such as a name
/// that was bound anew, and not meant for more, since it takes root to say what a device is to
/// show.
constexpr uint64_t kOurMark = uint64_t{0xb10b} << 48;
constexpr uint64_t kMarkMask = uint64_t{0xffff} << 48;

uint64_t mark_of(const Device& device) { return kOurMark | (device.identity() & ~kMarkMask); }

bool is_ours(const ublksrv_ctrl_dev_info& info) {
  return (info.ublksrv_flags & kMarkMask) == kOurMark;
}

absl::StatusOr<base::UniqueFd> open_device(uint32_t id) {
  const std::string path = fmt::format("/dev/ublkc{}", id);
  base::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return base::errno_error(errno, path);
  return fd;
}

/// Whether a process is there to serve.
bool lives(pid_t pid) { return pid > 0 && (::kill(pid, 0) == 0 || errno == EPERM); }

/// The driver notices a moment after the process has gone.
absl::Status await_abandoned(UblkControl& control, ublksrv_ctrl_dev_info info) {
  const absl::Time deadline = absl::Now() + kNotice;
  while (info.state == UBLK_S_DEV_LIVE) {
    if (lives(info.ublksrv_pid) || absl::Now() >= deadline) {
      return absl::AlreadyExistsError("the device is in use");
    }
    absl::SleepFor(absl::Milliseconds(20));
    BLOBCACHE_ASSIGN_OR_RETURN(info, control.info(info.dev_id));
  }
  return absl::OkStatus();
}

/// One device and what serves it.
struct Served {
  UblkInfo info;
  DeviceRef device;
  base::UniqueFd file;  // outlives the queues
  std::vector<std::unique_ptr<UblkQueue>> queues;
};

class Devices final : public UblkDevices {
 public:
  Devices(tree::Namespace& names, ExportFilter filter) : exports_(names, std::move(filter), "") {}

  absl::StatusOr<UblkInfo> attach(const std::string& path, std::optional<uint32_t> id) override;
  absl::Status detach(uint32_t id) override;
  std::vector<UblkGrowth> grow(const std::string& path) override ABSL_LOCKS_EXCLUDED(list_mutex_);
  std::vector<UblkInfo> list() override ABSL_LOCKS_EXCLUDED(list_mutex_);

 private:
  /// After each change of devices_.
  void publish() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) ABSL_LOCKS_EXCLUDED(list_mutex_);
  static absl::StatusOr<UblkInfo> make(UblkControl& control, const OpenExport& opened,
                                       std::optional<uint32_t> id, Served& served);
  static absl::StatusOr<UblkInfo> recover(UblkControl& control, const OpenExport& opened,
                                          const ublksrv_ctrl_dev_info& info, Served& served);
  /// Nothing when the device shows all of it already.
  static std::optional<UblkGrowth> grow(UblkControl& control, uint64_t features, Served& served);
  static absl::Status serve(const OpenExport& opened, const ublksrv_ctrl_dev_info& info,
                            Served& served);

  TreeExports exports_;
  absl::Mutex mutex_;
  std::map<uint32_t, Served> devices_ ABSL_GUARDED_BY(mutex_);
  /// What list() tells, which must not wait while the driver is waited for. Taken after mutex_.
  absl::Mutex list_mutex_;
  std::vector<UblkInfo> listed_ ABSL_GUARDED_BY(list_mutex_);
};

std::vector<UblkInfo> Devices::list() {
  const absl::MutexLock lock(&list_mutex_);
  return listed_;
}

void Devices::publish() {
  std::vector<UblkInfo> all;
  all.reserve(devices_.size());
  for (const auto& [id, served] : devices_) all.push_back(served.info);
  const absl::MutexLock lock(&list_mutex_);
  listed_ = std::move(all);
}

absl::Status Devices::serve(const OpenExport& opened, const ublksrv_ctrl_dev_info& info,
                            Served& served) {
  served.device = opened.device;
  BLOBCACHE_ASSIGN_OR_RETURN(served.file, open_device(info.dev_id));
  for (uint16_t queue = 0; queue < info.nr_hw_queues; ++queue) {
    const UblkQueue::Place place{
        .device = served.file.get(), .queue = queue, .depth = info.queue_depth};
    BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<UblkQueue> started,
                               UblkQueue::start(place, opened.device));
    served.queues.push_back(std::move(started));
  }
  return absl::OkStatus();
}

absl::StatusOr<UblkInfo> Devices::make(UblkControl& control, const OpenExport& opened,
                                       std::optional<uint32_t> id, Served& served) {
  const uint64_t sectors = opened.device->size_bytes() >> kSectorShift;
  ublksrv_ctrl_dev_info info{};
  info.dev_id = id.value_or(static_cast<uint32_t>(-1));
  info.nr_hw_queues = static_cast<uint16_t>(
      std::clamp<unsigned>(std::thread::hardware_concurrency(), 1, kMaxQueues));
  info.queue_depth = kDepth;
  info.max_io_buf_bytes = kMaxBytes;
  info.ublksrv_pid = -1;
  info.flags = kFlags;
  info.ublksrv_flags = mark_of(*opened.device);
  BLOBCACHE_RETURN_IF_ERROR(control.add(info));
  ublk_params params{};
  params.types = UBLK_PARAM_TYPE_BASIC;
  if (opened.device->read_only()) {
    params.basic.attrs = UBLK_ATTR_READ_ONLY;
  } else {
    params.types |= UBLK_PARAM_TYPE_DISCARD;
    params.basic.attrs = UBLK_ATTR_VOLATILE_CACHE | UBLK_ATTR_FUA;
    params.discard.discard_granularity = 1U << kPageShift;
    params.discard.max_discard_sectors = kMaxZeroes >> kSectorShift;
    params.discard.max_write_zeroes_sectors = kMaxZeroes >> kSectorShift;
    params.discard.max_discard_segments = 1;
  }
  params.basic.logical_bs_shift = kSectorShift;
  params.basic.physical_bs_shift = kPageShift;
  params.basic.io_min_shift = kPageShift;
  params.basic.io_opt_shift = kPageShift;
  params.basic.max_sectors = kMaxBytes >> kSectorShift;
  params.basic.dev_sectors = sectors;
  absl::Status status = control.set_params(info.dev_id, params);
  if (status.ok()) status = serve(opened, info, served);
  if (status.ok()) status = control.start(info.dev_id);
  if (!status.ok()) {
    // The driver waits for the file to be closed before it removes the device.
    served.queues.clear();
    served.file.reset();
    (void)control.remove(info.dev_id);
    return status;
  }
  return UblkInfo{.id = info.dev_id,
                  .path = opened.name,
                  .size_bytes = sectors << kSectorShift,
                  .read_only = opened.device->read_only()};
}

absl::StatusOr<UblkInfo> Devices::recover(UblkControl& control, const OpenExport& opened,
                                          const ublksrv_ctrl_dev_info& info, Served& served) {
  if (!is_ours(info)) return absl::AlreadyExistsError("the device is in use by another program");
  BLOBCACHE_ASSIGN_OR_RETURN(const ublk_params params, control.params(info.dev_id));
  // A volume may have grown meanwhile, or before, with a driver that could not be told.
  const uint64_t sectors = params.basic.dev_sectors;
  if (info.ublksrv_flags != mark_of(*opened.device) ||
      sectors > opened.device->size_bytes() >> kSectorShift) {
    return absl::FailedPreconditionError("the device shows other content; detach it first");
  }
  BLOBCACHE_RETURN_IF_ERROR(await_abandoned(control, info));
  BLOBCACHE_RETURN_IF_ERROR(control.start_recovery(info.dev_id));
  absl::Status status = serve(opened, info, served);
  if (status.ok()) status = control.end_recovery(info.dev_id);
  if (!status.ok()) {
    served.queues.clear();
    served.file.reset();
    return status;
  }
  return UblkInfo{.id = info.dev_id,
                  .path = opened.name,
                  .size_bytes = sectors << kSectorShift,
                  .read_only = opened.device->read_only(),
                  .recovered = true};
}

absl::StatusOr<UblkInfo> Devices::attach(const std::string& path, std::optional<uint32_t> id) {
  BLOBCACHE_ASSIGN_OR_RETURN(const OpenExport opened, exports_.open(path));
  if (opened.device->size_bytes() >> kSectorShift == 0) {
    return absl::FailedPreconditionError("it is smaller than a sector, 512 bytes");
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<UblkControl> control, UblkControl::open());
  BLOBCACHE_ASSIGN_OR_RETURN(const uint64_t features, control->features());
  if ((features & kNeeded) != kNeeded) {
    return absl::UnimplementedError(
        "the kernel's ublk driver is too old; Linux 6.5 has a newer one");
  }
  const absl::MutexLock lock(&mutex_);
  Served served;
  absl::StatusOr<ublksrv_ctrl_dev_info> there = absl::NotFoundError("");
  if (id) there = control->info(*id);
  BLOBCACHE_ASSIGN_OR_RETURN(served.info, there.ok() ? recover(*control, opened, *there, served)
                                                     : make(*control, opened, id, served));
  // One that was recovered may be smaller than what it shows; it serves as it is, too.
  (void)grow(*control, features, served);
  UblkInfo info = served.info;
  devices_.insert_or_assign(info.id, std::move(served));
  publish();
  return info;
}

std::optional<UblkGrowth> Devices::grow(UblkControl& control, uint64_t features, Served& served) {
  const uint64_t sectors = served.device->size_bytes() >> kSectorShift;
  if (sectors <= served.info.size_bytes >> kSectorShift) return std::nullopt;
  UblkGrowth growth{.id = served.info.id, .status = {}};
  if ((features & UBLK_F_UPDATE_SIZE) == 0) {
    growth.status = absl::UnimplementedError("the kernel's ublk driver is too old; Linux 6.16 can");
    return growth;
  }
  growth.status = control.update_size(served.info.id, sectors);
  if (growth.status.ok()) served.info.size_bytes = sectors << kSectorShift;
  return growth;
}

std::vector<UblkGrowth> Devices::grow(const std::string& path) {
  const absl::MutexLock lock(&mutex_);
  std::vector<UblkGrowth> all;
  for (auto& [id, served] : devices_) {
    if (served.info.path != path) continue;
    const absl::StatusOr<std::unique_ptr<UblkControl>> control = UblkControl::open();
    const absl::StatusOr<uint64_t> features =
        control.ok() ? (*control)->features() : absl::StatusOr<uint64_t>(control.status());
    if (!features.ok()) {
      all.push_back({.id = id, .status = features.status()});
    } else if (std::optional<UblkGrowth> growth = grow(**control, *features, served)) {
      all.push_back(*std::move(growth));
    }
  }
  publish();
  return all;
}

absl::Status Devices::detach(uint32_t id) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<UblkControl> control, UblkControl::open());
  const absl::MutexLock lock(&mutex_);
  const absl::StatusOr<ublksrv_ctrl_dev_info> there = control->info(id);
  if (!there.ok()) return absl::NotFoundError("it is not attached");
  if (!is_ours(*there)) return absl::FailedPreconditionError("another program serves it");
  BLOBCACHE_RETURN_IF_ERROR(control->stop(id));
  devices_.erase(id);
  publish();
  return control->remove(id);
}

}  // namespace

absl::StatusOr<std::unique_ptr<UblkDevices>> UblkDevices::create(
    const std::vector<std::string>& exports, tree::Namespace& names) {
  BLOBCACHE_ASSIGN_OR_RETURN(ExportFilter filter, ExportFilter::parse(exports));
  return std::make_unique<Devices>(names, std::move(filter));
}

}  // namespace blobcache::blockdev
