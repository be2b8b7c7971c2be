#include "store/tree/impl/origin_nodes.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string_view>
#include <utility>

#include "absl/types/span.h"
#include "store/page/object_key.h"
#include "store/tree/digest.h"
#include "store/tree/handover.h"
#include "store/tree/impl/node_ids.h"

namespace blobcache::tree {
namespace {

void add_number(Sha256& hash, uint64_t number) {
  hash.update(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(&number), sizeof(number)));
}

void add_text(Sha256& hash, std::string_view text) {
  add_number(hash, text.size());
  const void* data = text.data();
  hash.update({static_cast<const std::byte*>(data), text.size()});
}

/// Two that are the same node have the same hash, in the next process, too. Not so where only size
/// and time tell a version from another: there `salt`, which is the process's, goes in.
uint64_t hash_of(const OriginNode& node, uint64_t salt) {
  const OriginEntry& entry = node.entry;
  Sha256 hash;
  add_text(hash, node.origin->name());
  add_text(hash, node.path);
  add_number(hash, static_cast<uint64_t>(entry.kind));
  if (entry.kind == OriginEntry::Kind::kSymlink) add_text(hash, entry.target);
  if (entry.kind == OriginEntry::Kind::kFile) {
    if (entry.version) {
      hash.update(
          absl::MakeConstSpan(reinterpret_cast<const std::byte*>(entry.version->bytes.data()),
                              entry.version->bytes.size()));
    } else {
      add_number(hash, salt);
      add_number(hash, entry.size_bytes);
      add_number(hash, static_cast<uint64_t>(absl::ToUnixNanos(entry.modified)));
    }
  }
  const page::ObjectKey digest = hash.finish();
  uint64_t bits = 0;
  std::memcpy(&bits, digest.bytes.data(), sizeof(bits));
  return bits;
}

bool is_same(const OriginNode& a, const OriginNode& b) {
  return a.origin == b.origin && a.path == b.path && same_node(a.entry, b.entry);
}

}  // namespace

bool same_node(const OriginEntry& a, const OriginEntry& b) {
  if (a.kind != b.kind) return false;
  if (a.kind == OriginEntry::Kind::kSymlink) return a.target == b.target;
  if (a.kind != OriginEntry::Kind::kFile) return true;
  return a.version == b.version && a.size_bytes == b.size_bytes && a.modified == b.modified;
}

OriginNodes::OriginNodes(size_t most_bytes) : most_bytes_(most_bytes) {
  std::random_device random;
  salt_ = (uint64_t{random()} << 32) | random();
}

NodeId OriginNodes::note(OriginNode node) {
  NodeId id = origin_node(hash_of(node, salt_));
  const absl::MutexLock lock(&mutex_);
  for (;; id = origin_node(id + 1)) {
    const auto at = nodes_.find(id);
    if (at == nodes_.end()) break;
    if (!is_same(at->second.node, node)) continue;
    at->second.node = std::move(node);
    by_use_.splice(by_use_.begin(), by_use_, at->second.place);
    return id;
  }
  insert(id, std::move(node));
  return id;
}

void OriginNodes::insert(NodeId id, OriginNode node) {
  bytes_ += bytes_of(node);
  by_use_.push_front(id);
  nodes_.emplace(id, Slot{std::move(node), by_use_.begin()});
  while (bytes_ > most_bytes_ && by_use_.size() > 1) forget_oldest();
}

void OriginNodes::forget_oldest() {
  const auto at = nodes_.find(by_use_.back());
  by_use_.pop_back();
  bytes_ -= bytes_of(at->second.node);
  nodes_.erase(at);
}

std::optional<OriginNode> OriginNodes::find(NodeId id) {
  const absl::MutexLock lock(&mutex_);
  const auto at = nodes_.find(id);
  if (at == nodes_.end()) return std::nullopt;
  by_use_.splice(by_use_.begin(), by_use_, at->second.place);
  return at->second.node;
}

void OriginNodes::hand_over(base::ParcelWriter& parcel) const {
  const absl::MutexLock lock(&mutex_);
  parcel.add_number(salt_);
  parcel.add_number(by_use_.size());
  // The last used one last, as they are to be remembered.
  for (auto id = by_use_.rbegin(); id != by_use_.rend(); ++id) {
    const OriginNode& node = nodes_.find(*id)->second.node;
    const OriginEntry& entry = node.entry;
    parcel.add_number(*id);
    parcel.add_text(node.origin->name());
    parcel.add_text(node.path);
    parcel.add_time(node.seen);
    parcel.add_text(entry.name);
    parcel.add_number(static_cast<uint64_t>(entry.kind));
    parcel.add_number(entry.size_bytes);
    parcel.add_text(entry.target);
    parcel.add_time(entry.modified);
    add_key(parcel, entry.version);
  }
}

void OriginNodes::take_over(base::ParcelReader& parcel,
                            absl::FunctionRef<std::shared_ptr<Origin>(std::string_view)> find) {
  const absl::MutexLock lock(&mutex_);
  salt_ = parcel.number();
  for (size_t left = parcel.count(); left > 0 && parcel.status().ok(); --left) {
    OriginNode node;
    const NodeId id = parcel.number();
    node.origin = find(parcel.text());
    node.path = parcel.text();
    node.seen = parcel.time();
    node.entry.name = parcel.text();
    node.entry.kind = static_cast<OriginEntry::Kind>(parcel.number());
    node.entry.size_bytes = parcel.number();
    node.entry.target = parcel.text();
    node.entry.modified = parcel.time();
    node.entry.version = read_key(parcel);
    if (node.origin != nullptr && !nodes_.contains(id)) insert(id, std::move(node));
  }
}

size_t OriginNodes::size() const {
  const absl::MutexLock lock(&mutex_);
  return nodes_.size();
}

}  // namespace blobcache::tree
