#pragma once

#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "bench/hit_ratio/trace.h"

namespace blobcache::hit_ratio {

/// A trace that is made up, the same each time: the seed is the generator's own.
struct Generator {
  std::string_view name;
  std::string_view what;  ///< one line for people
  std::function<Trace(size_t requests)> make;
};

/// The set over which policies are compared, in the order of the table. Each makes the number of
/// requests that it is asked for, or a few more to finish what it is at; from about 100,000 on a
/// trace has the character that it is for.
[[nodiscard]] std::vector<Generator> generators();

}  // namespace blobcache::hit_ratio
