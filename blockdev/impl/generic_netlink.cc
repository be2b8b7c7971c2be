#include "blockdev/impl/generic_netlink.h"

#include <fmt/format.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "base/status.h"

namespace blobcache::blockdev::netlink {
namespace {

/// More than the kernel puts into one answer.
constexpr size_t kLargestAnswer = size_t{64} << 10;

}  // namespace

absl::StatusOr<GenericNetlink> GenericNetlink::open(std::string_view family, uint8_t version) {
  GenericNetlink opened(
      base::UniqueFd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC)));
  if (!opened.socket_.valid()) return base::errno_error(errno, "cannot make a netlink socket");
  // Kernels that do not have these tell less of why; that is all.
  const int on = 1;
  (void)::setsockopt(opened.socket_.get(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
  (void)::setsockopt(opened.socket_.get(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on));
  Attributes attributes;
  attributes.add_text(CTRL_ATTR_FAMILY_NAME, family);
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<std::byte> answer,
                             opened.call(GENL_ID_CTRL, 1, CTRL_CMD_GETFAMILY, attributes, family));
  const std::optional<uint16_t> id = find_u16(answer, CTRL_ATTR_FAMILY_ID);
  if (!id) return absl::InternalError("the kernel's netlink answer has no family in it");
  opened.family_ = *id;
  opened.version_ = version;
  return opened;
}

absl::Status GenericNetlink::failed(int error, std::string_view what,
                                    std::string_view explanation) {
  last_error_ = error;
  const absl::Status plain = base::errno_error(error, what);
  if (explanation.empty()) return plain;
  return base::error(plain.code(), fmt::format("{} ({})", base::message(plain), explanation));
}

absl::StatusOr<std::vector<std::byte>> GenericNetlink::call(uint8_t command,
                                                            const Attributes& attributes,
                                                            std::string_view what) {
  return call(family_, version_, command, attributes, what);
}

absl::StatusOr<std::vector<std::byte>> GenericNetlink::call(uint16_t family, uint8_t version,
                                                            uint8_t command,
                                                            const Attributes& attributes,
                                                            std::string_view what) {
  const std::string message = request(family, version, command, ++sequence_, attributes);
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  const void* const address = &kernel;
  if (::sendto(socket_.get(), message.data(), message.size(), 0,
               static_cast<const sockaddr*>(address), sizeof(kernel)) < 0) {
    return failed(errno, what);
  }
  std::vector<std::byte> datagram(kLargestAnswer);
  std::vector<std::byte> answer;
  for (;;) {
    sockaddr_nl sender{};
    socklen_t length = sizeof(sender);
    void* const from = &sender;
    const ssize_t n = ::recvfrom(socket_.get(), datagram.data(), datagram.size(), 0,
                                 static_cast<sockaddr*>(from), &length);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed(errno, what);
    if (sender.nl_pid != 0) continue;  // not the kernel
    for (const Message& part : parse(Bytes(datagram).first(static_cast<size_t>(n)))) {
      if (part.sequence != sequence_) continue;
      if (!part.error) {
        answer.assign(part.attributes.begin(), part.attributes.end());
      } else if (*part.error == 0) {
        return answer;
      } else {
        return failed(*part.error, what, part.explanation);
      }
    }
  }
}

}  // namespace blobcache::blockdev::netlink
