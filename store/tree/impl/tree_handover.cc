#include "store/tree/impl/tree_handover.h"

#include <optional>

#include "absl/container/flat_hash_set.h"
#include "base/status.h"
#include "store/tree/handover.h"
#include "store/tree/impl/node_ids.h"

namespace blobcache::tree {
namespace {

/// Those of `open` that are blobs which the catalog has forgotten, each once.
absl::StatusOr<std::vector<OpenNode>> forgotten_blobs(Catalog& catalog,
                                                      const std::vector<OpenNode>& open) {
  std::vector<OpenNode> forgotten;
  absl::flat_hash_set<NodeId> seen;
  Catalog::Lease reader = catalog.read();
  for (const OpenNode& each : open) {
    const std::optional<int64_t> blob = blob_of_node(each.node);
    if (!blob || each.object == nullptr || !seen.insert(each.node).second) continue;
    BLOBCACHE_ASSIGN_OR_RETURN(const std::optional<BlobRow> row, reader->find_blob_by_id(*blob));
    if (!row) forgotten.push_back(each);
  }
  return forgotten;
}

/// Nothing is ever taken out of the files of other objects.
std::vector<std::pair<NodeId, page::LentObject>> lent_of_origins(
    const HeldBlobs& held, const std::vector<OpenNode>& open) {
  std::vector<std::pair<NodeId, page::LentObject>> lent;
  absl::flat_hash_set<NodeId> seen;
  for (const OpenNode& each : open) {
    if (!each.is_lent || !is_origin_node(each.node) || !seen.insert(each.node).second) continue;
    std::optional<page::LentObject> object = held.lent(each.node);
    if (each.object != nullptr) object = {each.object->key(), each.object->size_bytes()};
    if (object) lent.emplace_back(each.node, *object);
  }
  return lent;
}

}  // namespace

absl::StatusOr<std::vector<page::LentObject>> lent_objects(const base::Parcel& parcel) {
  BLOBCACHE_ASSIGN_OR_RETURN(const TreeHandover handed, TreeHandover::read(&parcel));
  std::vector<page::LentObject> lent;
  for (const auto& [node, object] : handed.lent) lent.push_back(object);
  return lent;
}

absl::StatusOr<page::ObjectRef> HeldBlobs::or_held(NodeId node,
                                                   absl::StatusOr<page::ObjectRef> found) const {
  if (!absl::IsNotFound(found.status())) return found;
  const absl::MutexLock lock(&mutex_);
  const auto at = objects_.find(node);
  if (at == objects_.end()) return found;
  return at->second;
}

absl::StatusOr<base::Parcel> pack_tree(const HandedParts& parts, const HeldBlobs& held,
                                       const std::vector<OpenNode>& open) {
  base::ParcelWriter parcel;
  parts.inodes.hand_over(parcel);
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<OpenNode> forgotten,
                             forgotten_blobs(parts.catalog, open));
  parcel.add_number(forgotten.size());
  for (const OpenNode& each : forgotten) {
    parcel.add_number(each.node);
    add_held(parcel, parts.store.hold(*each.object));
  }
  const auto lent = lent_of_origins(held, open);
  parcel.add_number(lent.size());
  for (const auto& [node, object] : lent) {
    parcel.add_number(node);
    add_key(parcel, object.key);
    parcel.add_number(object.size_bytes);
  }
  base::ParcelWriter origins;
  parts.origins.hand_over(origins);
  parcel.add_parcel(std::move(origins).take());
  return std::move(parcel).take();
}

absl::StatusOr<TreeHandover> TreeHandover::read(const base::Parcel* parcel) {
  TreeHandover handed;
  if (parcel == nullptr) return handed;
  base::ParcelReader reader(*parcel);
  handed.files = InodeTable::read_handed(reader);
  for (size_t left = reader.count(); left > 0 && reader.status().ok(); --left) {
    const NodeId node = reader.number();
    handed.blobs.emplace_back(node, read_held(reader));
  }
  for (size_t left = reader.count(); left > 0 && reader.status().ok(); --left) {
    const NodeId node = reader.number();
    const std::optional<page::ObjectKey> key = read_key(reader);
    handed.lent.push_back({node, {key.value_or(page::ObjectKey()), reader.number()}});
  }
  handed.origins = reader.parcel();
  BLOBCACHE_RETURN_IF_ERROR(base::annotate(reader.end(), "what the tree was handed over"));
  return handed;
}

std::vector<page::Incarnation> TreeHandover::volumes() const {
  std::vector<page::Incarnation> all;
  for (const InodeTable::HandedFile& file : files) {
    if (file.volume) all.push_back(*file.volume);
  }
  return all;
}

absl::Status TreeHandover::give(const HandedParts& parts, HeldBlobs& held) && {
  parts.inodes.take_over_handed(std::move(files));
  for (auto& [node, object] : blobs) held.note(node, parts.store.attach_held(std::move(object)));
  for (const auto& [node, object] : lent) {
    held.note_lease(node, object, parts.store.take_lease(object.key));
  }
  parts.store.drop_leases();
  if (origins.bytes.empty()) return absl::OkStatus();
  base::ParcelReader reader(origins);
  parts.origins.take_over(reader);
  return base::annotate(reader.end(), "what the origins were handed over");
}

}  // namespace blobcache::tree
