#include "server/status_page.h"

#include <fmt/format.h>

#include <string_view>

#include "base/size.h"

namespace blobcache::server {
namespace {

constexpr std::string_view kHead = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width"><title>blobcached</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;
color-scheme:light dark}
h1{font-size:1.4rem}h2{font-size:1.05rem;margin:1.6rem 0 .3rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
</style></head><body>
)";

std::string escape(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

/// "1,234,567"
std::string grouped(uint64_t number) {
  const std::string digits = fmt::format("{}", number);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string percent(uint64_t part, uint64_t whole) {
  if (whole == 0) return "";
  return fmt::format("{:.1f} %", 100.0 * static_cast<double>(part) / static_cast<double>(whole));
}

std::string fact(std::string_view name, std::string_view value) {
  return fmt::format("<tr><th>{}</th><td>{}</td></tr>\n", name, escape(value));
}

std::string tier_row(std::string_view name, uint64_t used, uint64_t budget, std::string_view kept,
                     uint64_t hits, uint64_t all_pages) {
  return fmt::format(
      "<tr><th>{}</th><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td>"
      "<td class=n>{}</td></tr>\n",
      name, base::format_size(used), base::format_size(budget), kept, grouped(hits),
      percent(hits, all_pages));
}

std::string tiers(const page::Stats& stats) {
  const uint64_t pages =
      stats.memory_hit_pages + stats.disk_hit_pages + stats.remote_hit_pages + stats.zero_pages;
  std::string html =
      "<h2>Tiers</h2><table><tr><th></th><th class=n>used</th><th class=n>budget</th><th "
      "class=n>kept</th><th class=n>pages read</th><th class=n>share</th></tr>\n";
  html += tier_row("L0 memory", stats.memory_resident_bytes, stats.memory_budget_bytes, "",
                   stats.memory_hit_pages, pages);
  html += tier_row("L1 disk", stats.disk_used_bytes, stats.disk_budget_bytes,
                   base::format_size(stats.disk_kept_bytes), stats.disk_hit_pages, pages);
  html += fmt::format(
      "<tr><th>L2 remote</th><td></td><td></td><td></td><td class=n>{}</td><td "
      "class=n>{}</td></tr>\n",
      grouped(stats.remote_hit_pages), percent(stats.remote_hit_pages, pages));
  html += fmt::format(
      "<tr><th>zero pages</th><td></td><td></td><td></td><td class=n>{}</td><td "
      "class=n>{}</td></tr>\n</table>\n",
      grouped(stats.zero_pages), percent(stats.zero_pages, pages));
  return html;
}

std::string door_row(std::string_view name, const base::DoorStats& stats) {
  return fmt::format(
      "<tr><th>{}</th><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td><td class=n>{}</td>"
      "<td class=n>{}</td></tr>\n",
      name, grouped(stats.open), grouped(stats.requests), base::format_size(stats.bytes_out),
      base::format_size(stats.bytes_in), grouped(stats.errors));
}

std::string doors(const Snapshot& snapshot) {
  return "<h2>Doors</h2><table><tr><th></th><th class=n>open</th><th class=n>requests</th><th "
         "class=n>sent</th><th class=n>received</th><th class=n>errors</th></tr>\n" +
         door_row("fuse", snapshot.fuse) + door_row("nbd", snapshot.nbd) +
         door_row("grpc", snapshot.grpc) + "</table>\n";
}

std::string origins(const std::vector<OriginState>& origins) {
  if (origins.empty()) return "";
  std::string html =
      "<h2>Origins</h2><table><tr><th></th><th>what</th><th>state</th><th class=n>connections</th>"
      "<th class=n>requests</th><th class=n>read</th><th class=n>written</th><th "
      "class=n>retries</th></tr>\n";
  for (const OriginState& origin : origins) {
    const tree::OriginHealth& health = origin.health;
    html += fmt::format(
        "<tr><th>{}</th><td>{}</td><td>{}</td><td class=n>{}</td><td class=n>{}</td><td "
        "class=n>{}</td><td class=n>{}</td><td class=n>{}</td></tr>\n",
        escape(origin.name), escape(origin.description),
        !health.tried      ? "not asked yet"
        : health.reachable ? "reachable"
                           : escape(fmt::format("away: {}", health.trouble)),
        grouped(health.connections), grouped(health.requests), base::format_size(health.bytes_read),
        base::format_size(health.bytes_written), grouped(health.retries));
  }
  return html + "</table>\n";
}

std::string places(const Snapshot& snapshot) {
  std::string html = "<h2>Where</h2><table>\n";
  html += fact("store", snapshot.store_path.native());
  for (const MountView& mount : snapshot.mounts) html += fact("mount", mount.to_string());
  for (const Listener& listener : snapshot.listeners) {
    html += fact(escape(listener.door), listener.address);
  }
  return html + "</table>\n";
}

std::string content(const Snapshot& snapshot) {
  std::string html = "<h2>Content</h2><table>\n";
  if (snapshot.counts.has_value()) {
    html += fact("blobs", fmt::format("{} ({})", grouped(snapshot.counts->blobs),
                                      base::format_size(snapshot.counts->blob_bytes)));
    html += fact("names", grouped(snapshot.counts->names));
    html += fact("blobs without a name", grouped(snapshot.counts->unnamed_blobs));
    html += fact("files being written", grouped(snapshot.counts->unsettled_files));
  } else {
    html += fact("catalog", "does not answer");
  }
  html += fact("read errors", grouped(snapshot.store.read_errors));
  html += fact("the disk", snapshot.store.disk_out ? "out of use" : "in use");
  html += fact("disk errors", grouped(snapshot.store.disk_errors));
  html += fact("checksum errors", grouped(snapshot.store.checksum_errors));
  if (const std::optional<ScrubSummary>& scrub = snapshot.scrub.last) {
    html +=
        fact("last scrub",
             fmt::format("{}, {} damaged objects",
                         absl::FormatTime("%Y-%m-%d %H:%M UTC", scrub->ended, absl::UTCTimeZone()),
                         grouped(scrub->damaged_objects)));
  }
  html += fact("free on the file system", base::format_size(snapshot.store.disk_free_bytes));
  return html + "</table>\n";
}

}  // namespace

std::string status_page(const Snapshot& snapshot, absl::Time now) {
  const absl::Duration up = absl::Trunc(now - snapshot.started, absl::Seconds(1));
  std::string html(kHead);
  html += fmt::format(
      "<h1>blobcached {}</h1>\n<p>process {}, up {}; <a href=\"/metrics\">metrics</a></p>\n",
      escape(snapshot.version), snapshot.pid, absl::FormatDuration(up));
  html += tiers(snapshot.store) + doors(snapshot) + origins(snapshot.origins) + content(snapshot) +
          places(snapshot);
  return html + "</body></html>\n";
}

}  // namespace blobcache::server
