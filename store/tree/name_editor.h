#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "store/tree/namespace.h"

namespace blobcache::tree {

/// A name that is to be made, and whose it is. Value type; borrowed views.
struct NewName {
  NodeId parent = 0;
  std::string_view name;
  mode_t mode = 0;  ///< permission bits, with set-user-ID, set-group-ID and sticky
  uid_t uid = 0;
  gid_t gid = 0;  ///< in a directory with set-group-ID the directory's is taken instead
};

/// Which attributes change; absent: not. Value type.
struct AttributeChange {
  std::optional<mode_t> mode;
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::optional<absl::Time> modified;
};

enum class RenameMode : uint8_t {
  kReplace,    ///< a file replaces a file, a directory an empty directory
  kNoReplace,  ///< EEXIST when there is something
  kExchange,   ///< both names must be there, of whatever kinds
};

/// Changes of the names beneath files/ as a file system makes them: by directory and name, one step
/// each. What rights the caller has is not asked: the door has seen to it.
///
/// A change is seen by everybody when the call returns, and survives a kill of the process; a power
/// cut may take those that no sync() covered, the later ones first.
///
/// Errors carry the errno that rename(2) and its kin would give (base::posix_errno_of): ENOENT,
/// EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EINVAL (a directory into itself), EXDEV (from or to outside
/// files/), EPERM (a hard link to a directory; what is not beneath files/ and cannot be changed),
/// ENAMETOOLONG, EMLINK, ENOSPC.
///
/// Thread-safe. Calls wait for the catalog for a moment.
class NameEditor {
 public:
  virtual ~NameEditor() = default;

  [[nodiscard]] virtual absl::StatusOr<Node> make_directory(const NewName& name) = 0;
  [[nodiscard]] virtual absl::StatusOr<Node> make_symlink(const NewName& name,
                                                          std::string_view target) = 0;
  /// What a symbolic link says, an origin's, too; EINVAL for what is none.
  [[nodiscard]] virtual absl::StatusOr<std::string> read_symlink(NodeId node) = 0;
  /// unlink(2): any name but a directory's. What is open stays so.
  [[nodiscard]] virtual absl::Status remove_file(NodeId parent, std::string_view name) = 0;
  /// rmdir(2).
  [[nodiscard]] virtual absl::Status remove_directory(NodeId parent, std::string_view name) = 0;
  /// rename(2), renameat2(2). Two names of one file: nothing happens, as POSIX has it.
  [[nodiscard]] virtual absl::Status rename(NodeId from, std::string_view name, NodeId to,
                                            std::string_view new_name, RenameMode mode) = 0;
  /// link(2): another name for a file.
  [[nodiscard]] virtual absl::StatusOr<Node> link(NodeId file, NodeId parent,
                                                  std::string_view name) = 0;
  [[nodiscard]] virtual absl::StatusOr<Node> set_attributes(NodeId node,
                                                            const AttributeChange& change) = 0;
  /// Every change that was answered before is on stable storage when this returns OK. Waits for the
  /// disk; calls at the same time share the work.
  [[nodiscard]] virtual absl::Status sync() = 0;
};

}  // namespace blobcache::tree
