#include "store/tree/digest.h"

namespace blobcache::tree {}
