#include "blockdev/kernel_nbd.h"

#include <doctest/doctest.h>

#include <cerrno>
#include <string_view>

#include "absl/status/status.h"
#include "base/status.h"
#include "blockdev/impl/generic_netlink.h"
#include "blockdev/impl/netlink_message.h"

namespace blobcache::blockdev {
namespace {

// What a driver does is for the guest tests; here is what can be known without one.

TEST_CASE("generic netlink: the kernel's own family answers, and one that is not there does not") {
  auto control = netlink::GenericNetlink::open("nlctrl", 2);
  REQUIRE(control.ok());
  netlink::Attributes attributes;
  attributes.add_text(2, "nlctrl");  // CTRL_ATTR_FAMILY_NAME
  const auto answer = control->call(3, attributes, "nlctrl");
  REQUIRE(answer.ok());
  CHECK(netlink::find_u16(*answer, 1) == 0x10);  // CTRL_ATTR_FAMILY_ID

  netlink::Attributes unknown;
  unknown.add_text(2, "blobcache-nope");
  const auto refused = control->call(3, unknown, "the family");
  CHECK(absl::IsNotFound(refused.status()));
  CHECK(control->last_error() == ENOENT);
  CHECK(base::message(refused.status()).starts_with("the family: "));
  CHECK(control->call(3, attributes, "nlctrl").ok());  // the conversation goes on

  CHECK(absl::IsNotFound(netlink::GenericNetlink::open("blobcache-nope", 1).status()));
}

TEST_CASE("kernel nbd: without the driver, or the rights, that is what it says") {
  const auto driver = KernelNbd::open();
  if (driver.ok()) return;  // this machine has both
  const bool denied = absl::IsPermissionDenied(driver.status());
  const bool absent = absl::IsFailedPrecondition(driver.status());
  CHECK((denied || absent));
  const std::string_view hint = denied ? "root" : "modprobe nbd";
  CHECK(base::message(driver.status()).find(hint) != std::string_view::npos);
}

}  // namespace
}  // namespace blobcache::blockdev
