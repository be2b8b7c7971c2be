#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

#include "absl/functional/function_ref.h"

namespace blobcache::tree {

/// Calls `work` with 0 to `count` - 1, side by side: each waits for the disk several times, and
/// there may be thousands. Returns when all are done.
inline void for_each_side_by_side(size_t count, absl::FunctionRef<void(size_t)> work) {
  constexpr size_t kThreads = 16;
  std::atomic<size_t> next{0};
  std::vector<std::thread> threads;
  while (threads.size() < std::min(kThreads, count)) {
    threads.emplace_back([&] {
      for (size_t i = next++; i < count; i = next++) work(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace blobcache::tree
