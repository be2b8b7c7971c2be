#include "blockdev/impl/ublk_queue.h"

#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

#include "absl/types/span.h"
#include "base/io_flusher.h"
#include "base/status.h"

namespace blobcache::blockdev {
namespace {

/// What no tag is.
constexpr uint64_t kWake = UINT64_MAX;
constexpr uint64_t kSector = 512;
constexpr unsigned kBatch = 64;
/// A larger payload's memory is given back when it is written.
constexpr size_t kKeptPayload = size_t{64} << 10;

size_t page_aligned(size_t size) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (size + page - 1) / page * page;
}

}  // namespace

UblkQueue::UblkQueue(const Place& place, DeviceRef device,
                     std::shared_ptr<CompletionQueue> completions,
                     std::unique_ptr<CommandRing> ring)
    : place_(place),
      device_(std::move(device)),
      completions_(std::move(completions)),
      ring_(std::move(ring)),
      reads_(place.depth),
      payloads_(place.depth) {}

absl::StatusOr<std::unique_ptr<UblkQueue>> UblkQueue::start(const Place& place, DeviceRef device) {
  BLOBCACHE_ASSIGN_OR_RETURN(std::shared_ptr<CompletionQueue> completions,
                             CompletionQueue::create());
  BLOBCACHE_ASSIGN_OR_RETURN(std::unique_ptr<CommandRing> ring,
                             CommandRing::create(place.depth + 2U));
  std::unique_ptr<UblkQueue> queue(
      new UblkQueue(place, std::move(device), std::move(completions),
                    std::move(ring)));  // NOLINT: the constructor is private
  BLOBCACHE_RETURN_IF_ERROR(queue->map());
  try {
    queue->thread_ = std::thread([raw = queue.get()] { raw->run(); });
  } catch (const std::system_error& error) {
    return base::errno_error(error.code().value(), "a thread could not be started");
  }
  return queue;
}

UblkQueue::~UblkQueue() {
  stop();
  if (descriptors_ != nullptr) {
    ::munmap(const_cast<ublksrv_io_desc*>(descriptors_), mapped_bytes_);
  }
}

void UblkQueue::stop() {
  stopping_.store(true);
  completions_->wake();
  if (thread_.joinable()) thread_.join();
}

absl::Status UblkQueue::map() {
  mapped_bytes_ = page_aligned(place_.depth * sizeof(ublksrv_io_desc));
  void* const at =
      ::mmap(nullptr, mapped_bytes_, PROT_READ, MAP_SHARED | MAP_POPULATE, place_.device,
             static_cast<off_t>(ublk::descriptors_offset(place_.queue)));
  if (at == MAP_FAILED) return base::errno_error(errno, "the ublk queue cannot be mapped");
  descriptors_ = static_cast<const ublksrv_io_desc*>(at);
  return absl::OkStatus();
}

void UblkQueue::run() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  pthread_setname_np(pthread_self(), "ublk-queue");
  if (!device_->read_only()) base::become_io_flusher();
  serve();
  // The driver learns by this that nobody serves the queue any more.
  ring_.reset();
  for (page::PendingRead& read : reads_) read.cancel();
  completions_->drain();
}

void UblkQueue::serve() {
  std::vector<Completion> ready;
  std::array<io_uring_cqe*, kBatch> batch{};
  for (uint16_t tag = 0; tag < place_.depth; ++tag) tell(UBLK_U_IO_FETCH_REQ, tag, -1);
  (void)ring_->poll(completions_->wake_fd(), kWake);
  // When the driver has stopped the device it gives every command back.
  while (with_driver_ > 0 && !stopping_.load()) {
    const bool sleep = completions_->arm();
    const int submitted = ::io_uring_submit_and_wait(&ring_->get(), sleep ? 1 : 0);
    if (submitted < 0 && submitted != -EINTR && submitted != -EAGAIN && submitted != -EBUSY) {
      spdlog::error("ublk: io_uring: {}; the device waits for a new daemon", -submitted);
      return;
    }
    bool woken = false;
    const unsigned count = ::io_uring_peek_batch_cqe(&ring_->get(), batch.data(), kBatch);
    for (unsigned i = 0; i < count; ++i) {
      const uint64_t what = batch[i]->user_data;
      const int result = batch[i]->res;
      if (what == kWake) {
        woken = true;
      } else {
        on_fetched(static_cast<uint16_t>(what), result);
      }
    }
    ::io_uring_cq_advance(&ring_->get(), count);
    completions_->disarm(woken);
    if (woken) (void)ring_->poll(completions_->wake_fd(), kWake);
    completions_->take(ready);
    for (const Completion& each : ready) answer(each);
    ready.clear();
  }
}

/// The driver has given a command back: with a request, or for good.
void UblkQueue::on_fetched(uint16_t tag, int result) {
  --with_driver_;
  if (result == UBLK_IO_RES_OK) {
    begin(tag);
  } else if (result != UBLK_IO_RES_ABORT) {
    spdlog::error("ublk: the driver refuses a command with error {}", -result);
  }
}

void UblkQueue::begin(uint16_t tag) {
  const ublksrv_io_desc& request = descriptors_[tag];
  const uint64_t offset = request.start_sector * kSector;
  const uint64_t length = request.nr_sectors * kSector;
  const bool fua = (::ublksrv_get_flags(&request) & UBLK_IO_F_FUA) != 0;
  const auto operation = ::ublksrv_get_op(&request);
  if (operation == UBLK_IO_OP_READ) return begin_read(tag, request);
  if (operation == UBLK_IO_OP_FLUSH) return device_->flush(completions_->expect(tag));
  if (device_->read_only()) return tell(UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, -EROFS);
  switch (operation) {
    case UBLK_IO_OP_WRITE:
      return begin_write(tag, request);
    case UBLK_IO_OP_DISCARD:
      return device_->trim(offset, length, fua, completions_->expect(tag));
    case UBLK_IO_OP_WRITE_ZEROES: {
      const bool no_hole = (::ublksrv_get_flags(&request) & UBLK_IO_F_NOUNMAP) != 0;
      return device_->write_zeroes(offset, length, {.fua = fua, .no_hole = no_hole},
                                   completions_->expect(tag));
    }
    default:
      tell(UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, -EOPNOTSUPP);
  }
}

void UblkQueue::begin_read(uint16_t tag, const ublksrv_io_desc& request) {
  const uint64_t offset = request.start_sector * kSector;
  const uint64_t length = request.nr_sectors * kSector;
  page::PinnedRange range;
  if (device_->try_read(offset, length, range)) {
    tell(UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, copy(tag, range.pieces()));
  } else {
    reads_[tag] = device_->read(offset, length, completions_->expect_read(tag));
  }
}

void UblkQueue::begin_write(uint16_t tag, const ublksrv_io_desc& request) {
  const bool fua = (::ublksrv_get_flags(&request) & UBLK_IO_F_FUA) != 0;
  payloads_[tag].resize(request.nr_sectors * kSector);
  if (const int error = fetch_payload(tag, absl::MakeSpan(payloads_[tag])); error != 0) {
    return tell(UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, error);
  }
  device_->write(request.start_sector * kSector, payloads_[tag], fua, completions_->expect(tag));
}

void UblkQueue::answer(const Completion& done) {
  const auto tag = static_cast<uint16_t>(done.id);
  const ublksrv_io_desc& request = descriptors_[tag];
  reads_[tag] = {};
  if (payloads_[tag].capacity() > kKeptPayload) payloads_[tag] = {};
  int result = static_cast<int>(request.nr_sectors * kSector);
  if (!done.status.ok()) {
    spdlog::warn("ublk: a request failed: {}", base::message(done.status));
    result = absl::IsResourceExhausted(done.status) ? -ENOSPC : -EIO;
  } else if (::ublksrv_get_op(&request) == UBLK_IO_OP_READ) {
    const iovec own{done.bytes.owned.data(), done.bytes.owned.size()};
    result = done.bytes.owned.empty() ? copy(tag, done.bytes.range.pieces()) : copy(tag, {&own, 1});
  }
  tell(UBLK_U_IO_COMMIT_AND_FETCH_REQ, tag, result);
}

/// How many bytes the request got, or a negative errno value.
int UblkQueue::copy(uint16_t tag, absl::Span<const iovec> pieces) const {
  uint64_t at = ublk::buffer_offset(place_.queue, tag);
  const uint64_t begin = at;
  for (const iovec& piece : pieces) {
    size_t done = 0;
    while (done < piece.iov_len) {
      const ssize_t n =
          ::pwrite(place_.device, static_cast<const std::byte*>(piece.iov_base) + done,
                   piece.iov_len - done, static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return n == 0 ? -EIO : -errno;
      done += static_cast<size_t>(n);
      at += static_cast<uint64_t>(n);
    }
  }
  return static_cast<int>(at - begin);
}

/// 0, or a negative errno value.
int UblkQueue::fetch_payload(uint16_t tag, absl::Span<std::byte> into) const {
  uint64_t at = ublk::buffer_offset(place_.queue, tag);
  while (!into.empty()) {
    const ssize_t n = ::pread(place_.device, into.data(), into.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n == 0 ? -EIO : -errno;
    into.remove_prefix(static_cast<size_t>(n));
    at += static_cast<uint64_t>(n);
  }
  return 0;
}

/// There is a place in the ring for each tag, so it is never full.
void UblkQueue::tell(uint32_t operation, uint16_t tag, int result) {
  ublksrv_io_cmd command{};
  command.q_id = place_.queue;
  command.tag = tag;
  command.result = result;
  const absl::Span<const std::byte> bytes(reinterpret_cast<const std::byte*>(&command),
                                          sizeof(command));
  if (ring_->command(place_.device, operation, bytes, tag)) ++with_driver_;
}

}  // namespace blobcache::blockdev
