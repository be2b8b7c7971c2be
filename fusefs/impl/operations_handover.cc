// The part of the operations that hands open files to another process. There a file has its handle
// still. One that can be opened at once is; one that may have to wait for an origin is dormant
// until the first request for it, and one that cannot be opened stays so: its requests fail.

#include <spdlog/spdlog.h>

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "base/parcel.h"
#include "base/status.h"
#include "fusefs/impl/operations.h"
#include "store/tree/files.h"
#include "store/tree/handover.h"

namespace blobcache::fusefs {

bool Operations::wait_until_answered(absl::Time deadline) {
  // A request that a worker has may become one that waits.
  return gate_.wait_until_idle(deadline) && pending_.wait_until_none(deadline);
}

std::vector<tree::OpenNode> Operations::open_objects() const {
  std::vector<tree::OpenNode> open;
  for (const auto& [handle, file] : open_files_.all()) {
    open.push_back({file->node.id, file->object, passthrough_.backing(file->node.id) != 0});
  }
  return open;
}

void Operations::hand_over(base::ParcelWriter& parcel) const {
  const auto files = open_files_.all();
  parcel.add_number(files.size());
  for (const auto& [handle, file] : files) {
    parcel.add_number(handle);
    tree::add_node(parcel, file->file == nullptr ? file->node : file->file->node());
    parcel.add_flag(file->is_written);
    parcel.add_flag(file->file != nullptr && file->file->is_writing());
    parcel.add_flag(file->is_append);
    parcel.add_flag(file->is_counted);
    parcel.add_number(static_cast<uint64_t>(passthrough_.backing(file->node.id)));
  }
}

absl::Status Operations::take_over(base::ParcelReader& parcel) {
  for (size_t left = parcel.count(); left > 0 && parcel.status().ok(); --left) {
    const uint64_t handle = parcel.number();
    OpenFile dormant;
    dormant.node = tree::read_node(parcel);
    dormant.is_written = parcel.flag();
    dormant.is_dormant = true;
    const bool is_writing = parcel.flag();
    dormant.is_append = parcel.flag();
    dormant.is_counted = parcel.flag();
    const bool is_counted = dormant.is_counted;
    const auto backing = static_cast<int32_t>(parcel.number());
    const tree::NodeId node = dormant.node.id;
    if (!open_files_.restore(handle, std::move(dormant))) {
      return absl::DataLossError("speaks of a handle that cannot be");
    }
    absl::Status status;
    if (!names_.waits(node)) status = wake(handle);
    const OpenFile& opened = open_files_.file(handle);
    if (is_counted) {
      // The kernel goes on reading it by itself, whether or not it can be opened here.
      const bool is_file = opened.file != nullptr;
      passthrough_.restore(
          node, backing,
          backing == 0 ? nullptr : (is_file ? opened.file->keep_lent() : names_.keep_lent(node)));
    }
    if (opened.is_dormant && status.ok()) continue;
    // Who writes keeps the file from settling.
    if (status.ok() && is_writing && opened.file != nullptr) status = opened.file->begin_writing();
    if (!status.ok()) {
      spdlog::warn("fuse: node {} was open, and cannot be opened again yet: {}", node,
                   base::message(status));
    }
  }
  return parcel.status();
}

absl::Status Operations::wake(uint64_t handle) {
  const OpenFile& dormant = open_files_.file(handle);
  if (!dormant.is_dormant) return absl::OkStatus();
  const bool is_append = dormant.is_append;
  const bool is_counted = dormant.is_counted;
  absl::StatusOr<OpenFile> opened = open_node(dormant.node.id, dormant.is_written);
  if (absl::IsNotFound(opened.status()) && dormant.node.type == tree::NodeType::kFile) {
    // Nobody can look it up any more, but it may have been handed over by its node.
    OpenFile forgotten;
    BLOBCACHE_ASSIGN_OR_RETURN(forgotten.object, names_.open(dormant.node.id));
    forgotten.node = dormant.node;
    opened = std::move(forgotten);
  }
  BLOBCACHE_RETURN_IF_ERROR(opened.status());
  opened->is_append = is_append;
  opened->is_counted = is_counted;
  open_files_.replace(handle, *std::move(opened));
  return absl::OkStatus();
}

void Operations::run_awake(fuse_req_t request, tree::NodeId node, uint64_t handle,
                           absl::AnyInvocable<void()> call) {
  run_waiting(request, node, [this, request, node, handle, call = std::move(call)]() mutable {
    const absl::Status status = wake(handle);
    if (!status.ok()) return fail(request, errno_of_node(status), status, "open again", node);
    call();
  });
}

}  // namespace blobcache::fusefs
