#pragma once

#include <sys/stat.h>

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "fusefs/impl/fuse.h"
#include "store/page/object.h"
#include "store/tree/namespace.h"

namespace blobcache::fusefs {

// What the kernel is told, made from what the tree and the store say. Pure functions.

/// The errno value that a status becomes: the one that it carries (base::posix_errno_of), else what
/// its code says; 0 for OK. Never ENOSYS, which would make the kernel stop
/// sending the operation for as long as the mount lives.
[[nodiscard]] int errno_of(const absl::Status& status);

/// The same where the kernel named a node and not a name. A node that is gone is ESTALE: the kernel
/// then looks the path up again, so that a name that was bound anew a moment ago opens at once.
[[nodiscard]] int errno_of_node(const absl::Status& status);

/// Whether the reply is worth a line in the log: something is wrong here, not with what the caller
/// asked.
[[nodiscard]] bool is_our_trouble(int error);
/// The same about a status: one that carries its errno was made for the caller.
[[nodiscard]] bool is_our_trouble(const absl::Status& status);

/// What stat(2) shows. st_blocks is what the bytes take where that is known, in units of 512 bytes,
/// else the size: every byte can be read, wherever its page is now.
[[nodiscard]] struct stat attributes_of(const tree::Node& node);

/// How long the kernel may believe what it was told.
struct Timeouts {
  absl::Duration entry;
  absl::Duration negative;
  absl::Duration immutable;  ///< names under blobs/, which are digests
};

[[nodiscard]] fuse_entry_param entry_of(const tree::Node& node, absl::Duration timeout);

/// "No such name", to be remembered: an entry without a node.
[[nodiscard]] fuse_entry_param negative_entry(absl::Duration timeout);

// Extended attributes of files. Directories have none.
inline constexpr std::string_view kDigestAttribute = "user.blobcache.digest";
inline constexpr std::string_view kTierAttribute = "user.blobcache.tier";
inline constexpr std::string_view kPinnedAttribute = "user.blobcache.pinned";
inline constexpr std::string_view kSettledAttribute = "user.blobcache.settled";
inline constexpr std::string_view kOriginAttribute = "user.blobcache.origin";

/// Whether it is one of these.
[[nodiscard]] bool is_attribute(std::string_view name);

/// The names as listxattr(2) returns them: each ended by a NUL. Without `pinned` and `settled`,
/// which say how a file is held: who copies a file with its attributes does not mean to pin the
/// copy. `of_origin`: it has an origin.
[[nodiscard]] std::string attribute_names(const tree::Node& node, bool of_origin);

/// "memory=N disk=N pages=N": the pages of the object, and how many of them each local tier holds.
[[nodiscard]] std::string format_residency(const page::Residency& residency);

}  // namespace blobcache::fusefs
