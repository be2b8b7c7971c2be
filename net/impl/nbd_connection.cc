#include "net/impl/nbd_connection.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <libnbd.h>
#include <poll.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"
#include "net/impl/nbd_retry.h"
#include "store/page/geometry.h"

namespace blobcache::net {

namespace {

bool moves_bytes(const NbdRequest& request) {
  return request.kind == NbdRequest::Kind::kRead || request.kind == NbdRequest::Kind::kWrite;
}

constexpr char kAllocation[] = LIBNBD_CONTEXT_BASE_ALLOCATION;

}  // namespace

absl::Status same_nbd_export(const NbdExportInfo& first, const NbdExportInfo& later) {
  const auto another = [](std::string_view why) {
    return base::error(absl::StatusCode::kUnavailable,
                       fmt::format("the server has another export now: {}; open it anew", why));
  };
  if (later.size_bytes != first.size_bytes) {
    return another(fmt::format("{} bytes, not {}", later.size_bytes, first.size_bytes));
  }
  if (later.read_only != first.read_only) {
    return another(later.read_only ? "it is read-only" : "it is not read-only any more");
  }
  if (later.min_block > first.min_block || later.max_block < first.max_block) {
    return another("it takes other sizes of blocks");
  }
  const bool less = (first.can_flush && !later.can_flush) || (first.can_fua && !later.can_fua) ||
                    (first.can_trim && !later.can_trim) || (first.can_zero && !later.can_zero) ||
                    (first.multi_conn && !later.multi_conn) ||
                    (first.block_status && !later.block_status);
  return less ? another("it can do less") : absl::OkStatus();
}

/// What libnbd calls.
struct NbdConnection::Callbacks {
  static NbdConnection& connection(void* user) { return *static_cast<NbdConnection*>(user); }

  static int listed(void* user, const char* name, const char* /*description*/) {
    NbdConnection& self = connection(user);
    self.listed_bytes_ += std::strlen(name);
    if (self.listed_.size() == kMaxListed || self.listed_bytes_ > kMaxListedBytes) {
      self.lists_too_much_ = true;
    } else {
      self.listed_.emplace_back(name);
    }
    return 0;
  }
  static int answered(void* user, int* error) {
    connection(user).asking_ = false;
    connection(user).answer_ = *error;
    // libnbd has no other word for this answer than its text.
    const char* const text = *error != 0 ? nbd_get_error() : nullptr;
    connection(user).wants_tls_ = text != nullptr && std::strstr(text, "requires TLS") != nullptr;
    return 0;
  }
  static int completed(void* user, int* error) {
    auto& request = *static_cast<NbdRequest*>(user);
    NbdConnection& self = *request.connection;
    request.error = *error;
    // libnbd's own word for a connection that is lost: the request stays with what was sent.
    if (*error == ENOTCONN) return 1;
    auto found = self.sent_.find(&request);
    if (found == self.sent_.end()) return 1;
    self.completed_.push_back(std::move(found->second));
    self.sent_.erase(found);
    if (moves_bytes(request)) self.sent_bytes_ -= request.length;
    return 1;  // libnbd need not keep it
  }
  static int extents(void* user, const char* context, uint64_t offset, uint32_t* entries,
                     size_t count, int* /*error*/) {
    auto& request = *static_cast<NbdRequest*>(user);
    if (std::string_view(context) != kAllocation || offset != request.offset) return 0;
    request.runs.clear();
    const size_t bounded = std::min(count / 2, HoleList::kMaxRuns / 4);
    for (size_t i = 0; i < bounded; ++i) {
      const bool zero = (entries[2 * i + 1] & LIBNBD_STATE_ZERO) != 0;
      if (entries[2 * i] != 0) request.runs.push_back({entries[2 * i], zero});
    }
    return 0;
  }
};

absl::StatusOr<std::unique_ptr<NbdConnection>> NbdConnection::dial(const NbdTarget& target) {
  std::unique_ptr<NbdConnection> connection(new NbdConnection(target));
  BLOBCACHE_RETURN_IF_ERROR(connection->dialer_->start());
  absl::StatusOr<nbd_handle*> handle = connection->dialer_->next();
  if (!handle.ok()) return handle.status();
  connection->handle_ = *handle;
  return connection;
}

NbdConnection::~NbdConnection() {
  if (handle_ != nullptr) nbd_close(handle_);
}

bool NbdConnection::is_dead() {
  return nbd_aio_is_dead(handle_) == 1 || nbd_aio_is_closed(handle_) == 1;
}

bool NbdConnection::is_ready() {
  return nbd_aio_is_ready(handle_) == 1 || nbd_aio_is_processing(handle_) == 1;
}

/// False while a name is looked up. Afterwards there is a handle, or there will be none.
bool NbdConnection::go_on_dialing() {
  while (handle_ == nullptr || is_dead()) {
    if (handle_ != nullptr) {
      if (error_.ok()) error_ = absl::UnavailableError("the server closed the connection");
      dialer_->failed(std::exchange(error_, absl::OkStatus()));
      nbd_close(std::exchange(handle_, nullptr));
    }
    const absl::StatusOr<nbd_handle*> next = dialer_->next();
    if (!next.ok()) {
      error_ = next.status();
      dialer_.reset();
      return true;
    }
    if (*next == nullptr) {
      error_ = absl::UnavailableError("the server's name is still being looked up");
      return false;
    }
    handle_ = *next;
    error_ = absl::OkStatus();
  }
  if (nbd_aio_is_negotiating(handle_) == 1 || is_ready()) {
    dialer_->reached();
    dialer_.reset();
  }
  return true;
}

NbdConnection::State NbdConnection::state() {
  if (dialer_ && !go_on_dialing()) return State::kConnecting;
  if (handle_ == nullptr) return State::kDead;
  if (is_dead()) {
    if (error_.ok()) error_ = absl::UnavailableError("the server closed the connection");
    return State::kDead;
  }
  if (asking_) return State::kConnecting;
  if (nbd_aio_is_negotiating(handle_) == 1) return State::kNegotiating;
  return is_ready() ? State::kReady : State::kConnecting;
}

int NbdConnection::fd() {
  if (handle_ != nullptr) return nbd_aio_get_fd(handle_);
  return dialer_ ? dialer_->fd() : -1;
}

int16_t NbdConnection::events() {
  if (handle_ == nullptr) return POLLIN;
  const unsigned direction = nbd_aio_get_direction(handle_);
  int events = 0;
  if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0) events |= POLLIN;
  if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) events |= POLLOUT;
  return static_cast<int16_t>(events);
}

void NbdConnection::notify(int16_t revents) {
  if (handle_ == nullptr) return;  // state() sees what was found
  // An error or the end shows to whichever libnbd does next.
  const bool ended = (revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
  const unsigned direction = nbd_aio_get_direction(handle_);
  int result = 0;
  if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0 && (ended || (revents & POLLIN) != 0)) {
    result = nbd_aio_notify_read(handle_);
  } else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 && (ended || (revents & POLLOUT) != 0)) {
    result = nbd_aio_notify_write(handle_);
  }
  if (result != 0) error_ = nbd_last_error();
}

absl::Status NbdConnection::begin(int result) {
  if (result == 0) return absl::OkStatus();
  asking_ = false;
  return nbd_last_error();
}

absl::Status NbdConnection::ask_list() {
  asking_ = true;
  listed_.clear();
  listed_bytes_ = 0;
  lists_too_much_ = false;
  return begin(nbd_aio_opt_list(handle_, {Callbacks::listed, this, nullptr},
                                {Callbacks::answered, this, nullptr}));
}

absl::Status NbdConnection::ask_info(const std::string& export_name) {
  if (nbd_set_export_name(handle_, export_name.c_str()) != 0) return nbd_last_error();
  asking_ = true;
  return begin(nbd_aio_opt_info(handle_, {Callbacks::answered, this, nullptr}));
}

absl::Status NbdConnection::go(const std::string& export_name) {
  if (nbd_set_export_name(handle_, export_name.c_str()) != 0) return nbd_last_error();
  asking_ = true;
  return begin(nbd_aio_opt_go(handle_, {Callbacks::answered, this, nullptr}));
}

absl::Status NbdConnection::refusal() const {
  if (answer_ == 0) return absl::OkStatus();
  if (answer_ == ENOENT) return absl::NotFoundError("the server has no such export");
  if (wants_tls_) {
    return absl::UnavailableError("the server requires TLS: a url of nbds:// or nbds+unix://");
  }
  return nbd_error(answer_);
}

absl::StatusOr<NbdExportInfo> NbdConnection::info() {
  const int64_t size = nbd_get_size(handle_);
  if (size < 0) return nbd_last_error();
  NbdExportInfo info;
  info.size_bytes = static_cast<uint64_t>(size);
  if (info.size_bytes > page::kMaxObjectSize) {
    return absl::UnavailableError("the server's export is larger than 1 PiB");
  }
  const int64_t min_block = nbd_get_block_size(handle_, LIBNBD_SIZE_MINIMUM);
  const int64_t max_block = nbd_get_block_size(handle_, LIBNBD_SIZE_MAXIMUM);
  if (min_block > 0) info.min_block = static_cast<uint64_t>(min_block);
  if (max_block > 0) {
    info.max_block = std::min(static_cast<uint64_t>(max_block), NbdExportInfo::kMaxBlock);
  }
  info.max_block &= ~(info.min_block - 1);
  if (!std::has_single_bit(info.min_block) || info.max_block == 0) {
    return absl::UnavailableError("the server tells sizes of blocks that cannot be");
  }
  info.read_only = nbd_is_read_only(handle_) != 0;
  info.can_flush = nbd_can_flush(handle_) == 1;
  info.can_fua = nbd_can_fua(handle_) == 1;
  info.can_trim = nbd_can_trim(handle_) == 1;
  info.can_zero = nbd_can_zero(handle_) == 1;
  info.multi_conn = nbd_can_multi_conn(handle_) == 1;
  info.block_status = nbd_can_meta_context(handle_, kAllocation) == 1;
  return info;
}

bool NbdConnection::has_room(uint64_t length) const {
  return sent_.empty() || (sent_.size() < kMaxRequests && sent_bytes_ + length <= kMaxBytes);
}

absl::Status NbdConnection::send(const NbdRequestRef& request) {
  if (changes_bytes(*request) && !socket_.valid()) {
    socket_ = base::UniqueFd(::fcntl(fd(), F_DUPFD_CLOEXEC, 0));
    // Without it the connection could not be given up.
    if (!socket_.valid()) return absl::UnavailableError("no further file can be opened");
  }
  request->connection = this;
  request->error = 0;
  // First, as libnbd may call back before it returns.
  sent_.emplace(request.get(), request);
  if (moves_bytes(*request)) sent_bytes_ += request->length;
  if (issue(*request) >= 0) return absl::OkStatus();
  const absl::Status status = nbd_last_error();
  if (sent_.erase(request.get()) == 0) return absl::OkStatus();  // it called back all the same
  if (moves_bytes(*request)) sent_bytes_ -= request->length;
  request->connection = nullptr;
  return base::error(absl::StatusCode::kInvalidArgument, base::message(status));
}

int64_t NbdConnection::issue(NbdRequest& request) {
  const nbd_completion_callback done{Callbacks::completed, &request, nullptr};
  const uint32_t fua = request.fua ? LIBNBD_CMD_FLAG_FUA : 0;
  switch (request.kind) {
    case NbdRequest::Kind::kRead:
      return nbd_aio_pread(handle_, request.into, request.length, request.offset, done, 0);
    case NbdRequest::Kind::kWrite:
      return nbd_aio_pwrite(handle_, request.from, request.length, request.offset, done, fua);
    case NbdRequest::Kind::kZero: {
      const uint32_t no_hole = request.no_hole ? LIBNBD_CMD_FLAG_NO_HOLE : 0;
      return nbd_aio_zero(handle_, request.length, request.offset, done, fua | no_hole);
    }
    case NbdRequest::Kind::kTrim:
      return nbd_aio_trim(handle_, request.length, request.offset, done, fua);
    case NbdRequest::Kind::kFlush:
      return nbd_aio_flush(handle_, done, 0);
    case NbdRequest::Kind::kStatus:
      return nbd_aio_block_status(handle_, request.length, request.offset,
                                  {Callbacks::extents, &request, nullptr}, done, 0);
  }
  return -1;
}

std::vector<NbdRequestRef> NbdConnection::take_completed() { return std::exchange(completed_, {}); }

std::vector<NbdRequestRef> NbdConnection::take_lost() {
  dialer_.reset();
  if (handle_ != nullptr) nbd_close(std::exchange(handle_, nullptr));
  std::vector<NbdRequestRef> lost;
  lost.reserve(sent_.size());
  for (auto& [request, reference] : sent_) lost.push_back(std::move(reference));
  sent_.clear();
  sent_bytes_ = 0;
  return lost;
}

void NbdConnection::disconnect() {
  if (state() == State::kReady && sent_.empty()) (void)nbd_aio_disconnect(handle_, 0);
}

}  // namespace blobcache::net
