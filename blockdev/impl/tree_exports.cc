#include "blockdev/impl/tree_exports.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "base/status.h"
#include "blockdev/impl/object_device.h"
#include "blockdev/impl/volume_device.h"
#include "store/tree/path.h"
#include "store/volume/image.h"

namespace blobcache::blockdev {
namespace {

constexpr size_t kListBatch = 256;
constexpr size_t kMostOrigins = 1024;

/// Snapshots of volumes are told by their mode, as images are that nobody may write.
bool is_read_only(const tree::Node& node) {
  return node.type != tree::NodeType::kImage || (node.mode & S_IWUSR) == 0;
}

/// What is found below an origin, for who may have gone when it is.
struct Walk {
  std::atomic<bool> wanted = true;
  absl::Mutex mutex;
  bool ended ABSL_GUARDED_BY(mutex) = false;
  absl::Status status ABSL_GUARDED_BY(mutex);
  std::vector<Export> found ABSL_GUARDED_BY(mutex);
};

/// Of a directory that cannot be listed what is in it may be opened by its path all the same, and
/// the rest of the tree be listed.
bool is_passed_over(const absl::Status& status) {
  return absl::IsPermissionDenied(status) || absl::IsResourceExhausted(status);
}

/// Adds what is below `top`, as long as it is `wanted`. The directories that are still to be
/// entered wait in a list of our own, not on the thread's stack, whose depth a deep tree must not
/// decide.
absl::Status walk(tree::Namespace& names, const ExportFilter& filter, const std::string& top,
                  size_t limit, std::vector<Export>& found, const std::atomic<bool>& wanted) {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node root, names.resolve(top));
  std::vector<std::pair<std::string, tree::NodeId>> to_enter{{top, root.id}};
  while (!to_enter.empty() && wanted) {
    const auto [path, directory] = std::move(to_enter.back());
    to_enter.pop_back();
    if (!filter.allows_below(path)) continue;
    uint64_t cookie = 0;
    while (wanted) {
      const auto batch = names.list(directory, cookie, kListBatch);
      if (absl::IsNotFound(batch.status())) break;  // removed since its parent was listed
      if (directory != root.id && is_passed_over(batch.status())) break;
      BLOBCACHE_RETURN_IF_ERROR(batch.status());
      if (batch->empty()) break;
      for (const tree::NamedNode& entry : *batch) {
        std::string child = fmt::format("{}/{}", path, entry.name);
        if (entry.node.type == tree::NodeType::kDirectory) {
          to_enter.emplace_back(std::move(child), entry.node.id);
        } else if (entry.node.type != tree::NodeType::kSymlink && filter.allows(child)) {
          if (found.size() >= limit) return absl::OkStatus();
          found.push_back({std::move(child), entry.node.size_bytes, is_read_only(entry.node)});
        }
      }
      cookie = batch->back().cookie;
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OpenExport> TreeExports::open(std::string_view name) {
  if (name.empty()) name = default_export_;
  if (name.starts_with('/')) name.remove_prefix(1);
  if (name.empty() || !filter_->allows(name)) return absl::NotFoundError("no such export");
  absl::StatusOr<OpenExport> opened = open_allowed(name);
  // What is no path is nowhere.
  if (absl::IsInvalidArgument(opened.status())) return absl::NotFoundError("no such export");
  if (!opened.ok() && !absl::IsNotFound(opened.status())) {
    spdlog::warn("nbd: {} cannot be opened: {}", tree::printable(name),
                 base::message(opened.status()));
  }
  return opened;
}

absl::StatusOr<OpenExport> TreeExports::open_allowed(std::string_view name) {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node node, names_.resolve(name));
  switch (node.type) {
    case tree::NodeType::kFile: {
      BLOBCACHE_ASSIGN_OR_RETURN(page::ObjectRef object, names_.open(node.id));
      return OpenExport{std::string(name), std::make_shared<ObjectDevice>(std::move(object))};
    }
    case tree::NodeType::kImage: {
      BLOBCACHE_ASSIGN_OR_RETURN(std::shared_ptr<volume::Image> image, names_.open_image(node.id));
      return OpenExport{std::string(name), std::make_shared<VolumeDevice>(
                                               std::move(image), is_read_only(node), buffers_)};
    }
    case tree::NodeType::kSymlink:
      return absl::NotFoundError("it is a symbolic link, which is not followed; name the file");
    case tree::NodeType::kDirectory:
      break;
  }
  return absl::NotFoundError("it is a directory, and a directory is no export");
}

absl::StatusOr<ExportList> TreeExports::list(size_t limit) {
  ExportList list;
  for (const char* top : {"files", "volumes", "blobs"}) {
    const std::atomic<bool> always = true;
    BLOBCACHE_RETURN_IF_ERROR(walk(names_, *filter_, top, limit, list.exports, always));
  }
  BLOBCACHE_RETURN_IF_ERROR(list_origins(limit, list));
  return list;
}

absl::Status TreeExports::list_origins(size_t limit, ExportList& list) {
  BLOBCACHE_ASSIGN_OR_RETURN(const tree::Node origins, names_.resolve("origins"));
  BLOBCACHE_ASSIGN_OR_RETURN(const std::vector<tree::NamedNode> all,
                             names_.list(origins.id, 0, kMostOrigins));
  std::vector<std::pair<std::string, std::shared_ptr<Walk>>> walks;
  for (const tree::NamedNode& origin : all) {
    std::string top = fmt::format("origins/{}", origin.name);
    if (!filter_->allows_below(top)) continue;
    const auto under_way = std::make_shared<Walk>();
    // On the origin's own threads, which end before the names do, but perhaps after this.
    const bool runs = names_.run(top, [under_way, &names = names_, filter = filter_, top, limit] {
      std::vector<Export> found;
      const absl::Status status = walk(names, *filter, top, limit, found, under_way->wanted);
      const absl::MutexLock lock(&under_way->mutex);
      under_way->found = std::move(found);
      under_way->status = status;
      under_way->ended = true;
    });
    if (!runs) {
      const absl::MutexLock lock(&under_way->mutex);
      under_way->status = absl::UnavailableError("too many wait for it");
      under_way->ended = true;
    }
    walks.emplace_back(std::move(top), under_way);
  }
  const absl::Time deadline = absl::Now() + kPatience;
  for (const auto& [top, under_way] : walks) {
    const absl::MutexLock lock(&under_way->mutex);
    if (!under_way->mutex.AwaitWithDeadline(absl::Condition(&under_way->ended), deadline)) {
      under_way->wanted = false;
      list.left_out.push_back(
          fmt::format("{}: no answer within {}", top, absl::FormatDuration(kPatience)));
    } else if (!under_way->status.ok()) {
      const std::string_view why = base::message(under_way->status);
      list.left_out.push_back(why.starts_with(top) ? std::string(why)
                                                   : fmt::format("{}: {}", top, why));
    } else {
      const size_t room = limit - std::min(limit, list.exports.size());
      const auto end = under_way->found.begin() +
                       static_cast<ptrdiff_t>(std::min(room, under_way->found.size()));
      std::move(under_way->found.begin(), end, std::back_inserter(list.exports));
    }
  }
  for (const std::string& missing : list.left_out) {
    spdlog::info("nbd: a list of exports goes without {}", missing);
  }
  return absl::OkStatus();
}

}  // namespace blobcache::blockdev
