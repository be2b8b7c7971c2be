#pragma once

/// libfuse's low-level API, at the version that Debian 12 has. The one place that says so.
#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>
