// Fills a store with objects that have one page of data in each extent:
//
//     fill_load FOLDER OBJECTS EXTENTS
//
// makes OBJECTS blobs, files/0 and so on, of EXTENTS extents each, on all processors. Their holes
// take neither disk nor memory, but are hashed.

#include <fmt/format.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "base/status.h"
#include "store/page/geometry.h"
#include "store/page/page_store.h"
#include "store/tree/blob_writer.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {
namespace {

absl::Status put(Namespace& names, uint64_t object, uint64_t extents,
                 std::vector<std::byte>& extent) {
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> writer,
                             names.put("files/" + std::to_string(object), Creator(), 0));
  for (uint64_t i = 0; i < extents; ++i) {
    const uint64_t mark = (object << 32) + i + 1;
    std::memcpy(extent.data(), &mark, sizeof(mark));
    BLOBCACHE_RETURN_IF_ERROR(writer->append(extent));
  }
  return writer->commit().status();
}

absl::Status fill(const char* folder, uint64_t objects, uint64_t extents) {
  page::PageStoreOptions options;
  options.path = folder;
  options.memory_bytes = uint64_t{64} << 20;
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<page::PageStore> store,
                             page::PageStore::open(options));
  NamespaceOptions tree;
  tree.path = folder;
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<Namespace> names, Namespace::open(tree, *store));
  std::atomic<uint64_t> next{0};
  absl::Mutex mutex;
  absl::Status failed;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < std::thread::hardware_concurrency(); ++i) {
    threads.emplace_back([&] {
      std::vector<std::byte> extent(page::kExtentSize);
      for (uint64_t object = next++; object < objects; object = next++) {
        const absl::Status status = put(*names, object, extents, extent);
        if (status.ok()) continue;
        absl::MutexLock lock(&mutex);
        failed.Update(status);
        return;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  return failed;
}

}  // namespace
}  // namespace blobcache::tree

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: fill_load FOLDER OBJECTS EXTENTS\n");
    return 2;
  }
  const absl::Status status =
      blobcache::tree::fill(argv[1], std::stoull(argv[2]), std::stoull(argv[3]));
  if (status.ok()) return 0;
  fmt::print(stderr, "{}\n", blobcache::base::message(status));
  return 1;
}
