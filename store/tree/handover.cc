#include "store/tree/handover.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace blobcache::tree {
namespace {

template <size_t size>
void add_bytes(base::ParcelWriter& parcel, const std::array<uint8_t, size>& bytes) {
  parcel.add_text(std::string_view(reinterpret_cast<const char*>(bytes.data()), size));
}

template <size_t size>
void read_bytes(base::ParcelReader& parcel, std::array<uint8_t, size>& bytes) {
  const std::string text = parcel.text();
  if (text.size() == size) std::copy(text.begin(), text.end(), bytes.begin());
}

}  // namespace

void add_key(base::ParcelWriter& parcel, const std::optional<page::ObjectKey>& key) {
  parcel.add_flag(key.has_value());
  if (key) add_bytes(parcel, key->bytes);
}

std::optional<page::ObjectKey> read_key(base::ParcelReader& parcel) {
  if (!parcel.flag()) return std::nullopt;
  page::ObjectKey key;
  read_bytes(parcel, key.bytes);
  return key;
}

void add_incarnation(base::ParcelWriter& parcel, const page::Incarnation& incarnation) {
  add_bytes(parcel, incarnation.bytes);
}

page::Incarnation read_incarnation(base::ParcelReader& parcel) {
  page::Incarnation incarnation;
  read_bytes(parcel, incarnation.bytes);
  return incarnation;
}

void add_node(base::ParcelWriter& parcel, const Node& node) {
  parcel.add_number(node.id);
  parcel.add_number(static_cast<uint64_t>(node.type));
  parcel.add_number(node.size_bytes);
  parcel.add_number(node.mode);
  parcel.add_number(node.uid);
  parcel.add_number(node.gid);
  parcel.add_number(node.links);
  parcel.add_time(node.modified);
  parcel.add_time(node.changed);
  add_key(parcel, node.digest);
  parcel.add_flag(node.pinned);
  parcel.add_number(static_cast<uint64_t>(node.retention));
  parcel.add_flag(node.expires.has_value());
  parcel.add_time(node.expires.value_or(absl::UnixEpoch()));
  parcel.add_flag(node.steady);
  parcel.add_flag(node.settled);
}

Node read_node(base::ParcelReader& parcel) {
  Node node;
  node.id = parcel.number();
  node.type = static_cast<NodeType>(parcel.number());
  node.size_bytes = parcel.number();
  node.mode = static_cast<mode_t>(parcel.number());
  node.uid = static_cast<uid_t>(parcel.number());
  node.gid = static_cast<gid_t>(parcel.number());
  node.links = static_cast<uint32_t>(parcel.number());
  node.modified = parcel.time();
  node.changed = parcel.time();
  node.digest = read_key(parcel);
  node.pinned = parcel.flag();
  node.retention = static_cast<page::Retention>(parcel.number());
  const bool expires = parcel.flag();
  const absl::Time when = parcel.time();
  if (expires) node.expires = when;
  node.steady = parcel.flag();
  node.settled = parcel.flag();
  return node;
}

void add_held(base::ParcelWriter& parcel, page::HeldObject held) {
  add_key(parcel, held.spec.key);
  add_incarnation(parcel, held.spec.incarnation);
  parcel.add_number(held.spec.size_bytes);
  parcel.add_number(static_cast<uint64_t>(held.spec.retention));
  parcel.add_text(held.spec.inline_map);
  parcel.add_flag(held.spec.in_cache);
  parcel.add_descriptor(std::move(held.data));
  parcel.add_descriptor(std::move(held.map));
}

page::HeldObject read_held(base::ParcelReader& parcel) {
  page::HeldObject held;
  held.spec.key = read_key(parcel).value_or(page::ObjectKey());
  held.spec.incarnation = read_incarnation(parcel);
  held.spec.size_bytes = parcel.number();
  held.spec.retention = static_cast<page::Retention>(parcel.number());
  held.spec.inline_map = parcel.text();
  held.spec.in_cache = parcel.flag();
  held.data = parcel.descriptor();
  held.map = parcel.descriptor();
  return held;
}

}  // namespace blobcache::tree
