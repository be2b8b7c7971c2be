#pragma once

#include "store/tree/namespace.h"

namespace blobcache::v1 {
class Node;
}

namespace blobcache::net {

/// What the services of the API tell of a node; v1::Node is what proto/blobcache.proto describes.
void fill(const tree::Node& node, v1::Node& message);

}  // namespace blobcache::net
