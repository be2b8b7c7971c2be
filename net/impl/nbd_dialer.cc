#include "net/impl/nbd_dialer.h"

#include <fmt/format.h>
#include <libnbd.h>
#include <unistd.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/status.h"

namespace blobcache::net {

absl::Status nbd_last_error() {
  const char* const told = nbd_get_error();
  if (told == nullptr) return absl::UnavailableError("libnbd tells no reason");
  std::string_view text = told;
  // The function that failed is nothing to people.
  const size_t colon = text.find(": ");
  if (text.starts_with("nbd_") && colon != std::string_view::npos) text.remove_prefix(colon + 2);
  return base::error(absl::StatusCode::kUnavailable, text);
}

/// Shared with the thread that connects by name; the last of the two closes it.
struct NbdDialer::Held {
  explicit Held(nbd_handle* made) : handle(made) {}
  ~Held() {
    if (handle != nullptr) nbd_close(handle);
  }
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;

  nbd_handle* handle;
};

NbdDialer::~NbdDialer() {
  // Who waited has given up.
  if (!current_.empty() && target_.resolver) target_.resolver->unreachable(current_);
}

absl::Status NbdDialer::start() {
  if (!target_.resolver) {
    addresses_ = {target_.url.host};
    return absl::OkStatus();
  }
  // What is wrong with it is told before a name is looked up.
  const absl::StatusOr<nbd_handle*> trial = make_handle();
  if (!trial.ok()) return trial.status();
  nbd_close(*trial);
  question_ = target_.resolver->ask(target_.url.tls ? NbdResolver::Remembered::kIgnore
                                                    : NbdResolver::Remembered::kUse);
  return absl::OkStatus();
}

absl::StatusOr<nbd_handle*> NbdDialer::next() {
  while (question_) {
    const std::optional<absl::StatusOr<NbdResolver::Addresses>> answer = question_->answer();
    if (!answer) return nullptr;
    question_.reset();
    if (!answer->ok()) return answer->status();
    if (held_) return std::exchange(held_->handle, nullptr);
    if (target_.url.tls) {
      BLOBCACHE_RETURN_IF_ERROR(connect_by_name());
    } else {
      addresses_ = **answer;
    }
  }
  while (next_ < addresses_.size()) {
    current_ = addresses_[next_++];
    absl::StatusOr<nbd_handle*> handle = connect(current_);
    if (handle.ok()) return handle;
    failed(handle.status());
  }
  return last_error_;
}

void NbdDialer::failed(const absl::Status& why) {
  last_error_ = why;
  if (!current_.empty() && target_.resolver) target_.resolver->unreachable(current_);
  current_.clear();
}

absl::StatusOr<nbd_handle*> NbdDialer::connect(const std::string& host) const {
  const absl::StatusOr<nbd_handle*> handle = make_handle();
  if (!handle.ok()) return handle;
  const base::NbdUrl& url = target_.url;
  const int result = url.socket.empty() ? nbd_aio_connect_tcp(*handle, host.c_str(),
                                                              std::to_string(url.port).c_str())
                                        : nbd_aio_connect_unix(*handle, url.socket.c_str());
  if (result == 0) return handle;
  absl::Status status = nbd_last_error();
  nbd_close(*handle);
  return status;
}

absl::Status NbdDialer::connect_by_name() {
  const absl::StatusOr<nbd_handle*> handle = make_handle();
  if (!handle.ok()) return handle.status();
  held_ = std::make_shared<Held>(*handle);
  const auto work = [held = held_, port = std::to_string(target_.url.port)](
                        const std::string& host) -> absl::StatusOr<NbdResolver::Addresses> {
    if (nbd_aio_connect_tcp(held->handle, host.c_str(), port.c_str()) != 0) return nbd_last_error();
    return NbdResolver::Addresses{host};
  };
  question_ = NbdResolver(target_.url.host, work).ask(NbdResolver::Remembered::kIgnore);
  return absl::OkStatus();
}

absl::StatusOr<nbd_handle*> NbdDialer::make_handle() const {
  nbd_handle* const handle = nbd_create();
  if (handle == nullptr) return nbd_last_error();
  if (absl::Status status = set_up(handle); !status.ok()) {
    nbd_close(handle);
    return status;
  }
  return handle;
}

absl::Status NbdDialer::set_up(nbd_handle* handle) const {
  if (!target_.tls_certificates.empty()) {
    // libnbd takes a folder without this file for none, and then verifies nothing.
    const std::string authority = target_.tls_certificates + "/ca-cert.pem";
    if (::access(authority.c_str(), R_OK) != 0) {
      return absl::UnavailableError(
          fmt::format("{}: cannot be read; without it any server would be believed", authority));
    }
  }
  const bool tls = target_.url.tls;
  bool good = nbd_set_opt_mode(handle, true) == 0 &&
              nbd_add_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) == 0 &&
              nbd_set_full_info(handle, false) == 0 &&
              // Of a read that failed nobody looks at the buffer.
              nbd_set_pread_initialize(handle, false) == 0 &&
              nbd_set_tls(handle, tls ? LIBNBD_TLS_REQUIRE : LIBNBD_TLS_DISABLE) == 0;
  if (good && !target_.tls_certificates.empty()) {
    good = nbd_set_tls_certificates(handle, target_.tls_certificates.c_str()) == 0;
  }
  if (good && !target_.tls_psk.empty()) {
    good = nbd_set_tls_psk_file(handle, target_.tls_psk.c_str()) == 0;
  }
  if (good && !target_.url.user.empty()) {
    good = nbd_set_tls_username(handle, target_.url.user.c_str()) == 0;
  }
  return good ? absl::OkStatus() : nbd_last_error();
}

}  // namespace blobcache::net
