// Objects whose bytes a source has, one page in each extent, so that the tables of the disk cache
// are as large as they get for the disk that they take:
//
//     cached_load fill FOLDER OBJECTS EXTENTS              fills a store with so many extents in
//     all cached_load start FOLDER OBJECTS EXTENTS             opens it again cached_load memory
//     FOLDER OBJECTS EXTENTS MEMORY     fills it with a memory budget, in MiB
//
// `fill` prints "filled" and ends when its standard input does, unless it is killed before.
// `start` prints the seconds from the beginning to: open; the first page read; the first put, which
// waits until what is there is counted; all counted. `memory` prints the bytes that memory (L0)
// holds at the end, the process's peak of resident bytes, and the extents on disk.

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "bench/store/page/bench_source.h"
#include "bench/store/page/bench_store.h"
#include "store/page/geometry.h"

namespace blobcache::page {
namespace {

struct Shape {
  uint64_t objects = 0;
  uint64_t extents_each = 0;
};

CachedSpec spec_of(uint64_t object, const Shape& shape) {
  CachedSpec spec;
  for (size_t i = 0; i < sizeof(object); ++i) {
    // The first byte chooses the folder.
    spec.key.bytes.at(i) = static_cast<uint8_t>(object >> 8 * i);
  }
  spec.key.bytes.back() = 1;
  spec.size_bytes = shape.extents_each << kExtentShift;
  spec.source = std::make_shared<BenchSource>(object);
  return spec;
}

/// Which page of an extent is read.
uint64_t page_offset(uint64_t object, uint64_t extent) {
  return (extent << kExtentShift) + ((extent * 7 + object) % kPagesPerExtent << kPageShift);
}

std::unique_ptr<PageStore> open(const char* folder, uint64_t memory_bytes) {
  PageStoreOptions options;
  options.path = folder;
  options.memory_bytes = memory_bytes;
  options.disk_bytes = uint64_t{1} << 40;
  auto store = PageStore::open(options);
  require(store.status());
  return *std::move(store);
}

/// Reads one page of each extent, as fast as the disk takes them.
void fill(PageStore& store, const Shape& shape) {
  // As many may wait for the disk at a time: half of the frames that the line of fills takes.
  const uint64_t round =
      std::min<uint64_t>(1024, store.stats().memory_budget_bytes / 16 / kExtentSize);
  uint64_t reads = 0;
  for (uint64_t i = 0; i < shape.objects; ++i) {
    const ObjectRef object = store.attach_cached(spec_of(i, shape));
    for (uint64_t extent = 0; extent < shape.extents_each; ++extent) {
      require(object->read_wait(page_offset(i, extent), kPageSize).status());
      if (++reads % round == 0) store.wait_cached();
    }
  }
  store.wait_cached();
  const uint64_t there = store.stats().disk_filled_extents;
  if (there == shape.objects * shape.extents_each) return;
  fmt::print(stderr, "only {} extents are on disk\n", there);
  std::exit(1);
}

void put_one(PageStore& store) {
  auto writer = store.create(Retention::kKept, kPageSize);
  require(writer.status());
  const std::vector<std::byte> page(kPageSize, std::byte{1});
  require((*writer)->append(page));
  ObjectKey key;
  key.bytes.fill(0xff);
  require((*writer)->seal(key, {.text = "bench", .records = {}}).status());
  ObjectWriter* sealed = writer->get();
  require(store.sync({&sealed, 1}));
}

void start(const char* folder, const Shape& shape) {
  const absl::Time begin = absl::Now();
  const auto since = [&] { return absl::ToDoubleSeconds(absl::Now() - begin); };
  const std::unique_ptr<PageStore> store = open(folder, uint64_t{256} << 20);
  const double opened = since();
  const uint64_t middle = shape.objects / 2;
  require(store->attach_cached(spec_of(middle, shape))
              ->read_wait(page_offset(middle, 0), kPageSize)
              .status());
  const double read = since();
  put_one(*store);
  const double put = since();
  store->wait_cached();
  fmt::print("{:.6f} {:.6f} {:.6f} {:.6f} {}\n", opened, read, put, since(),
             store->stats().disk_filled_extents);
}

uint64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) << 10;
  }
  return 0;
}

void memory(const char* folder, const Shape& shape, uint64_t memory_bytes) {
  const std::unique_ptr<PageStore> store = open(folder, memory_bytes);
  fill(*store, shape);
  const Stats stats = store->stats();
  fmt::print("{} {} {}\n", stats.memory_resident_bytes, peak_resident_bytes(),
             stats.disk_filled_extents);
}

int run(int argc, char** argv) {
  const std::string_view what = argc < 2 ? "" : argv[1];
  const bool good =
      argc == (what == "memory" ? 6 : 5) && (what == "fill" || what == "start" || what == "memory");
  if (!good) {
    fmt::print(stderr, "usage: cached_load fill|start|memory FOLDER OBJECTS EXTENTS [MEMORY]\n");
    return 2;
  }
  const uint64_t objects = std::stoull(argv[3]);
  const Shape shape{objects, std::stoull(argv[4]) / objects};
  if (what == "start") {
    start(argv[2], shape);
  } else if (what == "memory") {
    memory(argv[2], shape, std::stoull(argv[5]) << 20);
  } else {
    const std::unique_ptr<PageStore> store = open(argv[2], uint64_t{512} << 20);
    fill(*store, shape);
    fmt::print("filled\n");
    std::fflush(stdout);
    std::cin.ignore(std::numeric_limits<std::streamsize>::max());
  }
  return 0;
}

}  // namespace
}  // namespace blobcache::page

int main(int argc, char** argv) {
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return blobcache::page::run(argc, argv);
}
