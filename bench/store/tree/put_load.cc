// Puts a file into a store within this process, as the gRPC service does it:
//
//     put_load FOLDER FILE
//
// Every line on standard input puts FILE once more and is answered with the seconds it took, until
// the put was durable. The blob is removed before the next one.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <string>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "base/unique_fd.h"
#include "store/page/page_store.h"
#include "store/tree/blob_writer.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {
namespace {

/// A message of the gRPC service is as large.
constexpr size_t kPiece = size_t{1} << 20;

absl::StatusOr<double> put(Namespace& names, absl::Span<const std::byte> content) {
  const absl::Time start = absl::Now();
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> writer,
                             names.put("", Creator(), content.size()));
  for (size_t at = 0; at < content.size(); at += kPiece) {
    BLOBCACHE_RETURN_IF_ERROR(writer->append(content.subspan(at, kPiece)));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const CommittedBlob blob, writer->commit());
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  BLOBCACHE_RETURN_IF_ERROR(names.remove("blobs/" + blob.key.hex()));
  return seconds;
}

absl::Status serve(const char* folder, const char* file) {
  page::PageStoreOptions options;
  options.path = folder;
  options.memory_bytes = uint64_t{64} << 20;
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<page::PageStore> store,
                             page::PageStore::open(options));
  NamespaceOptions tree;
  tree.path = folder;
  BLOBCACHE_ASSIGN_OR_RETURN(const std::unique_ptr<Namespace> names, Namespace::open(tree, *store));
  const base::UniqueFd fd(::open(file, O_RDONLY | O_CLOEXEC));
  struct stat info{};
  if (!fd.valid() || ::fstat(fd.get(), &info) != 0) return base::errno_error(errno, file);
  const auto size = static_cast<size_t>(info.st_size);
  const void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd.get(), 0);
  if (memory == MAP_FAILED) return base::errno_error(errno, file);
  std::string line;
  while (std::getline(std::cin, line)) {
    BLOBCACHE_ASSIGN_OR_RETURN(const double seconds,
                               put(*names, {static_cast<const std::byte*>(memory), size}));
    fmt::print("{:.6f}\n", seconds);
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace blobcache::tree

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  if (argc != 3) {
    fmt::print(stderr, "usage: put_load FOLDER FILE\n");
    return 2;
  }
  const absl::Status status = blobcache::tree::serve(argv[1], argv[2]);
  if (status.ok()) return 0;
  fmt::print(stderr, "{}\n", blobcache::base::message(status));
  return 1;
}
