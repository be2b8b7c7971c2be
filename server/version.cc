#include "server/version.h"

namespace blobcache::server {

std::string_view version() { return BLOBCACHE_VERSION; }

}  // namespace blobcache::server
