// Whatever stands in a file's attribute, or in the records of a names file, is parsed or refused;
// what is parsed is what is written.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>

#include "store/tree/impl/description.h"

namespace {

namespace tree = blobcache::tree;

/// Each line a record: what they leave is left again by what is written for it.
void replay(std::string_view text) {
  tree::NameReplay first;
  while (!text.empty()) {
    const size_t length = std::min(text.find('\n'), text.size());
    first.take(text.substr(0, length));
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  tree::NameReplay second;
  for (const auto& [path, name] : first.names()) {
    if (path != name.path) std::abort();
    second.take(tree::format_bound(name));
  }
  second.take(tree::format_pinned(first.pinned()));
  if (!second.whole() || second.names() != first.names()) std::abort();
  if (second.pinned() != first.pinned()) std::abort();
  for (const auto& [path, name] : first.names()) second.take(tree::format_gone(path));
  if (!second.whole() || !second.names().empty()) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const void* bytes = data;
  const std::string_view text(static_cast<const char*>(bytes), size);
  replay(text);
  const absl::StatusOr<tree::Description> parsed = tree::parse_description(text);
  if (!parsed.ok()) {
    // Other reasons would be taken for errors of the disk.
    if (!absl::IsDataLoss(parsed.status())) std::abort();
    return 0;
  }
  // Escapes that need not be may make it too long to be written again.
  const std::optional<std::string> written = tree::format_description(*parsed);
  if (!written) return 0;
  const absl::StatusOr<tree::Description> again = tree::parse_description(*written);
  if (!again.ok() || *again != *parsed) std::abort();
  return 0;
}
