#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/parcel.h"
#include "store/page/object.h"
#include "store/page/page_store.h"
#include "store/tree/evict.h"
#include "store/tree/impl/call_threads.h"
#include "store/tree/impl/open_versions.h"
#include "store/tree/impl/origin_listings.h"
#include "store/tree/impl/origin_nodes.h"
#include "store/tree/impl/tree_edit.h"
#include "store/tree/namespace.h"
#include "store/tree/origin.h"
#include "store/volume/image.h"

namespace blobcache::tree {

/// What is beneath origins/: the part of the namespace that is not in the catalog. Its calls are
/// those of Namespace, for paths "origins/NAME..." and nodes of origins.
///
/// Thread-safe. Calls may wait for the network, as long as the origin has it; none of them holds a
/// lock meanwhile, so no origin is in the way of another one, or of the catalog.
class OriginSet {
 public:
  using Clock = std::function<absl::Time()>;

  /// What an origin told of a node is good for so long, if only its attributes are asked for.
  static constexpr absl::Duration kFresh = absl::Seconds(1);

  /// No two of `origins` have the same name.
  OriginSet(std::vector<std::shared_ptr<Origin>> origins, page::PageStore& store, Clock clock);

  /// Whether the node is beneath origins/, or may have been.
  [[nodiscard]] static bool has(NodeId node);
  /// Whether the path is beneath origins/.
  [[nodiscard]] static bool has(const PathNames& names);

  [[nodiscard]] absl::StatusOr<Node> resolve(const PathNames& names);
  /// `parent` may be origins/ itself.
  [[nodiscard]] absl::StatusOr<Node> lookup(NodeId parent, std::string_view name);
  [[nodiscard]] absl::StatusOr<Node> stat(NodeId node);
  [[nodiscard]] absl::StatusOr<std::vector<NamedNode>> list(NodeId directory, uint64_t cookie,
                                                            size_t limit);
  [[nodiscard]] absl::StatusOr<page::ObjectRef> open(NodeId node);
  [[nodiscard]] absl::StatusOr<std::shared_ptr<volume::Image>> open_image(NodeId node);
  [[nodiscard]] absl::StatusOr<Evicted> evict(const PathNames& names, EvictFrom from);

  /// As NameEditor::read_symlink(); waits for nothing.
  [[nodiscard]] absl::StatusOr<std::string> read_symlink(NodeId node);
  /// As Namespace::origin_of().
  [[nodiscard]] absl::StatusOr<std::string> origin_of(NodeId node);

  /// The numbers of nodes, for the process that takes over, and those of the process before, before
  /// any other call. A parcel that is damaged is told by its reader.
  void hand_over(base::ParcelWriter& parcel) const { nodes_.hand_over(parcel); }
  void take_over(base::ParcelReader& parcel);

  /// FAILED_PRECONDITION for a path of an origin, with why it cannot be; NOT_FOUND for one of none
  /// that is known.
  [[nodiscard]] absl::Status check_ours(std::string_view path, const PathNames& names,
                                        std::string_view why) const;
  /// Whether there is an origin of that name.
  [[nodiscard]] bool knows(std::string_view name) const { return find(name) != nullptr; }

  [[nodiscard]] bool run(NodeId node, absl::AnyInvocable<void()> call);
  /// The same for an origin by its name, which may be none's: then now.
  [[nodiscard]] bool run(const std::string& origin, absl::AnyInvocable<void()> call);

 private:
  /// An origin and who waits for it.
  struct Place {
    std::shared_ptr<Origin> origin;
    std::unique_ptr<CallThreads> calls = std::make_unique<CallThreads>();
  };

  [[nodiscard]] const Place* find(std::string_view name) const;
  [[nodiscard]] absl::StatusOr<OriginNode> find(NodeId node);
  [[nodiscard]] Node note(OriginNode node);
  [[nodiscard]] Node note_top(const std::shared_ptr<Origin>& origin);
  [[nodiscard]] absl::StatusOr<Node> look_up(const std::shared_ptr<Origin>& origin,
                                             std::string path);
  [[nodiscard]] std::vector<NamedNode> list_origins(uint64_t cookie, size_t limit);
  [[nodiscard]] absl::StatusOr<OriginFile> open(NodeId id, const OriginNode& node);
  [[nodiscard]] static bool run(const Place* place, absl::AnyInvocable<void()> call);

  const Clock clock_;
  OriginNodes nodes_;
  OriginListings listings_;
  page::PageStore& store_;
  std::optional<OpenVersions> open_;  ///< absent where there are no origins
  std::vector<Place> places_;         ///< sorted by name; never changes. Their threads end first
};

}  // namespace blobcache::tree
