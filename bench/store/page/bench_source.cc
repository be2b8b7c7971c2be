#include "bench/store/page/bench_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace blobcache::page {

std::unique_ptr<Source::Fetch> BenchSource::fetch(uint64_t offset, absl::Span<std::byte> into,
                                                  FetchDone done) {
  uint64_t state = (seed_ << 48) ^ offset;
  for (size_t at = 0; at < into.size(); at += sizeof(state)) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    std::memcpy(into.data() + at, &state, std::min(sizeof(state), into.size() - at));
  }
  std::move(done)(absl::OkStatus());
  return nullptr;
}

}  // namespace blobcache::page
