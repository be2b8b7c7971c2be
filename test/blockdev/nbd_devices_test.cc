#include "blockdev/nbd_devices.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "test/blockdev/test_export.h"

namespace blobcache::blockdev {
namespace {

constexpr std::string_view kIdentifier = "blobcache sha256:00ff files/a b";

/// What the kernel would show of its devices, written by hand.
class FakeKernel {
 public:
  void write(const std::string& file, std::string_view content) const {
    const std::filesystem::path path = dir_.path() / file;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << content;
  }
  void attach(const std::string& name, std::string_view number) const {
    write("sys/block/" + name + "/pid", "12\n");
    write("sys/block/" + name + "/size", "2048\n");
    write("sys/block/" + name + "/ro", "1\n");
    write("sys/block/" + name + "/dev", std::string(number) + "\n");
    write("sys/block/" + name + "/backend", std::string(kIdentifier) + "\n");
  }
  void detach(const std::string& name) const {
    std::filesystem::remove(dir_.path() / "sys/block" / name / "pid");
  }
  [[nodiscard]] NbdDevices devices() const {
    return NbdDevices(
        {.sys = dir_.path() / "sys", .proc = dir_.path() / "proc", .dev = dir_.path() / "dev"});
  }

 private:
  TempDir dir_;
};

using Users = std::vector<std::string>;

TEST_CASE("nbd devices: names") {
  CHECK(*parse_nbd_device("/dev/nbd0") == 0);
  CHECK(*parse_nbd_device("nbd17") == 17);
  CHECK(*parse_nbd_device("/dev/nbd32767") == 32767);
  for (const char* name :
       {"", "/dev/nbd", "/dev/nbd-1", "/dev/nbd0p1", "/dev/nbd00", "/dev/sda", "0", "/dev/nbd32768",
        "/dev/nbd99999999999999999999", "/dev//nbd0", "/nbd0", "/dev/nbd0 ", "nbd 0"}) {
    CAPTURE(name);
    CHECK(absl::IsInvalidArgument(parse_nbd_device(name).status()));
  }
  CHECK(nbd_device_name(3) == "/dev/nbd3");
  CHECK(*parse_ublk_device("/dev/ublkb12") == 12);
  CHECK(*parse_ublk_device("ublkb0") == 0);
  for (const char* name : {"/dev/ublkc0", "/dev/ublkb", "/dev/nbd0", "ublkb0p1"}) {
    CHECK(absl::IsInvalidArgument(parse_ublk_device(name).status()));
  }
  CHECK(ublk_device_name(3) == "/dev/ublkb3");
}

TEST_CASE("nbd devices: the identifier says what is shown, and which are not ours") {
  const std::optional<DeviceContent> content = DeviceContent::parse(kIdentifier);
  REQUIRE(content);
  CHECK(content->id == "sha256:00ff");
  CHECK(content->path == "files/a b");
  CHECK(content->to_identifier() == kIdentifier);
  const DeviceContent deep{.id = "x", .path = std::string(4000, 'p')};
  CHECK(deep.to_identifier().size() < 1100);
  for (const char* other :
       {"", "blobcache", "blobcache ", "blobcache x", "blobcache  y", "rbd a b"}) {
    CAPTURE(other);
    CHECK_FALSE(DeviceContent::parse(other));
  }
}

TEST_CASE("nbd devices: those that are attached") {
  const FakeKernel kernel;
  CHECK(kernel.devices().attached().empty());
  kernel.attach("nbd10", "43:320");
  kernel.attach("nbd2", "43:64");
  kernel.write("sys/block/nbd3/size", "0\n");  // there, and not attached
  kernel.write("sys/block/sda/pid", "1\n");
  const std::vector<NbdDevice> all = kernel.devices().attached();
  REQUIRE(all.size() == 2);
  CHECK(all[0].index == 2);
  CHECK(all[1].index == 10);
  CHECK(all[1].size_bytes == 1U << 20);
  CHECK(all[1].read_only);
  CHECK(all[1].identifier == kIdentifier);
  CHECK(kernel.devices().find(2));
  CHECK_FALSE(kernel.devices().find(3));
  CHECK_FALSE(kernel.devices().find(4));
}

TEST_CASE("nbd devices: a kernel that keeps no identifier, or is in the middle of something") {
  const FakeKernel kernel;
  kernel.write("sys/block/nbd0/pid", "12\n");
  kernel.write("sys/block/nbd0/size", "nonsense");
  const std::optional<NbdDevice> device = kernel.devices().find(0);
  REQUIRE(device);
  CHECK(device->identifier.empty());
  CHECK(device->size_bytes == 0);
  CHECK_FALSE(device->read_only);
}

TEST_CASE("nbd devices: who uses one, or a partition of it") {
  const FakeKernel kernel;
  kernel.attach("nbd1", "43:32");
  kernel.write("sys/block/nbd1/nbd1p1/dev", "43:33\n");
  CHECK(kernel.devices().users("nbd1").empty());
  kernel.write("proc/self/mountinfo",
               "20 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
               "21 20 43:32 / /mnt/a\\040b rw shared:1 - ext4 /dev/nbd1 ro\n"
               "22 20 43:33 / /part rw - ext4 /dev/nbd1p1 ro\n"
               "23 20 0:44 / /pool rw shared:2 master:3 - btrfs /dev/nbd1p1 rw\n"
               "24 20 43:320 / /other rw - ext4 /dev/nbd10 rw\n"
               "short\n");
  CHECK(kernel.devices().users("nbd1") ==
        Users{"mounted on /mnt/a b", "mounted on /part", "mounted on /pool"});
  CHECK(kernel.devices().users("nbd2").empty());
  kernel.write("proc/self/mountinfo", "");
  kernel.write("proc/swaps", "Filename Type\n/dev/nbd10 partition 1\n/dev/nbd1p1\tpartition 1\n");
  kernel.write("sys/block/nbd1/holders/dm-0", "");
  CHECK(kernel.devices().users("nbd1") == Users{"used by dm-0", "used as swap"});
}

TEST_CASE("nbd devices: claiming one") {
  const FakeKernel kernel;
  const auto absent = kernel.devices().claim("nbd1");
  REQUIRE(absent.ok());
  CHECK_FALSE(absent->valid());
  kernel.write("dev/nbd1", "");
  const auto there = kernel.devices().claim("nbd1");
  REQUIRE(there.ok());
  CHECK(there->valid());
  kernel.devices().settle("nbd1");
  kernel.devices().settle("nbd2");
}

TEST_CASE("nbd devices: one that answers, and one that waits for a daemon") {
  const FakeKernel kernel;
  const auto stat = [&](const char* text) { kernel.write("sys/block/nbd1/stat", text); };
  const auto answers = [&] { return kernel.devices().answers(1, absl::ZeroDuration()); };
  CHECK(answers());
  stat("  86  0 3440  5  12  0  96  7  0  8  12  0  0  0  0  3  1\n");
  CHECK(answers());
  stat("  86  0 3440  5  12  0  96  7  2  8  12  0  0  0  0  3  1\n");
  CHECK_FALSE(answers());
  stat("  86  0 3440  5  12  0  96  7  2  8  12\n");  // of an older kernel
  CHECK_FALSE(answers());
}

TEST_CASE("nbd devices: waiting until one is gone") {
  const FakeKernel kernel;
  kernel.attach("nbd1", "43:32");
  CHECK_FALSE(kernel.devices().wait_gone(1, absl::ZeroDuration()));
  kernel.detach("nbd1");
  CHECK(kernel.devices().wait_gone(1, absl::ZeroDuration()));
}

}  // namespace
}  // namespace blobcache::blockdev
