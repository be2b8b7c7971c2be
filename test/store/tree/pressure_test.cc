// Everything that wants the disk at once: what is kept stays, and the accounts are right.

#include "test/store/tree/pressure.h"

#include <doctest/doctest.h>

#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

constexpr int kSteps = 250;

TEST_CASE("pressure: what is kept survives all that wants its room, within the budget") {
  constexpr uint64_t kBudget = uint64_t{5} << 20;
  TreeFixture tree(kBudget);
  Pressure pressure(tree, 1);
  pressure.run(kSteps, [&] { return tree.store().stats().disk_used_bytes <= kBudget; });
  CHECK(pressure.failures() == "");
  // There was room for some and not for all, of each kind.
  CHECK(pressure.refused() > 0);
  CHECK(pressure.stored() > kSteps);
  CHECK(tree.store().stats().disk_evicted_bytes > 0);
  CHECK(tree.store().stats().fill_bytes > 0);
  pressure.verify();
  tree.reopen();
  pressure.verify();
}

}  // namespace
}  // namespace blobcache::tree
