#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace blobcache::net {

/// A name that a server's listing of a folder has. Value type.
struct HttpIndexEntry {
  std::string name;  ///< one component, as tree::check_name() has it
  bool is_folder = false;

  friend bool operator==(const HttpIndexEntry&, const HttpIndexEntry&) = default;
};

/// The links of a page that nginx, Apache or Python makes of a folder at `path` (percent-encoded,
/// with a slash at its end) that lead to something directly beneath it, in their order, each once.
/// UNIMPLEMENTED for a page that is no such listing, RESOURCE_EXHAUSTED for more than `most` names.
[[nodiscard]] absl::StatusOr<std::vector<HttpIndexEntry>> parse_index_html(std::string_view page,
                                                                           std::string_view path,
                                                                           size_t most);

/// The same of nginx's autoindex_format json: an array of objects with a name and a type.
[[nodiscard]] absl::StatusOr<std::vector<HttpIndexEntry>> parse_index_json(std::string_view text,
                                                                           size_t most);

/// A text with the five entities of XML, those that are numbers and &nbsp; as what they stand for,
/// in UTF-8. What is none stays as it is.
[[nodiscard]] std::string decode_entities(std::string_view text);

}  // namespace blobcache::net
