#include "server/ctl/mount_helper.h"

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace blobcache::ctl {
namespace {

/// As mount(8) has it for options that it was given.
absl::StatusOr<MountOrder> order_of(const std::string& options) {
  return parse_mount_order({"blobcache", "/mnt", "-o", options});
}

std::string complaint(const std::vector<std::string>& arguments) {
  return std::string(base::message(parse_mount_order(arguments).status()));
}

std::string complaint_about(const std::string& options) {
  return std::string(base::message(order_of(options).status()));
}

TEST_CASE("mount helper: it is known by its name") {
  CHECK(is_mount_helper("/sbin/mount.blobcache"));
  CHECK(is_mount_helper("mount.blobcache"));
  CHECK_FALSE(is_mount_helper("/usr/bin/blobcachectl"));
  CHECK_FALSE(is_mount_helper("/mount.blobcache/blobcachectl"));
  CHECK_FALSE(is_mount_helper(""));
}

TEST_CASE("mount helper: options are understood") {
  const auto plain = parse_mount_order({"blobcache", "/mnt/"});
  REQUIRE(plain.ok());
  CHECK(plain->mountpoint == "/mnt");
  CHECK(plain->subtree.empty());
  CHECK(plain->endpoint.empty());
  CHECK(plain->wait == absl::ZeroDuration());
  CHECK_FALSE(plain->read_only);
  CHECK_FALSE(plain->no_exec);
  CHECK_FALSE(plain->fake);
  CHECK_FALSE(plain->verbose);

  const auto full = order_of("ro,noexec,subtree=/files/a b/,endpoint=unix:/run/x.sock,wait=7");
  REQUIRE(full.ok());
  CHECK(full->read_only);
  CHECK(full->no_exec);
  CHECK(full->subtree == "files/a b");
  CHECK(full->endpoint == "unix:/run/x.sock");
  CHECK(full->wait == absl::Seconds(7));
  CHECK_FALSE(full->writeback_cache);
  CHECK(order_of("writeback_cache,subtree=files")->writeback_cache);
  CHECK_FALSE(order_of("writeback_cache=yes").ok());
  CHECK(order_of("wait")->wait == absl::Seconds(30));
  CHECK(order_of("subtree=\"files/a,b\",ro")->subtree == "files/a,b");
  CHECK(order_of("subtree=files/k=v")->subtree == "files/k=v");
  CHECK(order_of("subtree=/")->subtree.empty());
}

TEST_CASE("mount helper: of what excludes itself the last one counts") {
  CHECK_FALSE(order_of("ro,rw")->read_only);
  CHECK(order_of("rw,ro")->read_only);
  CHECK_FALSE(order_of("user,noexec,exec")->no_exec);
  CHECK(parse_mount_order({"blobcache", "/mnt", "-o", "rw", "-r"})->read_only);
  CHECK_FALSE(parse_mount_order({"blobcache", "/mnt", "-ro", "rw"})->read_only);
}

TEST_CASE("mount helper: arguments come in any order, flags together") {
  const auto order = parse_mount_order(
      {"-vfn", "-t", "blobcache", "-oro", "blobcache", "-o", "noexec", "/m", "-w"});
  REQUIRE(order.ok());
  CHECK(order->fake);
  CHECK(order->verbose);
  CHECK(order->no_exec);
  CHECK_FALSE(order->read_only);
  CHECK(order->mountpoint == "/m");
  CHECK(parse_mount_order({"none", "/m", "-tfuse.blobcache"}).ok());
  CHECK(parse_mount_order({"blobcache", "--", "/-m"})->mountpoint == "/-m");
}

TEST_CASE("mount helper: what others read in /etc/fstab is left to them") {
  CHECK(order_of("defaults,noauto,auto,user,users=,_netdev,nofail,x-systemd.automount").ok());
  CHECK(order_of("rw,nosuid,nodev,noatime,relatime,comment=a b,X-mount.mkdir,user=me,,").ok());
  CHECK(order_of("x-systemd.requires=blobcached.service,default_permissions").ok());
}

TEST_CASE("mount helper: what is not understood is named") {
  CHECK(complaint_about("ro,frob=1,rw") == "unknown option frob=1; see mount.blobcache(8)");
  CHECK(complaint_about("ro=1") == "unknown option ro=1; see mount.blobcache(8)");
  CHECK(complaint_about("subtree") == "option subtree needs a value");
  CHECK(complaint_about("endpoint") == "option endpoint needs a value");
  CHECK(complaint_about("subtree=files/../x").starts_with("option subtree: "));
  CHECK(complaint_about("subtree=").starts_with("option subtree: "));
  CHECK(complaint_about("endpoint=nonsense").starts_with("option endpoint: "));
  CHECK(complaint_about("endpoint=tcp:127.0.0.1:1") ==
        "option endpoint=tcp:127.0.0.1:1: must be a unix socket");
  for (const char* wait : {"wait=", "wait=soon", "wait=-1", "wait=3601", "wait=1.5"}) {
    CHECK(complaint_about(wait).ends_with("must be 0 to 3600 seconds"));
  }
  CHECK(complaint_about("subtree=\"files/a").find("quotation mark") != std::string::npos);
  CHECK(complaint_about("remount,ro").starts_with("option remount: a mount cannot be changed"));
  CHECK(complaint_about("allow_other").find("fuse.allow_other") != std::string::npos);
  CHECK(complaint_about("suid").starts_with("option suid: "));

  CHECK(complaint({"blobcache", "/m", "-N", "ns"}) == "unknown option -N; see mount.blobcache(8)");
  CHECK(complaint({"blobcache", "/m", "-o"}) == "-o needs a value");
  CHECK(complaint({"blobcache", "/m", "-t", "ext4"}) == "-t ext4: the type is blobcache");
  CHECK(complaint({"blobcache"}) == "needs blobcache and a mountpoint");
  CHECK(complaint({"blobcache", "/m", "x"}) == "one argument too many, x");
  CHECK(complaint({"files/a", "/m"}).ends_with("-o subtree=PATH"));
}

TEST_CASE("mount helper: it can be sloppy about what it does not know, and about nothing else") {
  CHECK(parse_mount_order({"-s", "blobcache", "/m", "-o", "frob,allow_other,ro"})->read_only);
  CHECK(complaint({"-s", "blobcache", "/m", "-o", "wait=x"}).find("wait=x") != std::string::npos);
}

TEST_CASE("mount helper: its exit statuses are mount(8)'s") {
  const std::string nowhere = "endpoint=unix:/nonexistent/socket";
  CHECK(run_mount_helper({"blobcache", "/m", "-o", "frob"}) == 1);
  CHECK(run_mount_helper({"blobcache", "/m", "-o", nowhere}) == 32);
  CHECK(run_mount_helper({"blobcache", "/m", "-f", "-o", nowhere}) == 0);
}

}  // namespace
}  // namespace blobcache::ctl
