#pragma once

#include <cstdint>

namespace blobcache::test {

/// How often this thread has asked operator new for memory so far. Only in programs that link
/// counted_new.cc.
[[nodiscard]] uint64_t allocations_here();

}  // namespace blobcache::test
