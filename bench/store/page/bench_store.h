#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <vector>

#include "store/page/page_store.h"

namespace blobcache::page {

/// Ends the benchmark with a message when something that must work does not.
void require(const absl::Status& status);

/// A page store in a folder of its own (in `where`, or under $TMPDIR), with objects of random
/// bytes.
class BenchStore {
 public:
  explicit BenchStore(uint64_t memory_bytes, const std::filesystem::path& where = {});
  /// As `options` say, but for the path.
  explicit BenchStore(PageStoreOptions options, const std::filesystem::path& where = {});
  ~BenchStore();
  BenchStore(const BenchStore&) = delete;
  BenchStore& operator=(const BenchStore&) = delete;

  [[nodiscard]] PageStore& store() { return *store_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Puts `size_bytes` of random bytes and opens them.
  [[nodiscard]] ObjectRef put(uint64_t size_bytes);
  /// Puts `size_bytes` of random bytes and drops them again. From any thread.
  void put_and_drop(uint64_t size_bytes);
  /// Reads all of it once, so that L0 holds it if it can.
  static void warm(Object& object);

 private:
  std::filesystem::path path_;
  std::unique_ptr<PageStore> store_;
  std::mt19937_64 random_{1};
  uint8_t next_key_ = 1;
};

}  // namespace blobcache::page
