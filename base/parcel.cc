#include "base/parcel.h"

#include <fcntl.h>

#include <cerrno>
#include <utility>

#include "base/status.h"

namespace blobcache::base {
namespace {

constexpr size_t kNumberBytes = 8;
constexpr uint64_t kNoDescriptor = ~uint64_t{0};

}  // namespace

void ParcelWriter::add_number(uint64_t number) {
  for (size_t i = 0; i < kNumberBytes; ++i) {
    parcel_.bytes.push_back(static_cast<char>(number >> (8 * i)));
  }
}

void ParcelWriter::add_time(absl::Time time) {
  // The infinite ones are the ends of what a number can say, both ways.
  add_number(static_cast<uint64_t>(absl::ToUnixNanos(time)));
}

void ParcelWriter::add_text(std::string_view text) {
  add_number(text.size());
  parcel_.bytes.append(text);
}

void ParcelWriter::add_descriptor(UniqueFd descriptor) {
  if (!descriptor.valid()) return add_number(kNoDescriptor);
  add_number(parcel_.descriptors.size());
  parcel_.descriptors.push_back(std::move(descriptor));
}

void ParcelWriter::add_parcel(Parcel parcel) {
  add_text(parcel.bytes);
  add_number(parcel.descriptors.size());
  for (UniqueFd& descriptor : parcel.descriptors) add_descriptor(std::move(descriptor));
}

std::string_view ParcelReader::take(size_t size) {
  if (!status_.ok()) return {};
  if (size > parcel_.bytes.size() - at_) {
    fail("ends too early");
    return {};
  }
  const std::string_view taken = std::string_view(parcel_.bytes).substr(at_, size);
  at_ += size;
  return taken;
}

void ParcelReader::fail(std::string_view why) {
  if (status_.ok()) status_ = error(absl::StatusCode::kDataLoss, why);
}

uint64_t ParcelReader::number() {
  uint64_t number = 0;
  const std::string_view bytes = take(kNumberBytes);
  for (size_t i = 0; i < bytes.size(); ++i) {
    number |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  return number;
}

absl::Time ParcelReader::time() {
  const auto nanos = static_cast<int64_t>(number());
  if (nanos == INT64_MIN) return absl::InfinitePast();
  return nanos == INT64_MAX ? absl::InfiniteFuture() : absl::FromUnixNanos(nanos);
}

std::string ParcelReader::text() { return std::string(take(number())); }

UniqueFd ParcelReader::descriptor() {
  const uint64_t index = number();
  if (!status_.ok() || index == kNoDescriptor) return {};
  if (index >= parcel_.descriptors.size()) {
    fail("speaks of a descriptor that is not there");
    return {};
  }
  UniqueFd copy(::fcntl(parcel_.descriptors[index].get(), F_DUPFD_CLOEXEC, 0));
  if (!copy.valid() && status_.ok()) status_ = errno_error(errno, "duplicating a descriptor");
  return copy;
}

Parcel ParcelReader::parcel() {
  Parcel inner;
  inner.bytes = text();
  const size_t descriptors = count();
  for (size_t i = 0; i < descriptors; ++i) inner.descriptors.push_back(descriptor());
  return inner;
}

size_t ParcelReader::count() {
  const uint64_t items = number();
  if (items > (parcel_.bytes.size() - at_) / kNumberBytes) {
    fail("speaks of more than there is");
    return 0;
  }
  return items;
}

absl::Status ParcelReader::end() const {
  if (status_.ok() && at_ != parcel_.bytes.size()) {
    return absl::DataLossError("has more than it should have");
  }
  return status_;
}

}  // namespace blobcache::base
