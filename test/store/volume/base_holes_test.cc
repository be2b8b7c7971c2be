#include "store/volume/impl/base_holes.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "store/page/object.h"

namespace blobcache::volume {
namespace {

constexpr uint64_t kOnePage = 4096;

using Kind = Run::Kind;
using page::Place;
using Runs = std::vector<Run>;
using BaseRuns = std::vector<page::MapRun>;

TEST_CASE("base holes: what the base is asked about") {
  const Runs runs = {{4 * kOnePage, Kind::kData},
                     {2 * kOnePage, Kind::kBase},
                     {kOnePage, Kind::kZero},
                     {3 * kOnePage, Kind::kBase},
                     {kOnePage, Kind::kData}};
  CHECK(base_stretch(runs, 0, 100 * kOnePage) == Stretch{4 * kOnePage, 6 * kOnePage});
  CHECK(base_stretch(runs, 10, 100 * kOnePage) == Stretch{4 * kOnePage + 10, 6 * kOnePage});
  // The base ends within its last page, or before the last run.
  CHECK(base_stretch(runs, 0, 10 * kOnePage - 5) == Stretch{4 * kOnePage, 6 * kOnePage - 5});
  CHECK(base_stretch(runs, 0, 5 * kOnePage) == Stretch{4 * kOnePage, kOnePage});
  CHECK(base_stretch(runs, 0, 2 * kOnePage).length == 0);
  CHECK(base_stretch({}, 0, kOnePage).length == 0);
  CHECK(base_stretch(Runs{{kOnePage, Kind::kZero}}, 0, kOnePage).length == 0);
}

TEST_CASE("base holes: they are told as zeros, and everything else stays") {
  const Runs runs = {
      {2 * kOnePage, Kind::kBase}, {kOnePage, Kind::kData}, {4 * kOnePage, Kind::kBase}};
  const Stretch asked{0, 7 * kOnePage};
  CHECK(with_base_holes(runs, 0, asked,
                        BaseRuns{{kOnePage, Place::kMemory},
                                 {3 * kOnePage, Place::kZero},
                                 {kOnePage, Place::kDisk},
                                 {kOnePage, Place::kRemote},
                                 {kOnePage, Place::kLost}},
                        10) == Runs{{kOnePage, Kind::kBase},
                                    {kOnePage, Kind::kZero},
                                    {kOnePage, Kind::kData},
                                    {kOnePage, Kind::kZero},
                                    {3 * kOnePage, Kind::kBase}});
  CHECK(with_base_holes(runs, 0, asked, BaseRuns{{7 * kOnePage, Place::kZero}}, 10) ==
        Runs{{2 * kOnePage, Kind::kZero}, {kOnePage, Kind::kData}, {4 * kOnePage, Kind::kZero}});
}

TEST_CASE("base holes: a zero of the base beside one of the volume is one run") {
  const Runs runs = {{kOnePage, Kind::kZero}, {kOnePage, Kind::kBase}, {kOnePage, Kind::kZero}};
  CHECK(with_base_holes(runs, 0, {kOnePage, kOnePage}, BaseRuns{{kOnePage, Place::kZero}}, 1) ==
        Runs{{3 * kOnePage, Kind::kZero}});
}

TEST_CASE("base holes: beyond the base's end its last page goes on") {
  const Runs runs = {{2 * kOnePage, Kind::kBase}};
  CHECK(with_base_holes(runs, 0, {0, kOnePage + 7},
                        BaseRuns{{kOnePage, Place::kDisk}, {7, Place::kZero}},
                        10) == Runs{{kOnePage, Kind::kBase}, {kOnePage, Kind::kZero}});
}

TEST_CASE("base holes: an answer that ends early, or too many runs, end the map") {
  const Runs runs = {
      {2 * kOnePage, Kind::kBase}, {kOnePage, Kind::kData}, {4 * kOnePage, Kind::kBase}};
  const Stretch asked{0, 7 * kOnePage};
  CHECK(with_base_holes(runs, 0, asked, BaseRuns{{kOnePage, Place::kZero}}, 10) ==
        Runs{{kOnePage, Kind::kZero}});
  CHECK(with_base_holes(runs, 0, asked, BaseRuns{{2 * kOnePage, Place::kZero}}, 10) ==
        Runs{{2 * kOnePage, Kind::kZero}, {kOnePage, Kind::kData}});
  const BaseRuns many = {
      {kOnePage, Place::kZero}, {kOnePage, Place::kDisk}, {5 * kOnePage, Place::kZero}};
  CHECK(with_base_holes(runs, 0, asked, many, 2) ==
        Runs{{kOnePage, Kind::kZero}, {kOnePage, Kind::kBase}});
  CHECK(with_base_holes(runs, 0, asked, many, 1) == Runs{{kOnePage, Kind::kZero}});
}

}  // namespace
}  // namespace blobcache::volume
