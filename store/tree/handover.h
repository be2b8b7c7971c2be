#pragma once

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "base/parcel.h"
#include "store/page/object_key.h"
#include "store/page/page_store.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {

// How what the tree and its doors know is packed for the process that takes over. Each read_...()
// gives what the add_...() before it was given, or anything when the reader's status says so.

void add_node(base::ParcelWriter& parcel, const Node& node);
[[nodiscard]] Node read_node(base::ParcelReader& parcel);

void add_key(base::ParcelWriter& parcel, const std::optional<page::ObjectKey>& key);
[[nodiscard]] std::optional<page::ObjectKey> read_key(base::ParcelReader& parcel);

void add_incarnation(base::ParcelWriter& parcel, const page::Incarnation& incarnation);
[[nodiscard]] page::Incarnation read_incarnation(base::ParcelReader& parcel);

void add_held(base::ParcelWriter& parcel, page::HeldObject held);
[[nodiscard]] page::HeldObject read_held(base::ParcelReader& parcel);

/// The cached objects that were lent, by what Namespace::hand_over() gave; for
/// page::PageStoreOptions::lent. DATA_LOSS for a parcel that is damaged.
[[nodiscard]] absl::StatusOr<std::vector<page::LentObject>> lent_objects(
    const base::Parcel& parcel);

}  // namespace blobcache::tree
