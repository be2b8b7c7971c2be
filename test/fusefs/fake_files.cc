#include "test/fusefs/fake_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <utility>

#include "absl/time/clock.h"
#include "base/status.h"
#include "store/page/object.h"

namespace blobcache::fusefs {
namespace {

absl::Status refuse(int error) { return base::posix_error(error, "refused by a fake tree"); }

bool is_directory(const std::shared_ptr<FakeEntry>& entry) {
  return entry->node.type == tree::NodeType::kDirectory;
}

}  // namespace

absl::StatusOr<tree::Node> FakeEditor::make(const tree::NewName& name, FakeEntry entry) {
  tree::Node made;
  {
    const absl::MutexLock lock(&tree_.mutex_);
    const auto parent = tree_.find(name.parent);
    if (parent == nullptr) return refuse(ENOENT);
    if (!parent->beneath_files) return refuse(EPERM);
    if (!is_directory(parent)) return refuse(ENOTDIR);
    if (parent->children.contains(name.name)) return refuse(EEXIST);
    entry.node.id = tree_.next_id_++;
    entry.node.mode = name.mode;
    entry.node.uid = name.uid;
    entry.node.gid = name.gid;
    if ((parent->node.mode & S_ISGID) != 0) {
      entry.node.gid = parent->node.gid;
      if (entry.node.type == tree::NodeType::kDirectory) entry.node.mode |= S_ISGID;
    }
    entry.node.modified = entry.node.changed = parent->node.modified = absl::Now();
    entry.beneath_files = true;
    parent->children.emplace(name.name, entry.node.id);
    auto kept = std::make_shared<FakeEntry>(std::move(entry));
    made = FakeTree::node_of(*kept);
    tree_.entries_.emplace(made.id, std::move(kept));
  }
  tree_.tell({name.parent, std::string(name.name)});
  return made;
}

absl::StatusOr<tree::Node> FakeEditor::make_directory(const tree::NewName& name) {
  FakeEntry entry;
  entry.node.type = tree::NodeType::kDirectory;
  return make(name, std::move(entry));
}

absl::StatusOr<tree::Node> FakeEditor::make_symlink(const tree::NewName& name,
                                                    std::string_view target) {
  FakeEntry entry;
  entry.node.type = tree::NodeType::kSymlink;
  entry.node.size_bytes = target.size();
  entry.target = target;
  return make(name, std::move(entry));
}

absl::StatusOr<std::string> FakeEditor::read_symlink(tree::NodeId node) {
  const absl::ReaderMutexLock lock(&tree_.mutex_);
  const auto entry = tree_.find(node);
  if (entry == nullptr) return refuse(ENOENT);
  if (entry->node.type != tree::NodeType::kSymlink) return refuse(EINVAL);
  return entry->target;
}

absl::Status FakeEditor::remove(tree::NodeId parent, std::string_view name, bool directory) {
  {
    const absl::MutexLock lock(&tree_.mutex_);
    const auto from = tree_.find(parent);
    const auto entry = tree_.child(parent, name);
    if (entry == nullptr) return refuse(ENOENT);
    if (!from->beneath_files) return refuse(EPERM);
    if (directory && !is_directory(entry)) return refuse(ENOTDIR);
    if (!directory && is_directory(entry)) return refuse(EISDIR);
    if (directory && !entry->children.empty()) return refuse(ENOTEMPTY);
    entry->node.changed = from->node.modified = absl::Now();
    from->children.erase(from->children.find(name));
    tree_.drop(entry->node.id);
  }
  tree_.tell({parent, std::string(name)});
  return absl::OkStatus();
}

absl::Status FakeEditor::remove_file(tree::NodeId parent, std::string_view name) {
  return remove(parent, name, /*directory=*/false);
}

absl::Status FakeEditor::remove_directory(tree::NodeId parent, std::string_view name) {
  return remove(parent, name, /*directory=*/true);
}

bool FakeEditor::contains(tree::NodeId directory, tree::NodeId node) {
  if (directory == node) return true;
  const auto entry = tree_.find(directory);
  return std::any_of(entry->children.begin(), entry->children.end(),
                     [&](const auto& child) { return contains(child.second, node); });
}

absl::Status FakeEditor::rename_locked(tree::NodeId from, std::string_view name, tree::NodeId to,
                                       std::string_view new_name, tree::RenameMode mode) {
  const auto source = tree_.find(from);
  const auto target = tree_.find(to);
  const auto moved = tree_.child(from, name);
  if (moved == nullptr || target == nullptr) return refuse(ENOENT);
  if (source->beneath_files != target->beneath_files) return refuse(EXDEV);
  if (!source->beneath_files) return refuse(EPERM);
  if (contains(moved->node.id, to)) return refuse(EINVAL);
  const auto there = tree_.child(to, new_name);
  if (mode == tree::RenameMode::kExchange) {
    if (there == nullptr) return refuse(ENOENT);
    if (contains(there->node.id, from)) return refuse(EINVAL);
    std::swap(source->children.find(name)->second, target->children.find(new_name)->second);
    return absl::OkStatus();
  }
  if (there != nullptr) {
    if (mode == tree::RenameMode::kNoReplace) return refuse(EEXIST);
    if (there == moved) return absl::OkStatus();
    if (is_directory(there) != is_directory(moved)) {
      return refuse(is_directory(there) ? EISDIR : ENOTDIR);
    }
    if (!there->children.empty()) return refuse(ENOTEMPTY);
    tree_.drop(there->node.id);
  }
  source->children.erase(source->children.find(name));
  target->children.insert_or_assign(std::string(new_name), moved->node.id);
  moved->node.changed = source->node.modified = target->node.modified = absl::Now();
  return absl::OkStatus();
}

absl::Status FakeEditor::rename(tree::NodeId from, std::string_view name, tree::NodeId to,
                                std::string_view new_name, tree::RenameMode mode) {
  {
    const absl::MutexLock lock(&tree_.mutex_);
    BLOBCACHE_RETURN_IF_ERROR(rename_locked(from, name, to, new_name, mode));
  }
  tree_.tell({from, std::string(name)});
  tree_.tell({to, std::string(new_name)});
  return absl::OkStatus();
}

absl::StatusOr<tree::Node> FakeEditor::link(tree::NodeId file, tree::NodeId parent,
                                            std::string_view name) {
  tree::Node linked;
  {
    const absl::MutexLock lock(&tree_.mutex_);
    const auto entry = tree_.find(file);
    const auto directory = tree_.find(parent);
    if (entry == nullptr || directory == nullptr) return refuse(ENOENT);
    if (is_directory(entry)) return refuse(EPERM);
    if (entry->beneath_files != directory->beneath_files) return refuse(EXDEV);
    if (!entry->beneath_files) return refuse(EPERM);
    if (directory->children.contains(name)) return refuse(EEXIST);
    directory->children.emplace(name, file);
    ++entry->node.links;
    entry->node.changed = directory->node.modified = absl::Now();
    linked = FakeTree::node_of(*entry);
  }
  tree_.tell({parent, std::string(name)});
  return linked;
}

absl::StatusOr<tree::Node> FakeEditor::set_attributes(tree::NodeId node,
                                                      const tree::AttributeChange& change) {
  const absl::MutexLock lock(&tree_.mutex_);
  const auto entry = tree_.find(node);
  if (entry == nullptr) return refuse(ENOENT);
  if (!entry->beneath_files) return refuse(EPERM);
  if (change.mode) entry->node.mode = *change.mode;
  if (change.uid) entry->node.uid = *change.uid;
  if (change.gid) entry->node.gid = *change.gid;
  if (change.modified) entry->node.modified = *change.modified;
  entry->node.changed = absl::Now();
  return FakeTree::node_of(*entry);
}

absl::Status FakeEditor::sync() {
  ++syncs_;
  return absl::OkStatus();
}

FakeFile::FakeFile(FakeTree& tree, std::shared_ptr<FakeEntry> entry)
    : tree_(tree), entry_(std::move(entry)) {}

std::shared_ptr<FakeImage> FakeFile::image() const {
  const absl::ReaderMutexLock lock(&tree_.mutex_);
  return entry_->image;
}

tree::File::Content FakeFile::content() const {
  const absl::ReaderMutexLock lock(&tree_.mutex_);
  if (entry_->image != nullptr) return {nullptr, entry_->image};
  return {tree_.store_.attach(entry_->spec), nullptr};
}

tree::Node FakeFile::node() const {
  const absl::ReaderMutexLock lock(&tree_.mutex_);
  return FakeTree::node_of(*entry_);
}

absl::StatusOr<page::LentFile> FakeFile::lend_file() {
  const Content now = content();
  if (now.object == nullptr) return absl::FailedPreconditionError("it is written to");
  return now.object->lend_file();
}

absl::Status FakeFile::begin_writing() {
  const Content now = content();
  if (now.image != nullptr) return absl::OkStatus();
  std::string bytes;
  while (bytes.size() < now.object->size_bytes()) {
    const uint64_t wanted =
        std::min(page::Object::kMaxRead, now.object->size_bytes() - bytes.size());
    absl::StatusOr<page::PinnedRange> range = now.object->read_wait(bytes.size(), wanted);
    BLOBCACHE_RETURN_IF_ERROR(range.status());
    for (const iovec& piece : range->pieces()) {
      bytes.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
    }
  }
  auto image = std::make_shared<FakeImage>(std::move(bytes), FakeImage::Size::kGrows, tree_.later_);
  const absl::MutexLock lock(&tree_.mutex_);
  if (entry_->image != nullptr) return absl::OkStatus();  // another was faster
  entry_->image = std::move(image);
  entry_->node.settled = false;
  entry_->node.digest = std::nullopt;
  return absl::OkStatus();
}

bool FakeFile::is_writing() const { return image() != nullptr; }

volume::Done FakeFile::telling(uint64_t offset, uint64_t length, volume::Done done) {
  return [this, offset, length, done = std::move(done)](absl::Status status) mutable {
    tree::NodeId id = 0;
    {
      const absl::MutexLock lock(&tree_.mutex_);
      entry_->node.modified = entry_->node.changed = absl::Now();
      id = entry_->node.id;
    }
    if (status.ok()) tree_.tell_content(id, offset, length);
    done(std::move(status));
  };
}

void FakeFile::write(uint64_t offset, absl::Span<const std::byte> bytes, volume::Done done) {
  image()->write(offset, bytes, false, telling(offset, bytes.size(), std::move(done)));
}

void FakeFile::append(absl::Span<const std::byte> bytes, Placed placed, volume::Done done) {
  const auto place = std::make_shared<uint64_t>(0);
  image()->append(
      bytes,
      [place, placed = std::move(placed)](uint64_t at) mutable {
        *place = at;
        std::move(placed)(at);
      },
      [this, place, length = bytes.size(), done = std::move(done)](absl::Status status) mutable {
        telling(*place, length, std::move(done))(std::move(status));
      });
}

void FakeFile::write_zeroes(uint64_t offset, uint64_t length, volume::ZeroFlags flags,
                            volume::Done done) {
  image()->write_zeroes(offset, length, flags, telling(offset, length, std::move(done)));
}

void FakeFile::set_length(uint64_t length, volume::Done done) {
  if (length > tree::Files::kMaxLength) return done(refuse(EFBIG));
  const std::shared_ptr<FakeImage> changed = image();
  const uint64_t begin = std::min(length, changed->size_bytes());
  const uint64_t all = std::numeric_limits<uint64_t>::max();
  tree_.later_.run([changed, length, told = telling(begin, all, std::move(done))]() mutable {
    changed->set_length(length);
    told(absl::OkStatus());
  });
}

void FakeFile::sync(volume::Done done) {
  const std::shared_ptr<FakeImage> synced = image();
  if (synced == nullptr) return done(absl::OkStatus());
  synced->flush(std::move(done));
}

absl::StatusOr<tree::FileRef> FakeFiles::create(const tree::NewName& name) {
  FakeEntry entry;
  entry.node.settled = false;
  entry.image = std::make_shared<FakeImage>("", FakeImage::Size::kGrows, tree_.later_);
  tree::Node made;
  BLOBCACHE_ASSIGN_OR_RETURN(made, tree_.editor_->make(name, std::move(entry)));
  return open(made.id);
}

absl::StatusOr<tree::FileRef> FakeFiles::open(tree::NodeId node) {
  const absl::MutexLock lock(&mutex_);
  std::shared_ptr<FakeEntry> entry;
  {
    const absl::ReaderMutexLock tree_lock(&tree_.mutex_);
    entry = tree_.find(node);
    if (entry == nullptr) return refuse(ESTALE);
    if (entry->node.type == tree::NodeType::kDirectory) return refuse(EISDIR);
    if (!entry->beneath_files || entry->node.type != tree::NodeType::kFile) return refuse(EINVAL);
  }
  std::weak_ptr<FakeFile>& known = open_[node];
  std::shared_ptr<FakeFile> file = known.lock();
  if (file != nullptr) return file;
  file = std::make_shared<FakeFile>(tree_, std::move(entry));
  known = file;
  return file;
}

}  // namespace blobcache::fusefs
