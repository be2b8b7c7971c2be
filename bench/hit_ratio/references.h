#pragma once

#include <cstdint>

#include "bench/hit_ratio/simulator.h"
#include "bench/hit_ratio/trace.h"

namespace blobcache::hit_ratio {

/// Least recently used. It needs a lock on every hit, so the store has none; CLOCK comes near it.
[[nodiscard]] Result replay_lru(const Trace& trace, uint64_t capacity_bytes);

/// ARC (Megiddo and Modha: "ARC: A Self-Tuning, Low Overhead Replacement Cache", FAST 2003), with
/// its lists and its target counted in bytes. It, too, moves something on every hit.
[[nodiscard]] Result replay_arc(const Trace& trace, uint64_t capacity_bytes);

/// MIN (Belady: "A study of replacement algorithms for a virtual-storage computer", 1966): what is
/// needed again last goes first, the newcomer included. The best that can be had when all extents
/// have one size, and close to it otherwise.
[[nodiscard]] Result replay_belady(const Trace& trace, uint64_t capacity_bytes);

}  // namespace blobcache::hit_ratio
