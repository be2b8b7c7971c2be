#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "store/page/impl/admission.h"
#include "store/page/impl/counters.h"
#include "store/page/impl/disk_cache.h"
#include "store/page/impl/disk_tier.h"
#include "store/page/impl/file_verifier.h"
#include "store/page/impl/flight_table.h"
#include "store/page/impl/map_loader.h"
#include "store/page/impl/memory_tier.h"
#include "store/page/impl/prefetch_ledger.h"
#include "store/page/impl/prefetcher.h"

namespace blobcache::page {

/// What a read needs of the store, by reference: the parts that PageStoreImpl owns. They all
/// outlive every object, read and fetch.
struct StoreCore {
  Counters& counters;
  FlightTable& flights;
  MemoryTier& memory;
  DiskTier& disk;
  MapLoader& maps;
  Admission& admission;
  DiskCache& cache;
  FileVerifier& verifier;
  PrefetchLedger& ledger;
  Prefetcher& prefetcher;
  /// Objects that have not been destroyed yet.
  std::atomic<uint64_t>& live_objects;
  /// What the descriptors of all their extents take, in bytes.
  std::atomic<uint64_t>& extent_bytes;
};

}  // namespace blobcache::page
