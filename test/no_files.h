#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "store/tree/files.h"

namespace blobcache::tree {

/// For fakes of a namespace that nobody writes to as a file system does.
class NoFiles final : public Files {
 public:
  absl::StatusOr<FileRef> create(const NewName& /*name*/) override { return no(); }
  absl::StatusOr<FileRef> open(NodeId /*node*/) override { return no(); }

 private:
  static absl::Status no() { return absl::UnimplementedError("no files here"); }
};

}  // namespace blobcache::tree
