#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "store/page/object_key.h"

namespace blobcache::page {

class DiskTier;

/// What objects' files say of themselves, so that whoever knows their names can learn them again
/// when all else is lost. Text and records that mean nothing to the page store, in two places:
///
///     the attribute    a short text, an extended attribute of the data file
///     the names file   "KEY.ID.names" beside it, as many records as there are, each a line; for
///                      what the attribute has no room for, and where the file system has none
///
/// Changes are not synced: a power cut may bring the former state back. Only a names file that is
/// written whole is on the disk before it takes its name, so that what it replaces is not lost
/// before. Names files count against no budget, as the attribute and the catalog do not.
///
/// Thread-safe for different objects; what is written about one object is the caller's to order.
/// Blocks on the disk. Must not outlive its page store.
class Descriptions {
 public:
  using AddRecord = absl::FunctionRef<absl::Status(std::string_view record)>;
  using FillFile = absl::FunctionRef<absl::Status(AddRecord add)>;

  explicit Descriptions(DiskTier& disk) : disk_(disk) {}

  /// Whether this file system has attributes at all.
  [[nodiscard]] bool has_attributes() const;

  /// nullopt when there is none. NOT_FOUND when the object's file is gone.
  [[nodiscard]] absl::StatusOr<std::optional<std::string>> attribute(
      const ObjectKey& key, const Incarnation& incarnation) const;
  /// False when the file system has no attributes or no room for this one; what was there before
  /// may be there still. NOT_FOUND when the object's file is gone.
  [[nodiscard]] absl::StatusOr<bool> set_attribute(const ObjectKey& key,
                                                   const Incarnation& incarnation,
                                                   const std::string& text) const;
  /// As set_attribute(), but where it cannot be stored there is none afterwards.
  [[nodiscard]] absl::Status replace_attribute(const ObjectKey& key, const Incarnation& incarnation,
                                               const std::string& text) const;

  /// Puts a new names file in the place of the one that may be there; `fill` tells its records,
  /// which have no newlines. NOT_FOUND when the object's file is gone. A failed call leaves the
  /// former one.
  [[nodiscard]] absl::Status write_file(const ObjectKey& key, const Incarnation& incarnation,
                                        FillFile fill) const;
  /// Adds to the names file. False when there is none or it wants to be written whole.
  [[nodiscard]] absl::StatusOr<bool> append(const ObjectKey& key, const Incarnation& incarnation,
                                            absl::Span<const std::string> records) const;
  /// Gives the names file of one copy of the object to another one, which takes its place and gets
  /// `text` for its attribute first. False, with nothing changed, when there is no such file.
  [[nodiscard]] absl::StatusOr<bool> hand_over(const ObjectKey& key, const Incarnation& from,
                                               const Incarnation& to,
                                               const std::string& text) const;
  /// Calls `visit` for every record that is whole. NOT_FOUND without a file, DATA_LOSS when not all
  /// of it is right.
  [[nodiscard]] absl::Status read_file(
      const ObjectKey& key, const Incarnation& incarnation,
      absl::FunctionRef<void(std::string_view record)> visit) const;
  /// No error when there is none.
  [[nodiscard]] absl::Status remove_file(const ObjectKey& key,
                                         const Incarnation& incarnation) const;

 private:
  DiskTier& disk_;
};

}  // namespace blobcache::page
