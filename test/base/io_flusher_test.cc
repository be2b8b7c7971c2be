#include "base/io_flusher.h"

#include <doctest/doctest.h>
#include <linux/prctl.h>
#include <sys/prctl.h>

#include <thread>

namespace blobcache::base {
namespace {

TEST_CASE("io flusher: it is one thread that becomes one, where that is permitted") {
  const bool may = may_become_io_flusher();
  bool did = !may;
  int state = -1;
  std::thread([&] {
    did = become_io_flusher();
    state = ::prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0);
  }).join();
  CHECK(did == may);
  CHECK(state == (may ? 1 : -1));
  if (may) CHECK(::prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 0);
}

}  // namespace
}  // namespace blobcache::base
