// Whatever stands in a file's attribute is parsed or refused; what is parsed is what is written.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "store/tree/impl/description.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace tree = blobcache::tree;
  const void* bytes = data;
  const std::string_view text(static_cast<const char*>(bytes), size);
  const absl::StatusOr<tree::Description> parsed = tree::parse_description(text);
  if (!parsed.ok()) {
    // Other reasons would be taken for errors of the disk.
    if (!absl::IsDataLoss(parsed.status())) std::abort();
    return 0;
  }
  const absl::StatusOr<tree::Description> again =
      tree::parse_description(tree::format_description(*parsed));
  if (!again.ok() || again->key != parsed->key || again->size_bytes != parsed->size_bytes) {
    std::abort();
  }
  // Escapes that need not be may make it too long to be written again.
  if (!again->more_names && *again != *parsed) std::abort();
  return 0;
}
