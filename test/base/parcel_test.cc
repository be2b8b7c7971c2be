#include "base/parcel.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <utility>

namespace blobcache::base {
namespace {

Parcel sample() {
  ParcelWriter inner;
  inner.add_text("inner");
  inner.add_descriptor(UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)));
  ParcelWriter writer;
  writer.add_number(0);
  writer.add_number(UINT64_MAX);
  writer.add_flag(true);
  writer.add_time(absl::FromUnixNanos(1'700'000'000'123'456'789));
  writer.add_time(absl::InfinitePast());
  writer.add_text(std::string("a\0b", 3));
  writer.add_text("");
  writer.add_descriptor(UniqueFd());
  writer.add_descriptor(UniqueFd(::open("/dev/zero", O_RDONLY | O_CLOEXEC)));
  writer.add_parcel(std::move(inner).take());
  return std::move(writer).take();
}

char byte_of(int fd) {
  char byte = 'x';
  return ::read(fd, &byte, 1) == 1 ? byte : 'e';
}

TEST_CASE("parcel: what was packed is unpacked") {
  const Parcel parcel = sample();
  CHECK(parcel.descriptors.size() == 2);
  for (int times = 0; times < 2; ++times) {  // the parcel stays as it is
    ParcelReader reader(parcel);
    CHECK(reader.number() == 0);
    CHECK(reader.number() == UINT64_MAX);
    CHECK(reader.flag());
    CHECK(reader.time() == absl::FromUnixNanos(1'700'000'000'123'456'789));
    CHECK(reader.time() == absl::InfinitePast());
    CHECK(reader.text() == std::string("a\0b", 3));
    CHECK(reader.text().empty());
    CHECK_FALSE(reader.descriptor().valid());
    const UniqueFd zero = reader.descriptor();
    CHECK(byte_of(zero.get()) == '\0');
    CHECK((::fcntl(zero.get(), F_GETFD) & FD_CLOEXEC) != 0);
    const Parcel inner = reader.parcel();
    CHECK(reader.end().ok());
    ParcelReader within(inner);
    CHECK(within.text() == "inner");
    CHECK(byte_of(within.descriptor().get()) == 'e');
    CHECK(within.end().ok());
  }
}

TEST_CASE("parcel: one that was cut anywhere is noticed, and gives nothing more") {
  const Parcel whole = sample();
  for (size_t size = 0; size < whole.bytes.size(); ++size) {
    Parcel cut;
    cut.bytes = whole.bytes.substr(0, size);
    ParcelReader reader(cut);
    static_cast<void>(reader.number());
    static_cast<void>(reader.number());
    static_cast<void>(reader.flag());
    static_cast<void>(reader.time());
    static_cast<void>(reader.time());
    static_cast<void>(reader.text());
    static_cast<void>(reader.text());
    static_cast<void>(reader.descriptor());
    static_cast<void>(reader.descriptor());
    static_cast<void>(reader.parcel());
    CHECK(absl::IsDataLoss(reader.end()));
    CHECK(reader.text().empty());
    CHECK(reader.count() == 0);
  }
}

TEST_CASE("parcel: sizes and counts that cannot be are refused before anything is taken for them") {
  ParcelWriter writer;
  writer.add_number(UINT64_MAX);
  const Parcel parcel = std::move(writer).take();
  ParcelReader text(parcel);
  CHECK(text.text().empty());
  CHECK(absl::IsDataLoss(text.status()));
  ParcelReader count(parcel);
  CHECK(count.count() == 0);
  CHECK(absl::IsDataLoss(count.status()));
  ParcelReader left(parcel);
  CHECK(absl::IsDataLoss(left.end()));  // something is left
}

}  // namespace
}  // namespace blobcache::base
