#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace blobcache::net {

/// The names that a server lists, seen as a tree: the parts between slashes are directories. A name
/// that cannot be a path ("a//b", "..") is left out, and so is one beneath another export's name,
/// which is a file already, or deeper than kMaxDepth. The empty name, which some servers have by
/// default, is at kNameless, unless another's name is there or begins with it as a directory. Value
/// type, of little more than the names: the directories are found by search, not stored.
class NbdExports {
 public:
  static constexpr size_t kMaxDepth = 64;  ///< components
  static constexpr std::string_view kNameless = "default";
  /// What became of the export with the empty name.
  enum class Nameless {
    kNone,    ///< the server lists none
    kShown,   ///< it is at kNameless
    kHidden,  ///< another is there
  };
  enum class Kind { kNothing, kDirectory, kExport };
  struct Entry {
    std::string name;  ///< one component
    bool directory = false;
  };

  NbdExports() = default;
  explicit NbdExports(std::vector<std::string> names);

  /// What is at a path such as "a/b"; "" is the top, a directory always.
  [[nodiscard]] Kind at(std::string_view path) const;
  /// Sorted by name, each once. FAILED_PRECONDITION for an export, NOT_FOUND for nothing,
  /// RESOURCE_EXHAUSTED for more than `max_entries`.
  [[nodiscard]] absl::StatusOr<std::vector<Entry>> list(std::string_view path,
                                                        size_t max_entries) const;
  /// How many cannot be at a path; a hidden nameless one is not among them.
  [[nodiscard]] size_t left_out() const { return left_out_; }
  [[nodiscard]] Nameless nameless() const { return nameless_; }

 private:
  [[nodiscard]] bool is_export(std::string_view path) const;
  [[nodiscard]] bool fits(std::string_view name) const;

  std::vector<std::string> names_;  ///< sorted
  size_t left_out_ = 0;
  Nameless nameless_ = Nameless::kNone;
};

}  // namespace blobcache::net
