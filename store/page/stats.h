#pragma once

#include <cstdint>

namespace blobcache::page {

/// A snapshot of the page store's counters and gauges. Counters only grow while the daemon lives.
/// Bytes, except where the name says otherwise. Value type.
struct Stats {
  // What readers asked for, by the tier that had it (whole pages, counted once a read).
  uint64_t memory_hit_pages = 0;
  uint64_t disk_hit_pages = 0;
  uint64_t remote_hit_pages = 0;
  uint64_t zero_pages = 0;           ///< known zero from the page map: no tier was read
  uint64_t shared_flight_pages = 0;  ///< found another reader's fetch under way and waited for it
  uint64_t reads = 0;
  uint64_t read_errors = 0;

  // What was moved to answer them.
  uint64_t disk_read_bytes = 0;
  uint64_t disk_written_bytes = 0;
  uint64_t remote_fetched_bytes = 0;
  uint64_t fill_bytes = 0;              ///< of what sources brought, written to disk
  uint64_t fill_dropped_bytes = 0;      ///< ... and not, as the disk was slow, full or out of use
  uint64_t checksum_errors = 0;         ///< pages from disk whose checksum did not match; dropped
  uint64_t source_checksum_errors = 0;  ///< pages from a source that the page map contradicts
  uint64_t map_errors = 0;              ///< map blocks whose checksum did not match
  uint64_t maps_rebuilt = 0;            ///< page maps made again from their objects' files
  uint64_t syncs = 0;                   ///< fsync, fdatasync and syncfs calls of the disk tier

  // Reading ahead: pages that were brought before anybody asked for them.
  uint64_t prefetched_pages = 0;
  uint64_t prefetch_used_pages = 0;     ///< ... that somebody has read since
  uint64_t prefetch_late_pages = 0;     ///< ... of those, on their way still when he came
  uint64_t prefetch_evicted_pages = 0;  ///< ... that left the memory unread
  uint64_t prefetch_failed_pages = 0;   ///< ... that could not be had
  uint64_t prefetch_unread_bytes = 0;   ///< on their way or unread now

  // The memory tier.
  uint64_t memory_budget_bytes = 0;
  uint64_t memory_resident_bytes = 0;
  uint64_t memory_pinned_frames = 0;
  uint64_t memory_evicted_extents = 0;

  // The disk tier.
  uint64_t disk_budget_bytes = 0;
  uint64_t disk_used_bytes = 0;
  uint64_t disk_kept_bytes = 0;
  uint64_t disk_evicted_bytes = 0;
  uint64_t disk_filled_bytes = 0;    ///< what sources brought and is there
  uint64_t disk_filled_extents = 0;  ///< how many extents have some of it
  uint64_t disk_free_bytes = 0;      ///< of the file system
  uint64_t disk_reserve_bytes = 0;   ///< of the file system, never used
  uint64_t disk_errors = 0;          ///< steps of its I/O that the disk failed
  bool disk_out = false;             ///< for reads or writes: not asked, but for a try now and then

  uint64_t open_objects = 0;
  uint64_t flights = 0;          ///< fetches under way
  uint64_t reads_under_way = 0;  ///< that were not answered from memory, those ahead of readers too
};

}  // namespace blobcache::page
