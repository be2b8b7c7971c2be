// Whatever stands in a names file is taken apart or refused, the same in whatever pieces it is
// read; what is taken is what is written again.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "store/page/impl/names_file.h"

namespace {

namespace page = blobcache::page;

struct Parsed {
  absl::Status status;
  std::vector<std::string> records;
};

Parsed parse(std::string_view text, size_t step) {
  Parsed parsed;
  const auto visit = [&](std::string_view record) { parsed.records.emplace_back(record); };
  page::NamesFileParser parser(page::ObjectKey(), visit);
  for (size_t at = 0; at < text.size(); at += step) parser.feed(text.substr(at, step));
  parsed.status = parser.finish();
  return parsed;
}

void check(std::string_view text) {
  const Parsed whole = parse(text, std::max<size_t>(text.size(), 1));
  if (!whole.status.ok() && !absl::IsDataLoss(whole.status)) std::abort();
  const Parsed pieces = parse(text, 7);
  if (pieces.status.code() != whole.status.code() || pieces.records != whole.records) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const void* bytes = data;
  std::string_view text(static_cast<const char*>(bytes), size);
  check(text);
  // The same with right checksums, which nobody guesses.
  std::string file = page::names_header(page::ObjectKey(), 0);
  std::vector<std::string> records;
  while (!text.empty()) {
    const std::string_view record = text.substr(0, std::min(text.find('\n'), text.size()));
    if (record.size() < page::kMaxNamesLine / 2) {
      records.emplace_back(record);
      file += page::names_line(page::ObjectKey(), file.size(), record);
    }
    text.remove_prefix(std::min(record.size() + 1, text.size()));
  }
  const Parsed parsed = parse(file, 1000);
  if (!parsed.status.ok() || parsed.records != records) std::abort();
  // And with what came for an end.
  check(file + std::string(static_cast<const char*>(bytes), size));
  return 0;
}
