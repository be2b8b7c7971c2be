#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/unique_fd.h"

namespace blobcache::base {

/// What one part of the daemon hands to the same part of the program that replaces it: bytes, and
/// descriptors that they speak of. Moves, never copies.
struct Parcel {
  std::string bytes;
  std::vector<UniqueFd> descriptors;
};

/// Packs a Parcel, item by item; a ParcelReader unpacks them in the same order. Numbers are eight
/// bytes, the lowest first. Not thread-safe.
class ParcelWriter {
 public:
  void add_number(uint64_t number);
  void add_flag(bool flag) { add_number(flag ? 1 : 0); }
  void add_time(absl::Time time);
  void add_text(std::string_view text);
  /// An invalid one is an item, too.
  void add_descriptor(UniqueFd descriptor);
  void add_parcel(Parcel parcel);

  [[nodiscard]] Parcel take() && { return std::move(parcel_); }

 private:
  Parcel parcel_;
};

/// Unpacks a Parcel, which stays as it is and must outlive the reader. After the first item that is
/// not there all that follow are empty (0, false, "", invalid) and status() says so: who reads asks
/// once, at the end. Not thread-safe.
class ParcelReader {
 public:
  explicit ParcelReader(const Parcel& parcel) : parcel_(parcel) {}

  [[nodiscard]] uint64_t number();
  [[nodiscard]] bool flag() { return number() != 0; }
  [[nodiscard]] absl::Time time();
  [[nodiscard]] std::string text();
  /// A duplicate, close-on-exec.
  [[nodiscard]] UniqueFd descriptor();
  /// With duplicates of its descriptors.
  [[nodiscard]] Parcel parcel();
  /// How many items follow, of at least 8 bytes each: never more than there is room for.
  [[nodiscard]] size_t count();

  /// DATA_LOSS when an item was not there or could not be.
  [[nodiscard]] const absl::Status& status() const { return status_; }
  /// The same, and when something is left.
  [[nodiscard]] absl::Status end() const;

 private:
  [[nodiscard]] std::string_view take(size_t size);
  void fail(std::string_view why);

  const Parcel& parcel_;
  size_t at_ = 0;
  absl::Status status_;
};

}  // namespace blobcache::base
