#include "bench/hit_ratio/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <string_view>
#include <utility>

#include "bench/hit_ratio/classic_s3_fifo.h"
#include "bench/hit_ratio/references.h"
#include "store/page/eviction.h"

namespace blobcache::hit_ratio {
namespace {

constexpr double kPercent = 100;
constexpr double kGiB = 1024.0 * 1024 * 1024;

Contender of_store(std::string_view name) {
  return {.name = std::string(name), .replay = [name](const Trace& trace, uint64_t capacity) {
            const size_t slots = slots_for(trace, capacity);
            page::UseCounters uses(slots);
            const auto policy = page::make_eviction_policy(name, slots, uses);
            return replay(trace, capacity, **policy, uses);
          }};
}

Result replay_classic_s3_fifo(const Trace& trace, uint64_t capacity) {
  const size_t slots = slots_for(trace, capacity);
  page::UseCounters uses(slots);
  ClassicS3Fifo policy(slots, uses);
  return replay(trace, capacity, policy, uses);
}

using Cell = std::string (*)(const Result& result);

std::string hit_percent(const Result& result) {
  return fmt::format("{:.1f}", kPercent * result.hit_ratio());
}

std::string byte_hit_percent(const Result& result) {
  return fmt::format("{:.1f}", kPercent * result.byte_hit_ratio());
}

std::string brought_gib(const Result& result) {
  return fmt::format("{:.1f}", static_cast<double>(result.bytes - result.hit_bytes) / kGiB);
}

int width(const Contender& contender) {
  return 2 + static_cast<int>(std::max<size_t>(contender.name.size(), 6));
}

int trace_width(const std::vector<Row>& rows) {
  size_t longest = 5;
  for (const Row& row : rows) longest = std::max(longest, row.trace.size());
  return static_cast<int>(longest);
}

std::string section(std::string_view title, const std::vector<Contender>& all,
                    const std::vector<Row>& rows, Cell cell) {
  const int names = trace_width(rows);
  std::string out = fmt::format("{}\n\n{:<{}}{:>7}{:>10}", title, "trace", names, "cache", "MiB");
  const auto to = std::back_inserter(out);
  for (const Contender& one : all) fmt::format_to(to, "{:>{}}", one.name, width(one));
  for (const Row& row : rows) {
    fmt::format_to(to, "\n{:<{}}{:>6.0f}%{:>10.0f}", row.trace, names, kPercent * row.share,
                   static_cast<double>(row.capacity_bytes) / (1024 * 1024));
    for (size_t at = 0; at < all.size(); ++at) {
      fmt::format_to(to, "{:>{}}", cell(row.results[at]), width(all[at]));
    }
  }
  return out + "\n\n";
}

/// One contender's hit ratios over the whole set, in per cent.
struct Summary {
  double mean = 0;
  double mean_bytes = 0;
  double mean_distance = 0;  ///< from Belady
  double worst_distance = 0;
  std::string worst_at;
};

Summary summarize(const std::vector<Row>& rows, size_t contender) {
  Summary sum;
  for (const Row& row : rows) {
    const Result& result = row.results[contender];
    const double hits = kPercent * result.hit_ratio();
    const double distance = kPercent * row.results.front().hit_ratio() - hits;
    sum.mean += hits / static_cast<double>(rows.size());
    sum.mean_bytes += kPercent * result.byte_hit_ratio() / static_cast<double>(rows.size());
    sum.mean_distance += distance / static_cast<double>(rows.size());
    if (distance <= sum.worst_distance) continue;
    sum.worst_distance = distance;
    sum.worst_at = fmt::format("{} at {:.0f}%", row.trace, kPercent * row.share);
  }
  return sum;
}

std::string summary(const std::vector<Contender>& all, const std::vector<Row>& rows) {
  std::string out = fmt::format("{:<17}{:>10}{:>12}{:>16}{:>17}\n", "over all, in %", "mean hits",
                                "mean bytes", "mean to belady", "worst to belady");
  for (size_t at = 0; at < all.size(); ++at) {
    const Summary sum = summarize(rows, at);
    fmt::format_to(std::back_inserter(out), "{:<17}{:>10.2f}{:>12.2f}{:>16.2f}{:>17.1f}  {}",
                   all[at].name, sum.mean, sum.mean_bytes, sum.mean_distance, sum.worst_distance,
                   sum.worst_at);
    out.erase(out.find_last_not_of(' ') + 1);
    out += '\n';
  }
  return out;
}

}  // namespace

std::vector<Contender> contenders() {
  std::vector<Contender> all{{"belady", replay_belady}};
  for (const std::string_view name : page::eviction_policy_names()) all.push_back(of_store(name));
  all.push_back({"classic-s3-fifo", replay_classic_s3_fifo});
  all.push_back({"arc", replay_arc});
  all.push_back({"lru", replay_lru});
  return all;
}

std::vector<Row> compare(const Trace& trace, const std::vector<Contender>& all) {
  std::vector<Row> rows;
  const auto footprint = static_cast<double>(trace.footprint());
  for (const double share : kShares) {
    Row row{.trace = trace.name,
            .share = share,
            .capacity_bytes = static_cast<uint64_t>(share * footprint),
            .results = {}};
    for (const Contender& one : all) row.results.push_back(one.replay(trace, row.capacity_bytes));
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string table(const std::vector<Contender>& all, const std::vector<Row>& rows) {
  return section("hit ratio, %", all, rows, hit_percent) +
         section("byte hit ratio, %", all, rows, byte_hit_percent) +
         section("brought from below, GiB", all, rows, brought_gib) + summary(all, rows);
}

}  // namespace blobcache::hit_ratio
