#include "store/tree/impl/origin_set.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/status.h"
#include "store/page/geometry.h"
#include "store/tree/impl/node_ids.h"
#include "store/tree/impl/node_lookup.h"
#include "store/tree/path.h"

namespace blobcache::tree {
namespace {

constexpr mode_t kDirectoryMode = 0555;
constexpr mode_t kReadOnlyMode = 0444;
constexpr mode_t kImageMode = 0600;
constexpr mode_t kLinkMode = 0777;  // what every symbolic link shows

mode_t mode_of(OriginEntry::Kind kind) {
  switch (kind) {
    case OriginEntry::Kind::kDirectory:
      return kDirectoryMode;
    case OriginEntry::Kind::kImage:
      return kImageMode;
    case OriginEntry::Kind::kSymlink:
      return kLinkMode;
    case OriginEntry::Kind::kFile:
      break;
  }
  return kReadOnlyMode;
}

NodeType type_of(OriginEntry::Kind kind) {
  switch (kind) {
    case OriginEntry::Kind::kDirectory:
      return NodeType::kDirectory;
    case OriginEntry::Kind::kImage:
      return NodeType::kImage;
    case OriginEntry::Kind::kSymlink:
      return NodeType::kSymlink;
    case OriginEntry::Kind::kFile:
      break;
  }
  return NodeType::kFile;
}

uint64_t size_of(const OriginEntry& entry) {
  switch (entry.kind) {
    case OriginEntry::Kind::kDirectory:
      return 0;
    case OriginEntry::Kind::kSymlink:
      return entry.target.size();
    case OriginEntry::Kind::kFile:
    case OriginEntry::Kind::kImage:
      break;
  }
  return entry.size_bytes;
}

Node to_node(NodeId id, const OriginEntry& entry) {
  Node node;
  node.id = id;
  node.type = type_of(entry.kind);
  node.size_bytes = size_of(entry);
  node.mode = mode_of(entry.kind);
  node.uid = ::geteuid();
  node.gid = ::getegid();
  // Where the origin does not tell, the same every day: tools that compare times see no change.
  node.modified = entry.modified == absl::InfinitePast() ? absl::UnixEpoch() : entry.modified;
  node.changed = node.modified;
  node.retention = page::Retention::kCached;
  node.steady = entry.kind == OriginEntry::Kind::kFile && entry.version.has_value();
  return node;
}

OriginEntry top_of(const Origin& origin) {
  OriginEntry top;
  top.name = origin.name();
  top.kind = OriginEntry::Kind::kDirectory;
  return top;
}

std::string path_of(const OriginNode& node) {
  return fmt::format("origins/{}{}{}", node.origin->name(), node.path.empty() ? "" : "/",
                     printable(node.path));
}

/// What an origin says, with where that was.
absl::Status told(const absl::Status& status, const OriginNode& node) {
  return base::annotate(status, path_of(node));
}

/// A name without what ends a word: blanks, control bytes and '%' itself are "%XX".
std::string one_word(std::string_view name) {
  std::string word;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte <= 0x20 || byte == 0x7f || c == '%') {
      word += fmt::format("%{:02X}", byte);
    } else {
      word += c;
    }
  }
  return word;
}

absl::StatusOr<std::string> join(std::string_view directory, std::string_view name) {
  std::string path = fmt::format("{}{}{}", directory, directory.empty() ? "" : "/", name);
  if (path.size() > kMaxPathBytes) {
    return base::posix_error(ENAMETOOLONG, fmt::format("a path of {} bytes; at most {} are allowed",
                                                       path.size(), kMaxPathBytes));
  }
  return path;
}

}  // namespace

OriginSet::OriginSet(std::vector<std::shared_ptr<Origin>> origins, page::PageStore& store,
                     Clock clock)
    : clock_(std::move(clock)), store_(store) {
  for (std::shared_ptr<Origin>& origin : origins) places_.push_back({std::move(origin)});
  std::sort(places_.begin(), places_.end(),
            [](const Place& a, const Place& b) { return a.origin->name() < b.origin->name(); });
  if (!places_.empty()) open_.emplace(store);
}

bool OriginSet::has(NodeId node) { return is_origin_node(node); }

bool OriginSet::has(const PathNames& names) {
  return names.size() >= 2 && names.front() == "origins";
}

const OriginSet::Place* OriginSet::find(std::string_view name) const {
  const auto at = std::find_if(places_.begin(), places_.end(),
                               [name](const Place& place) { return place.origin->name() == name; });
  return at == places_.end() ? nullptr : &*at;
}

absl::StatusOr<OriginNode> OriginSet::find(NodeId node) {
  std::optional<OriginNode> found = nodes_.find(node);
  if (!found) return no_such_node(node);
  return *std::move(found);
}

Node OriginSet::note(OriginNode node) {
  const OriginEntry entry = node.entry;
  node.seen = clock_();
  return to_node(nodes_.note(std::move(node)), entry);
}

Node OriginSet::note_top(const std::shared_ptr<Origin>& origin) {
  return note({origin, "", top_of(*origin), {}});
}

absl::StatusOr<Node> OriginSet::look_up(const std::shared_ptr<Origin>& origin, std::string path) {
  if (path.empty()) return note_top(origin);
  OriginNode node{origin, std::move(path), {}, {}};
  absl::StatusOr<OriginEntry> entry = origin->look_up(node.path);
  if (absl::IsNotFound(entry.status())) return no_such_name(path_of(node));
  if (!entry.ok()) return told(entry.status(), node);
  if (!is_showable(*entry)) return no_such_name(path_of(node));
  node.entry = *std::move(entry);
  return note(std::move(node));
}

absl::StatusOr<Node> OriginSet::resolve(const PathNames& names) {
  const Place* const place = find(names[1]);
  if (place == nullptr) return no_such_name(fmt::format("origins/{}", names[1]));
  return look_up(place->origin, fmt::format("{}", fmt::join(names.begin() + 2, names.end(), "/")));
}

absl::StatusOr<Node> OriginSet::lookup(NodeId parent, std::string_view name) {
  if (parent == kOriginsNode) {
    const Place* const place = find(name);
    if (place == nullptr) return no_such_name(name);
    return note_top(place->origin);
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const OriginNode node, find(parent));
  if (node.entry.kind != OriginEntry::Kind::kDirectory) return not_a_directory(path_of(node));
  BLOBCACHE_ASSIGN_OR_RETURN(std::string path, join(node.path, name));
  return look_up(node.origin, std::move(path));
}

absl::StatusOr<Node> OriginSet::stat(NodeId id) {
  BLOBCACHE_ASSIGN_OR_RETURN(const OriginNode node, find(id));
  const absl::Duration age = clock_() - node.seen;
  const bool is_fresh = age >= absl::ZeroDuration() && age < kFresh;
  if (node.path.empty() || is_fresh) return to_node(id, node.entry);
  BLOBCACHE_ASSIGN_OR_RETURN(Node now, look_up(node.origin, node.path));
  if (now.id != id) return no_such_node(id);
  return now;
}

absl::StatusOr<std::string> OriginSet::read_symlink(NodeId id) {
  BLOBCACHE_ASSIGN_OR_RETURN(OriginNode node, find(id));
  if (node.entry.kind == OriginEntry::Kind::kSymlink) return std::move(node.entry.target);
  return base::posix_error(EINVAL, fmt::format("{}: is no symbolic link", path_of(node)));
}

absl::StatusOr<std::string> OriginSet::origin_of(NodeId id) {
  BLOBCACHE_ASSIGN_OR_RETURN(const OriginNode node, find(id));
  const bool has_bytes =
      node.entry.kind == OriginEntry::Kind::kFile || node.entry.kind == OriginEntry::Kind::kImage;
  if (!has_bytes) return std::string();
  return fmt::format("{} {} {}", one_word(node.origin->name()), node.origin->type(),
                     node.origin->url_of(node.path));
}

std::vector<NamedNode> OriginSet::list_origins(uint64_t cookie, size_t limit) {
  std::vector<NamedNode> entries;
  // Origins do not come and go.
  for (size_t i = cookie; i < places_.size() && entries.size() < limit; ++i) {
    const std::shared_ptr<Origin>& origin = places_[i].origin;
    entries.push_back({origin->name(), note_top(origin), i + 1});
  }
  return entries;
}

absl::StatusOr<std::vector<NamedNode>> OriginSet::list(NodeId directory, uint64_t cookie,
                                                       size_t limit) {
  if (directory == kOriginsNode) return list_origins(cookie, limit);
  BLOBCACHE_ASSIGN_OR_RETURN(const OriginNode node, find(directory));
  if (node.entry.kind != OriginEntry::Kind::kDirectory) return not_a_directory(path_of(node));
  const auto ask = [&node]() -> absl::StatusOr<std::vector<OriginEntry>> {
    absl::StatusOr<std::vector<OriginEntry>> entries = node.origin->list(node.path);
    if (!entries.ok()) return told(entries.status(), node);
    if (entries->size() <= kMaxOriginEntries) return listable(*std::move(entries));
    return absl::ResourceExhaustedError(fmt::format(
        "{}: has more than {} names, which is too much to list", path_of(node), kMaxOriginEntries));
  };
  BLOBCACHE_ASSIGN_OR_RETURN(std::vector<OriginListing::Numbered> found,
                             listings_.list(directory, cookie, limit, ask));
  std::vector<NamedNode> entries;
  entries.reserve(found.size());
  for (OriginListing::Numbered& each : found) {
    std::string name = each.entry.name;
    const absl::StatusOr<std::string> path = join(node.path, name);
    if (!path.ok()) continue;
    entries.push_back(
        {std::move(name), note({node.origin, *path, std::move(each.entry), {}}), each.number});
  }
  return entries;
}

absl::StatusOr<OriginFile> OriginSet::open(NodeId id, const OriginNode& node) {
  if (node.entry.kind == OriginEntry::Kind::kDirectory) return is_a_directory(path_of(node), "");
  if (node.entry.kind == OriginEntry::Kind::kSymlink) return is_a_symlink(path_of(node));
  absl::StatusOr<OriginFile> file = node.origin->open(node.path);
  if (absl::IsNotFound(file.status())) return no_such_node(id);
  if (!file.ok()) return told(file.status(), node);
  const bool is_image = file->make_image != nullptr;
  if (is_image != (node.entry.kind == OriginEntry::Kind::kImage)) return no_such_node(id);
  if (is_image) return file;
  // Another version is another node: who has this one looks the path up again.
  const std::optional<page::ObjectKey>& version = node.entry.version;
  if (file->version.size_bytes != node.entry.size_bytes ||
      file->modified.value_or(node.entry.modified) != node.entry.modified ||
      (version && (!file->lasting || *version != file->version.key))) {
    return no_such_node(id);
  }
  return file;
}

absl::StatusOr<page::ObjectRef> OriginSet::open(NodeId id) {
  BLOBCACHE_ASSIGN_OR_RETURN(const OriginNode node, find(id));
  if (node.entry.kind == OriginEntry::Kind::kImage) {
    return absl::FailedPreconditionError(
        fmt::format("{}: is an image that may change, which is no object", path_of(node)));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(OriginFile file, open(id, node));
  return open_->open(std::move(file));
}

absl::StatusOr<std::shared_ptr<volume::Image>> OriginSet::open_image(NodeId id) {
  BLOBCACHE_ASSIGN_OR_RETURN(const OriginNode node, find(id));
  if (node.entry.kind != OriginEntry::Kind::kImage) {
    return absl::FailedPreconditionError(fmt::format("{}: is no image", path_of(node)));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(OriginFile file, open(id, node));
  return open_->open_image(std::move(file));
}

absl::StatusOr<Evicted> OriginSet::evict(const PathNames& names, EvictFrom from) {
  BLOBCACHE_ASSIGN_OR_RETURN(const Node node, resolve(names));
  const std::string path = fmt::format("{}", fmt::join(names, "/"));
  if (node.type == NodeType::kDirectory) return is_a_directory(path, "; name its files");
  if (node.type == NodeType::kSymlink) return is_a_symlink(path);
  if (node.type == NodeType::kImage) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: is an image that may change: what is cached of it goes when nobody has it open",
        printable(path)));
  }
  BLOBCACHE_ASSIGN_OR_RETURN(const page::ObjectRef object, open(node.id));
  Evicted evicted;
  if (from != EvictFrom::kDisk) evicted.memory_pages = store_.evict_memory(*object);
  if (from == EvictFrom::kMemory) return evicted;
  BLOBCACHE_ASSIGN_OR_RETURN(const page::Residency before, object->residency());
  store_.forget_cached(object->key());
  BLOBCACHE_ASSIGN_OR_RETURN(const page::Residency after, object->residency());
  const uint64_t pages = before.disk_pages - std::min(before.disk_pages, after.disk_pages);
  evicted.disk_bytes = pages << page::kPageShift;
  evicted.removed = true;
  return evicted;
}

void OriginSet::take_over(base::ParcelReader& parcel) {
  nodes_.take_over(parcel, [this](std::string_view name) -> std::shared_ptr<Origin> {
    const Place* const place = find(name);
    return place == nullptr ? nullptr : place->origin;
  });
}

bool OriginSet::run(const Place* place, absl::AnyInvocable<void()> call) {
  if (place != nullptr) return place->calls->run(std::move(call));
  call();
  return true;
}

bool OriginSet::run(NodeId node, absl::AnyInvocable<void()> call) {
  const std::optional<OriginNode> found = nodes_.find(node);
  return run(found ? find(found->origin->name()) : nullptr, std::move(call));
}

bool OriginSet::run(const std::string& origin, absl::AnyInvocable<void()> call) {
  return run(find(origin), std::move(call));
}

absl::Status OriginSet::check_ours(std::string_view path, const PathNames& names,
                                   std::string_view why) const {
  if (!has(names)) return absl::OkStatus();
  if (!knows(names[1])) return no_such_name(path);
  return absl::FailedPreconditionError(fmt::format("{}: is an origin's, {}", printable(path), why));
}

}  // namespace blobcache::tree
