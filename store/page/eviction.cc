#include "store/page/eviction.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>

#include "store/page/clock.h"
#include "store/page/s3_fifo.h"
#include "store/page/s3_tiny_lfu.h"
#include "store/page/sieve.h"

namespace blobcache::page {
namespace {

using Policy = std::unique_ptr<EvictionPolicy>;

struct Known {
  std::string_view name;
  Policy (*make)(size_t slots, UseCounters& uses);
};

template <typename T>
Policy make(size_t slots, UseCounters& uses) {
  return std::make_unique<T>(slots, uses);
}

Policy make_w_tiny_lfu(size_t slots, UseCounters& uses) {
  return std::make_unique<S3TinyLfu>(slots, uses, S3TinyLfu::kWindowTinyLfu);
}

constexpr std::array kKnown = {
    Known{"s3-tinylfu", make<S3TinyLfu>}, Known{"s3-fifo", make<S3Fifo>},
    Known{"w-tinylfu", make_w_tiny_lfu},  Known{"sieve", make<Sieve>},
    Known{"clock", make<Clock>},
};

constexpr auto kNames = [] {
  std::array<std::string_view, kKnown.size()> names;
  for (size_t at = 0; at < names.size(); ++at) names[at] = kKnown[at].name;
  return names;
}();
static_assert(kNames.front() == kDefaultEvictionPolicy);

}  // namespace

std::span<const std::string_view> eviction_policy_names() { return kNames; }

absl::StatusOr<Policy> make_eviction_policy(std::string_view name, size_t slots,
                                            UseCounters& uses) {
  for (const Known& known : kKnown) {
    if (known.name == name) return known.make(slots, uses);
  }
  return absl::InvalidArgumentError(fmt::format("unknown eviction policy \"{}\"; known: {}", name,
                                                fmt::join(eviction_policy_names(), ", ")));
}

}  // namespace blobcache::page
