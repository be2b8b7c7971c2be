#pragma once

namespace blobcache::base {

/// Makes the calling thread one that block devices wait for (PR_SET_IO_FLUSHER, Linux 5.6): when
/// memory runs out, what it allocates is never waited for by way of writing to a device, which
/// might be the one that it serves. False, and nothing is changed, without CAP_SYS_RESOURCE.
bool become_io_flusher();

/// Whether become_io_flusher() would succeed.
[[nodiscard]] bool may_become_io_flusher();

}  // namespace blobcache::base
