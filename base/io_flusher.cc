#include "base/io_flusher.h"

#include <linux/prctl.h>
#include <sys/prctl.h>

namespace blobcache::base {

bool become_io_flusher() { return ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) == 0; }

// Asking takes the same right as setting.
bool may_become_io_flusher() { return ::prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) >= 0; }

}  // namespace blobcache::base
