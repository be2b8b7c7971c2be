#include "server/handover.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <utility>

#include "base/status.h"
#include "server/daemon_handover.h"

namespace blobcache::server {
namespace {

Handover sample_handover() {
  Handover handover;
  handover.number = 7;
  handover.paused_ns = 123'456'789;
  handover.program = "/usr/sbin/blobcached";
  handover.former = "/opt/blobcached";
  handover.arguments = {"blobcached", "--config", "a file"};
  base::ParcelWriter parcel;
  parcel.add_text("state");
  parcel.add_descriptor(base::UniqueFd(::open("/dev/zero", O_RDONLY | O_CLOEXEC)));
  handover.daemon = std::move(parcel).take();
  return handover;
}

base::UniqueFd written_file(const Handover& handover) {
  absl::StatusOr<base::UniqueFd> file = make_handover_file();
  REQUIRE(file.ok());
  REQUIRE(write_handover(file->get(), handover).ok());
  return *std::move(file);
}

size_t size_of_file(int file) {
  struct stat info{};
  REQUIRE(::fstat(file, &info) == 0);
  return static_cast<size_t>(info.st_size);
}

bool complains(const absl::Status& status, std::string_view words) {
  return base::message(status).find(words) != std::string_view::npos;
}

TEST_CASE("handover: what was written is read") {
  Handover before = sample_handover();
  const base::UniqueFd file = written_file(before);
  absl::StatusOr<Handover> after = read_handover(file.get());
  REQUIRE(after.ok());
  CHECK(after->number == 7);
  CHECK(after->paused_ns == 123'456'789);
  CHECK(after->program == "/usr/sbin/blobcached");
  CHECK(after->former == "/opt/blobcached");
  CHECK(after->arguments == before.arguments);
  REQUIRE(after->daemon.descriptors.size() == 1);
  // In earnest another program reads it: here both own the descriptor.
  CHECK(after->daemon.descriptors[0].get() == before.daemon.descriptors[0].release());
  base::ParcelReader reader(after->daemon);
  CHECK(reader.text() == "state");
  CHECK(reader.descriptor().valid());
  CHECK(reader.end().ok());
}

TEST_CASE("handover: what is foreign, of another version, cut or damaged is refused") {
  const Handover handover = sample_handover();
  const base::UniqueFd file = written_file(handover);
  const size_t size = size_of_file(file.get());
  std::string whole(size, '\0');
  REQUIRE(::pread(file.get(), whole.data(), size, 0) == static_cast<ssize_t>(size));
  const auto refused = [&file](std::string_view bytes) {
    REQUIRE(::ftruncate(file.get(), 0) == 0);
    REQUIRE(::pwrite(file.get(), bytes.data(), bytes.size(), 0) ==
            static_cast<ssize_t>(bytes.size()));
    return read_handover(file.get()).status();
  };
  CHECK(complains(refused(""), "not the state of a daemon"));
  CHECK(complains(refused("something else, and longer than a header is"),
                  "not the state of a daemon"));
  std::string newer = whole;
  newer[8] = static_cast<char>(kHandoverVersion + 1);
  CHECK(absl::IsFailedPrecondition(refused(newer)));
  CHECK(complains(refused(newer), fmt::format("has version {}, and this program knows version {}",
                                              kHandoverVersion + 1, kHandoverVersion)));
  for (size_t length = 24; length < size; ++length) {
    CHECK(complains(refused(std::string_view(whole).substr(0, length)), "not whole"));
  }
  for (size_t at = 24; at < size; ++at) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ 1);
    CHECK(complains(refused(damaged), "damaged"));
  }
  CHECK(complains(refused(whole + "x"), "not whole"));
}

TEST_CASE("handover: a daemon's parts come back as they were") {
  DaemonHandover before;
  before.lock.bytes = "lock";
  before.tree.bytes = "tree";
  before.mounts.push_back({"one", {}});
  before.mounts.push_back({"two", {}});
  before.sockets.push_back({"nbd", "tcp:127.0.0.1:0", "tcp:127.0.0.1:5",
                            base::UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))});
  before.metrics_wanted = "tcp:a:0";
  before.metrics_actual = "tcp:a:9";
  before.devices.push_back({3, "volumes/x"});
  const base::Parcel parcel = pack(std::move(before));
  absl::StatusOr<DaemonHandover> after = unpack(parcel);
  REQUIRE(after.ok());
  CHECK(after->lock.bytes == "lock");
  CHECK(after->tree.bytes == "tree");
  REQUIRE(after->mounts.size() == 2);
  CHECK(after->mounts[1].bytes == "two");
  CHECK(after->metrics_wanted == "tcp:a:0");
  CHECK(after->metrics_actual == "tcp:a:9");
  REQUIRE(after->devices.size() == 1);
  CHECK(after->devices[0].id == 3);
  CHECK(after->devices[0].path == "volumes/x");
  const base::Parcel cut{parcel.bytes.substr(0, parcel.bytes.size() - 1), {}};
  CHECK(absl::IsDataLoss(unpack(cut).status()));

  // A socket is found by its door and the address as it was configured, and then has its port.
  HandedSockets sockets(std::move(after->sockets));
  base::ListenAddress address = *base::parse_listen_address("tcp:127.0.0.1:0");
  base::ListenAddress other = address;
  const auto fresh = sockets.take("grpc", other);
  REQUIRE(fresh.ok());
  CHECK(other.port != 5);
  const auto taken = sockets.take("nbd", address);
  REQUIRE(taken.ok());
  CHECK(address.port == 5);
}

}  // namespace
}  // namespace blobcache::server
