#include "server/impl/upkeep_calls.h"

#include <string>
#include <utility>

#include "base/status.h"

namespace blobcache::server {
namespace {

using ScrubWriter = grpc::ServerWriter<v1::ScrubResponse>;
using GcWriter = grpc::ServerWriter<v1::GcResponse>;

/// So many things are told of in one message: some 40 KiB.
constexpr int kItemsInMessage = 512;

void fill(const ScrubSummary& summary, v1::ScrubSummary& out) {
  out.set_path(summary.path);
  out.set_started_ns(absl::ToUnixNanos(summary.started));
  out.set_ended_ns(absl::ToUnixNanos(summary.ended));
  out.set_objects(summary.objects);
  out.set_pages(summary.pages);
  out.set_bytes(summary.bytes);
  out.set_damaged_objects(summary.damaged_objects);
  out.set_damaged_pages(summary.damaged_pages);
  out.set_repaired_maps(summary.repaired_maps);
}

void fill(const tree::DamagedObject& object, v1::ScrubDamage& out) {
  if (object.key) out.set_digest(object.key->bytes.data(), object.key->bytes.size());
  out.set_size(object.size_bytes);
  for (const std::string& name : object.names) out.add_names(name);
  out.set_more_names(object.more_names);
  out.set_reason(object.result.reason);
  out.set_pages(object.result.damaged_pages);
  for (const page::ByteRange& range : object.result.damaged.ranges()) {
    v1::ScrubDamage::Range* const to = out.add_ranges();
    to->set_offset(range.offset);
    to->set_length(range.length);
  }
  out.set_more_ranges(object.result.damaged.truncated());
  out.set_map_repaired(object.result.map_repaired);
}

v1::GcItem::Kind to_kind(tree::Garbage::Kind kind) {
  switch (kind) {
    case tree::Garbage::Kind::kBlob:
      return v1::GcItem::BLOB;
    case tree::Garbage::Kind::kOrphan:
      return v1::GcItem::ORPHAN;
    case tree::Garbage::Kind::kTemporary:
      return v1::GcItem::TEMPORARY;
  }
  return v1::GcItem::KIND_UNSPECIFIED;
}

/// Passes on what a scrub tells, until the caller has gone.
class ScrubStream final : public ScrubListener {
 public:
  ScrubStream(grpc::ServerContext& context, ScrubWriter& writer)
      : context_(context), writer_(writer) {}

  bool wants_more() override { return !gone_ && !context_.IsCancelled(); }

  void on_begin(uint64_t objects, uint64_t bytes) override {
    v1::ScrubResponse response;
    response.mutable_begin()->set_objects(objects);
    response.mutable_begin()->set_bytes(bytes);
    send(response);
  }

  void on_progress(uint64_t objects, uint64_t bytes) override {
    v1::ScrubResponse response;
    response.mutable_progress()->set_objects(objects);
    response.mutable_progress()->set_bytes(bytes);
    send(response);
  }

  void on_damage(const tree::DamagedObject& object) override {
    v1::ScrubResponse response;
    fill(object, *response.mutable_damage());
    send(response);
  }

  void send(const v1::ScrubResponse& response) {
    if (!gone_) gone_ = !writer_.Write(response);
  }

 private:
  grpc::ServerContext& context_;
  ScrubWriter& writer_;
  bool gone_ = false;
};

/// Gathers what a collection tells into messages.
class GcStream final : public tree::GarbageWatcher {
 public:
  GcStream(grpc::ServerContext& context, GcWriter& writer) : context_(context), writer_(writer) {}

  bool wants_more() override { return !gone_ && !context_.IsCancelled(); }

  void on_garbage(const tree::Garbage& garbage) override {
    v1::GcItem* const item = message_.add_items();
    item->set_kind(to_kind(garbage.kind));
    item->set_name(garbage.name);
    item->set_bytes(garbage.disk_bytes);
    ++items_;
    bytes_ += garbage.disk_bytes;
    if (message_.items_size() >= kItemsInMessage) send();
  }

  /// What is left, and the totals.
  void finish(bool complete) {
    if (complete) {
      message_.mutable_totals()->set_items(items_);
      message_.mutable_totals()->set_bytes(bytes_);
    }
    send();
  }

 private:
  void send() {
    if (!gone_) gone_ = !writer_.Write(message_);
    message_.Clear();
  }

  grpc::ServerContext& context_;
  GcWriter& writer_;
  v1::GcResponse message_;
  uint64_t items_ = 0;
  uint64_t bytes_ = 0;
  bool gone_ = false;
};

}  // namespace

absl::Status serve_scrub(ScrubRunner& scrubs, grpc::ServerContext& context,
                         const v1::ScrubRequest& request, ScrubWriter& writer) {
  const uint64_t rate =
      request.has_bytes_per_second() ? request.bytes_per_second() : ScrubRunner::kDefaultRate;
  ScrubStream stream(context, writer);
  BLOBCACHE_ASSIGN_OR_RETURN(const ScrubSummary summary, scrubs.run(request.path(), rate, stream));
  v1::ScrubResponse last;
  fill(summary, *last.mutable_summary());
  stream.send(last);
  return absl::OkStatus();
}

absl::Status serve_gc(tree::Namespace& names, grpc::ServerContext& context,
                      const v1::GcRequest& request, GcWriter& writer) {
  GcStream stream(context, writer);
  const absl::Status status = names.collect_garbage(
      {.dry_run = request.dry_run(), .expire_now = request.expire_now()}, stream);
  stream.finish(status.ok());
  return status;
}

void fill(const ScrubStats& stats, v1::ScrubStatus& out) {
  out.set_running(stats.running);
  if (stats.last.has_value()) fill(*stats.last, *out.mutable_last());
}

}  // namespace blobcache::server
