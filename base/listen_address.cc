#include "base/listen_address.h"

namespace blobcache::base {}
