#include "blockdev/kernel_nbd.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/nbd-netlink.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <utility>
#include <vector>

#include "base/status.h"
#include "blockdev/impl/generic_netlink.h"
#include "blockdev/impl/netlink_message.h"

namespace blobcache::blockdev {
namespace {

using netlink::Attributes;
using netlink::GenericNetlink;

bool may_administer() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return true;  // the kernel will say
  return (sets[CAP_TO_INDEX(CAP_SYS_ADMIN)].effective & CAP_TO_MASK(CAP_SYS_ADMIN)) != 0;
}

Attributes sockets_of(absl::Span<const base::UniqueFd> connections) {
  Attributes items;
  for (const base::UniqueFd& connection : connections) {
    Attributes item;
    item.add_u32(NBD_SOCK_FD, static_cast<uint32_t>(connection.get()));
    items.add_nested(NBD_SOCK_ITEM, item);
  }
  return items;
}

std::string device(uint32_t index) { return fmt::format("/dev/nbd{}", index); }

class Driver final : public KernelNbd {
 public:
  explicit Driver(GenericNetlink netlink) : netlink_(std::move(netlink)) {}

  absl::StatusOr<uint32_t> connect(const NbdDeviceOptions& options,
                                   absl::Span<const base::UniqueFd> connections) override;
  absl::Status reconnect(uint32_t index, const std::string& identifier,
                         absl::Span<const base::UniqueFd> connections) override;
  absl::Status resize(uint32_t index, const std::string& identifier, uint64_t size_bytes) override;
  absl::Status disconnect(uint32_t index) override;

 private:
  absl::Status reconfigure(uint32_t index, const Attributes& attributes);

  GenericNetlink netlink_;
};

absl::StatusOr<uint32_t> Driver::connect(const NbdDeviceOptions& options,
                                         absl::Span<const base::UniqueFd> connections) {
  Attributes attributes;
  if (options.index) attributes.add_u32(NBD_ATTR_INDEX, *options.index);
  attributes.add_u64(NBD_ATTR_SIZE_BYTES, options.size_bytes);
  attributes.add_u64(NBD_ATTR_BLOCK_SIZE_BYTES, options.block_bytes);
  attributes.add_u64(NBD_ATTR_SERVER_FLAGS, options.transmission_flags);
  attributes.add_u64(NBD_ATTR_CLIENT_FLAGS, 0);
  attributes.add_u64(NBD_ATTR_TIMEOUT,
                     static_cast<uint64_t>(absl::ToInt64Seconds(options.timeout)));
  attributes.add_u64(NBD_ATTR_DEAD_CONN_TIMEOUT,
                     static_cast<uint64_t>(absl::ToInt64Seconds(options.dead_timeout)));
  attributes.add_text(NBD_ATTR_BACKEND_IDENTIFIER, options.identifier);
  attributes.add_nested(NBD_ATTR_SOCKETS, sockets_of(connections));
  const std::string what = options.index ? device(*options.index) : "the kernel's NBD driver";
  absl::StatusOr<std::vector<std::byte>> answer = netlink_.call(NBD_CMD_CONNECT, attributes, what);
  if (!answer.ok()) {
    if (netlink_.last_error() != EBUSY) return answer.status();
    return base::error(absl::StatusCode::kAlreadyExists, fmt::format("{} is in use", what));
  }
  const std::optional<uint32_t> index = netlink::find_u32(*answer, NBD_ATTR_INDEX);
  if (index) return *index;
  if (options.index) return *options.index;
  return absl::InternalError("the kernel has attached a device and does not say which");
}

absl::Status Driver::reconnect(uint32_t index, const std::string& identifier,
                               absl::Span<const base::UniqueFd> connections) {
  Attributes attributes;
  attributes.add_u32(NBD_ATTR_INDEX, index);
  attributes.add_text(NBD_ATTR_BACKEND_IDENTIFIER, identifier);
  attributes.add_nested(NBD_ATTR_SOCKETS, sockets_of(connections));
  return reconfigure(index, attributes);
}

absl::Status Driver::resize(uint32_t index, const std::string& identifier, uint64_t size_bytes) {
  Attributes attributes;
  attributes.add_u32(NBD_ATTR_INDEX, index);
  attributes.add_text(NBD_ATTR_BACKEND_IDENTIFIER, identifier);
  attributes.add_u64(NBD_ATTR_SIZE_BYTES, size_bytes);
  return reconfigure(index, attributes);
}

absl::Status Driver::reconfigure(uint32_t index, const Attributes& attributes) {
  const absl::Status status =
      netlink_.call(NBD_CMD_RECONFIGURE, attributes, device(index)).status();
  // EINVAL: it went meanwhile, or is another's.
  if (!absl::IsInvalidArgument(status)) return status;
  return base::error(absl::StatusCode::kFailedPrecondition, base::message(status));
}

absl::Status Driver::disconnect(uint32_t index) {
  Attributes attributes;
  attributes.add_u32(NBD_ATTR_INDEX, index);
  return netlink_.call(NBD_CMD_DISCONNECT, attributes, device(index)).status();
}

}  // namespace

absl::StatusOr<std::unique_ptr<KernelNbd>> KernelNbd::open() {
  if (!may_administer()) {
    return absl::PermissionDeniedError("block devices are for root (CAP_SYS_ADMIN)");
  }
  absl::StatusOr<GenericNetlink> netlink =
      GenericNetlink::open(NBD_GENL_FAMILY_NAME, NBD_GENL_VERSION);
  if (absl::IsNotFound(netlink.status())) {
    return absl::FailedPreconditionError("the kernel has no nbd driver: modprobe nbd");
  }
  if (!netlink.ok()) return netlink.status();
  return std::make_unique<Driver>(*std::move(netlink));
}

}  // namespace blobcache::blockdev
