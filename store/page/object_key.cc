#include "store/page/object_key.h"

#include <sys/random.h>

#include <cstdlib>

#include "base/hex.h"

namespace blobcache::page {
std::string ObjectKey::hex() const { return base::to_hex(bytes); }

std::string Incarnation::hex() const { return base::to_hex(bytes); }

Incarnation Incarnation::random() {
  Incarnation made;
  // 16 bytes come whole or not at all, and only a kernel without the call could refuse them.
  if (::getrandom(made.bytes.data(), made.bytes.size(), 0) !=
      static_cast<ssize_t>(made.bytes.size())) {
    std::abort();
  }
  return made;
}

}  // namespace blobcache::page
