#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace blobcache::blockdev {

/// The allow-list of exports: which paths of the tree a client may open. A path is allowed when any
/// pattern matches all of it. In a pattern `?` stands for one character and `*` for any run of them
/// within one component; `**` crosses components, and as a whole component it also stands for none:
///
///     **                 everything
///     files/images/*     what lies directly in files/images
///     files/**/*.img     every .img file under files, at any depth
///
/// Everything else stands for itself; brackets, which elsewhere stand for a choice of characters,
/// are refused, so that nobody believes that they do here. Immutable, so any thread may ask.
class ExportFilter {
 public:
  /// INVALID_ARGUMENT, naming the pattern, for one that is empty, starts or ends with a slash, has
  /// a bracket, or is over 4,096 bytes. An empty list allows nothing.
  [[nodiscard]] static absl::StatusOr<ExportFilter> parse(const std::vector<std::string>& patterns);

  /// `path` has no leading slash.
  [[nodiscard]] bool allows(std::string_view path) const;

  /// Whether some path below `directory` could be allowed; a walk need not enter it otherwise.
  [[nodiscard]] bool allows_below(std::string_view directory) const;

 private:
  enum class Kind : unsigned char { kLiteral, kAnyOne, kAnyInComponent, kAnyRun, kAnyComponents };
  struct Token {
    Kind kind = Kind::kLiteral;
    char literal = 0;
  };
  using Pattern = std::vector<Token>;
  enum class End : unsigned char { kWhole, kPrefix };

  static Pattern compile(std::string_view text);
  static bool matches(const Pattern& pattern, std::string_view path, End end);

  std::vector<Pattern> patterns_;
};

}  // namespace blobcache::blockdev
