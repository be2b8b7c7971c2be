#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "base/unique_fd.h"
#include "blockdev/impl/netlink_message.h"

namespace blobcache::blockdev::netlink {

/// A conversation with one family of the kernel's generic netlink, a request at a time. One thread
/// at a time.
class GenericNetlink {
 public:
  /// NOT_FOUND when the kernel has no such family.
  [[nodiscard]] static absl::StatusOr<GenericNetlink> open(std::string_view family,
                                                           uint8_t version);

  /// What the kernel did not refuse; the attributes of its answer, where there was one. The error
  /// is the errno value's, "WHAT: why", in the kernel's words if it has any.
  [[nodiscard]] absl::StatusOr<std::vector<std::byte>> call(uint8_t command,
                                                            const Attributes& attributes,
                                                            std::string_view what);

  /// The errno value of the last call that failed.
  [[nodiscard]] int last_error() const { return last_error_; }

 private:
  explicit GenericNetlink(base::UniqueFd socket) : socket_(std::move(socket)) {}

  [[nodiscard]] absl::Status failed(int error, std::string_view what,
                                    std::string_view explanation = {});
  [[nodiscard]] absl::StatusOr<std::vector<std::byte>> call(uint16_t family, uint8_t version,
                                                            uint8_t command,
                                                            const Attributes& attributes,
                                                            std::string_view what);

  base::UniqueFd socket_;
  uint16_t family_ = 0;
  uint8_t version_ = 0;
  uint32_t sequence_ = 0;
  int last_error_ = 0;
};

}  // namespace blobcache::blockdev::netlink
