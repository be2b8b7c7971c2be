#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "blockdev/impl/meta_contexts.h"
#include "blockdev/impl/nbd_reply_codec.h"
#include "store/page/object.h"

namespace blobcache::blockdev {

/// The status flags that a context has for a place. Pure.
///
/// "base:allocation": NBD_STATE_HOLE and NBD_STATE_ZERO for zeros that nothing stores, else 0.
/// "blobcache:tier": 0 in memory, 1 on disk, 2 remote, 3 zeros that nothing stores, 4 lost (a read
/// fails).
[[nodiscard]] uint32_t status_flags(MetaContext context, page::Place place);

/// What a block status reply tells of these runs in a context: adjacent ones that look alike are
/// one. With `one` only the first is told. Pure.
[[nodiscard]] std::vector<nbd::StatusRun> status_runs(MetaContext context,
                                                      absl::Span<const page::MapRun> runs,
                                                      bool one);

}  // namespace blobcache::blockdev
