#include "server/impl/metric_families.h"

#include <prometheus/client_metric.h>

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "store/page/geometry.h"
#include "store/tree/origin.h"

namespace blobcache::server {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

/// One value of a family; `label` is the value of the family's label.
struct Sample {
  const char* label = "";
  uint64_t value = 0;
};

class Families {
 public:
  void counter(const char* name, const char* help, const char* label_name,
               std::initializer_list<Sample> samples) {
    add(MetricType::Counter, name, help, label_name, samples);
  }
  void counter(const char* name, const char* help, uint64_t value) {
    add(MetricType::Counter, name, help, "", {{"", value}});
  }
  void gauge(const char* name, const char* help, const char* label_name,
             std::initializer_list<Sample> samples) {
    add(MetricType::Gauge, name, help, label_name, samples);
  }
  void gauge(const char* name, const char* help, uint64_t value) {
    add(MetricType::Gauge, name, help, "", {{"", value}});
  }
  /// A gauge with a label whose value is a run-time text, or with a fractional value.
  void gauge(const char* name, const char* help, const char* label_name, const std::string& label,
             double value) {
    MetricFamily family{name, help, MetricType::Gauge, {}};
    ClientMetric metric;
    if (*label_name != '\0') metric.label.push_back({label_name, label});
    metric.gauge.value = value;
    family.metric.push_back(std::move(metric));
    families_.push_back(std::move(family));
  }
  /// A value for each origin; none where there are no origins.
  template <typename Value>
  void origins(MetricType type, const char* name, const char* help,
               const std::vector<OriginState>& origins, const Value& value) {
    MetricFamily family{name, help, type, {}};
    for (const OriginState& origin : origins) {
      ClientMetric metric;
      metric.label.push_back({"origin", origin.name});
      (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) =
          static_cast<double>(value(origin.health));
      family.metric.push_back(std::move(metric));
    }
    if (!origins.empty()) families_.push_back(std::move(family));
  }
  [[nodiscard]] std::vector<MetricFamily> take() { return std::move(families_); }

 private:
  void add(MetricType type, const char* name, const char* help, const char* label_name,
           std::initializer_list<Sample> samples) {
    MetricFamily family{name, help, type, {}};
    for (const Sample& sample : samples) {
      ClientMetric metric;
      if (*label_name != '\0') metric.label.push_back({label_name, sample.label});
      const auto value = static_cast<double>(sample.value);
      (type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = value;
      family.metric.push_back(std::move(metric));
    }
    families_.push_back(std::move(family));
  }

  std::vector<MetricFamily> families_;
};

void add_reads(const page::Stats& stats, Families& families) {
  families.counter("blobcache_read_pages_total",
                   "Pages of 4 KiB that readers asked for, by the tier that had them.", "tier",
                   {{"L0", stats.memory_hit_pages},
                    {"L1", stats.disk_hit_pages},
                    {"L2", stats.remote_hit_pages}});
  families.counter("blobcache_read_zero_pages_total",
                   "Pages that readers asked for and that are known to be zero: no tier was read.",
                   stats.zero_pages);
  families.counter("blobcache_shared_flight_pages_total",
                   "Pages that a reader waited for while another reader's fetch brought them.",
                   stats.shared_flight_pages);
  families.counter("blobcache_reads_total", "Reads of objects.", stats.reads);
  families.counter("blobcache_read_errors_total", "Reads of objects that failed.",
                   stats.read_errors);
  families.gauge("blobcache_open_objects", "Objects in use.", stats.open_objects);
  families.gauge("blobcache_flights", "Fetches under way.", stats.flights);
  families.gauge("blobcache_reads_under_way",
                 "Reads that memory could not answer at once, those ahead of readers included.",
                 stats.reads_under_way);
}

void add_prefetch(const page::Stats& stats, Families& families) {
  families.counter("blobcache_prefetched_pages_total",
                   "Pages that were brought to memory before a reader asked for them.",
                   stats.prefetched_pages);
  families.counter("blobcache_prefetch_pages_total",
                   "What became of them: read by somebody, evicted unread, or not to be had.",
                   "end",
                   {{"used", stats.prefetch_used_pages},
                    {"evicted", stats.prefetch_evicted_pages},
                    {"failed", stats.prefetch_failed_pages}});
  families.counter("blobcache_prefetch_late_pages_total",
                   "Pages of these that were still on their way when a reader came for them.",
                   stats.prefetch_late_pages);
  families.gauge("blobcache_prefetch_unread_bytes",
                 "What was read ahead and is on its way or unread.", stats.prefetch_unread_bytes);
}

void add_tiers(const page::Stats& stats, Families& families) {
  families.gauge("blobcache_tier_used_bytes", "What a tier holds.", "tier",
                 {{"L0", stats.memory_resident_bytes}, {"L1", stats.disk_used_bytes}});
  families.gauge("blobcache_tier_budget_bytes", "What a tier may hold.", "tier",
                 {{"L0", stats.memory_budget_bytes}, {"L1", stats.disk_budget_bytes}});
  families.gauge("blobcache_tier_kept_bytes", "What a tier holds and must not evict.", "tier",
                 {{"L1", stats.disk_kept_bytes}});
  families.counter(
      "blobcache_tier_evicted_bytes_total", "What a tier evicted.", "tier",
      {{"L0", stats.memory_evicted_extents * page::kExtentSize}, {"L1", stats.disk_evicted_bytes}});
  families.counter("blobcache_tier_read_bytes_total", "What was read or fetched from a tier.",
                   "tier", {{"L1", stats.disk_read_bytes}, {"L2", stats.remote_fetched_bytes}});
  families.counter("blobcache_tier_written_bytes_total", "What was written to a tier.", "tier",
                   {{"L1", stats.disk_written_bytes}});
  families.gauge("blobcache_disk_filled_bytes", "What the disk holds of what sources brought.",
                 stats.disk_filled_bytes);
  families.counter("blobcache_filled_bytes_total", "What sources brought and was written to disk.",
                   stats.fill_bytes);
  families.counter(
      "blobcache_fill_dropped_bytes_total",
      "What sources brought and was not written to disk, which was slow, full or out of use.",
      stats.fill_dropped_bytes);
  families.counter("blobcache_tier_checksum_errors_total",
                   "Pages of a tier whose checksum did not match; they were not served.", "tier",
                   {{"L1", stats.checksum_errors}, {"L2", stats.source_checksum_errors}});
  families.counter("blobcache_page_map_errors_total",
                   "Blocks of page maps whose checksum did not match.", stats.map_errors);
  families.counter("blobcache_tier_io_errors_total",
                   "Steps of a tier's I/O that its device failed.", "tier",
                   {{"L1", stats.disk_errors}});
  families.gauge("blobcache_disk_out",
                 "1 while the disk tier is out of use, for reads or writes, after errors.",
                 stats.disk_out ? 1 : 0);
  families.counter("blobcache_syncs_total", "Calls that made the disk tier durable.", stats.syncs);
  families.gauge("blobcache_pinned_frames", "Frames of memory that readers hold.",
                 stats.memory_pinned_frames);
  families.gauge("blobcache_file_system_free_bytes",
                 "What is free of the file system of the disk tier.", stats.disk_free_bytes);
  families.gauge("blobcache_file_system_reserve_bytes",
                 "What the disk tier leaves free of its file system.", stats.disk_reserve_bytes);
}

void add_names(const tree::Namespace::Counts& counts, Families& families) {
  families.gauge("blobcache_blobs", "Blobs that the catalog knows.", counts.blobs);
  families.gauge("blobcache_blob_bytes", "The sizes of all blobs together.", counts.blob_bytes);
  families.gauge("blobcache_names", "Names under files/.", counts.names);
  families.gauge("blobcache_unnamed_blobs", "Blobs without a name.", counts.unnamed_blobs);
  families.gauge("blobcache_unsettled_files",
                 "Files that are written to, or were and are no blobs again yet.",
                 counts.unsettled_files);
}

void add_scrubs(const ScrubStats& stats, Families& families) {
  families.counter("blobcache_scrub_checked_pages_total",
                   "Pages of 4 KiB that scrubs compared on disk.", stats.checked_pages);
  families.counter("blobcache_scrub_damaged_pages_total",
                   "Pages that scrubs found damaged or missing on disk.", stats.damaged_pages);
  families.gauge("blobcache_scrub_running", "1 while a scrub is under way.", stats.running ? 1 : 0);
  if (!stats.last.has_value()) return;
  families.gauge("blobcache_scrub_last_end_time_seconds",
                 "When the last scrub came to its end, in seconds since 1970.", "", "",
                 absl::ToDoubleSeconds(stats.last->ended - absl::UnixEpoch()));
  families.gauge("blobcache_scrub_last_damaged_objects",
                 "Objects that the last scrub found damaged.", stats.last->damaged_objects);
  families.gauge("blobcache_scrub_last_damaged_pages", "Pages that the last scrub found damaged.",
                 stats.last->damaged_pages);
}

void add_doors(const Snapshot& snapshot, Families& families) {
  const base::DoorStats& fuse = snapshot.fuse;
  const base::DoorStats& nbd = snapshot.nbd;
  const base::DoorStats& grpc = snapshot.grpc;
  families.counter("blobcache_door_requests_total", "Requests through a door.", "door",
                   {{"fuse", fuse.requests}, {"nbd", nbd.requests}, {"grpc", grpc.requests}});
  families.counter("blobcache_door_errors_total", "Requests that a door answered with an error.",
                   "door", {{"fuse", fuse.errors}, {"nbd", nbd.errors}, {"grpc", grpc.errors}});
  families.counter("blobcache_door_sent_bytes_total", "Content that left through a door.", "door",
                   {{"fuse", fuse.bytes_out}, {"nbd", nbd.bytes_out}, {"grpc", grpc.bytes_out}});
  families.counter("blobcache_door_received_bytes_total", "Content that came in through a door.",
                   "door",
                   {{"fuse", fuse.bytes_in}, {"nbd", nbd.bytes_in}, {"grpc", grpc.bytes_in}});
  families.gauge("blobcache_door_open", "Open files, connections or streams of a door.", "door",
                 {{"fuse", fuse.open}, {"nbd", nbd.open}, {"grpc", grpc.open}});
  families.counter("blobcache_fuse_passthrough_opens_total",
                   "Opens of files that the kernel reads by itself.", fuse.passed_through);
  families.gauge("blobcache_ublk_devices", "Devices by ublk that are served.",
                 snapshot.ublk_devices);
  families.gauge("blobcache_mounts", "FUSE mounts.", snapshot.mounts.size());
}

void add_origins(const std::vector<OriginState>& origins, Families& families) {
  using Health = tree::OriginHealth;
  std::vector<OriginState> tried;
  std::copy_if(origins.begin(), origins.end(), std::back_inserter(tried),
               [](const OriginState& origin) { return origin.health.tried; });
  families.origins(MetricType::Gauge, "blobcache_origin_reachable",
                   "1 if an origin could be reached at the last try; absent before the first.",
                   tried, [](const Health& health) { return health.reachable ? 1 : 0; });
  families.origins(MetricType::Gauge, "blobcache_origin_connections",
                   "Connections to an origin that are open.", origins,
                   [](const Health& health) { return health.connections; });
  families.origins(MetricType::Counter, "blobcache_origin_requests_total",
                   "Requests that an origin answered.", origins,
                   [](const Health& health) { return health.requests; });
  families.origins(MetricType::Counter, "blobcache_origin_retries_total",
                   "Requests to an origin that were made again.", origins,
                   [](const Health& health) { return health.retries; });
  families.origins(MetricType::Counter, "blobcache_origin_read_bytes_total",
                   "Content that came from an origin.", origins,
                   [](const Health& health) { return health.bytes_read; });
  families.origins(MetricType::Counter, "blobcache_origin_written_bytes_total",
                   "Content that was written to an origin.", origins,
                   [](const Health& health) { return health.bytes_written; });
}

}  // namespace

std::vector<MetricFamily> metric_families(const Snapshot& snapshot) {
  Families families;
  families.gauge("blobcache_build_info", "Which version this is.", "version", snapshot.version, 1);
  families.gauge("blobcache_start_time_seconds", "When the daemon started, in seconds since 1970.",
                 "", "", absl::ToDoubleSeconds(snapshot.started - absl::UnixEpoch()));
  add_reads(snapshot.store, families);
  add_prefetch(snapshot.store, families);
  add_tiers(snapshot.store, families);
  if (snapshot.counts.has_value()) add_names(*snapshot.counts, families);
  add_scrubs(snapshot.scrub, families);
  add_doors(snapshot, families);
  add_origins(snapshot.origins, families);
  return families.take();
}

}  // namespace blobcache::server
