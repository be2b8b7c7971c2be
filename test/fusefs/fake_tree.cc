#include "test/fusefs/fake_tree.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "store/tree/files.h"
#include "store/tree/name_editor.h"
#include "test/fusefs/fake_files.h"

namespace blobcache::fusefs {

std::byte pattern_byte(uint64_t seed, uint64_t offset) {
  uint64_t x = (offset >> 3) + seed * 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return static_cast<std::byte>(x >> (8 * (offset & 7)));
}

std::string pattern(uint64_t seed, uint64_t offset, uint64_t length) {
  std::string out(length, '\0');
  for (uint64_t i = 0; i < length; ++i) {
    out[i] = static_cast<char>(pattern_byte(seed, offset + i));
  }
  return out;
}

class TestSource::Handle final : public page::Source::Fetch {
 public:
  Handle(TestSource& source, uint64_t id) : source_(source), id_(id) {}
  void cancel() override { source_.cancel(id_); }

 private:
  TestSource& source_;
  const uint64_t id_;
};

std::unique_ptr<page::Source::Fetch> TestSource::fetch(uint64_t offset, absl::Span<std::byte> into,
                                                       FetchDone done) {
  Waiting waiting{offset, into, std::move(done)};
  uint64_t id = 0;
  {
    absl::MutexLock lock(&mutex_);
    id = next_id_++;
    if (closed_) {
      waiting_.emplace(id, std::move(waiting));
      return std::make_unique<Handle>(*this, id);
    }
  }
  answer(std::move(waiting));
  return std::make_unique<Handle>(*this, id);
}

void TestSource::answer(Waiting waiting) {
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    status = absl::Status(code_, code_ == absl::StatusCode::kOk ? "" : "the origin is away");
  }
  for (size_t i = 0; status.ok() && i < waiting.into.size(); ++i) {
    waiting.into[i] = pattern_byte(seed_, waiting.offset + i);
  }
  waiting.done(std::move(status));
}

void TestSource::close_gate() {
  absl::MutexLock lock(&mutex_);
  closed_ = true;
}

void TestSource::open_gate() {
  std::map<uint64_t, Waiting> free;
  {
    absl::MutexLock lock(&mutex_);
    closed_ = false;
    free.swap(waiting_);
  }
  for (auto& [id, waiting] : free) answer(std::move(waiting));
}

void TestSource::answer_with(absl::StatusCode code) {
  absl::MutexLock lock(&mutex_);
  code_ = code;
}

void TestSource::wait_for_waiting(size_t fetches) {
  absl::MutexLock lock(&mutex_);
  const auto enough = [this, fetches]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return waiting_.size() >= fetches;
  };
  mutex_.Await(absl::Condition(&enough));
}

void TestSource::cancel(uint64_t id) {
  FetchDone done;
  {
    absl::MutexLock lock(&mutex_);
    const auto found = waiting_.find(id);
    if (found == waiting_.end()) return;
    done = std::move(found->second.done);
    waiting_.erase(found);
  }
  done(absl::CancelledError("the fetch was cancelled"));
}

FakeTree::FakeTree(page::PageStore& store)
    : store_(store),
      editor_(std::make_unique<FakeEditor>(*this)),
      files_(std::make_unique<FakeFiles>(*this)) {
  auto root = std::make_shared<FakeEntry>();
  root->node.id = tree::kRootNode;
  root->node.type = tree::NodeType::kDirectory;
  root->node.mode = 0755;
  {
    absl::MutexLock lock(&mutex_);
    entries_.emplace(tree::kRootNode, std::move(root));
  }
  add_directory("blobs");
  const tree::NodeId files = add_directory("files");
  add_directory("volumes");
  absl::MutexLock lock(&mutex_);
  find(files)->beneath_files = true;
}

FakeTree::~FakeTree() = default;

tree::NameEditor& FakeTree::editor() { return *editor_; }
tree::Files& FakeTree::files() { return *files_; }

FakeTree::Place FakeTree::place(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {tree::kRootNode, std::string(path)};
  return {resolve(path.substr(0, slash)).value().id, std::string(path.substr(slash + 1))};
}

FakeTree::EntryRef FakeTree::find(tree::NodeId id) {
  const auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : found->second;
}

FakeTree::EntryRef FakeTree::child(tree::NodeId parent, std::string_view name) {
  const EntryRef directory = find(parent);
  if (directory == nullptr) return nullptr;
  const auto found = directory->children.find(name);
  return found == directory->children.end() ? nullptr : find(found->second);
}

tree::Node FakeTree::node_of(const FakeEntry& entry) {
  tree::Node node = entry.node;
  if (entry.image != nullptr) node.size_bytes = entry.image->size_bytes();
  return node;
}

void FakeTree::drop(tree::NodeId id) {
  const EntryRef entry = find(id);
  if (entry->node.type != tree::NodeType::kDirectory && --entry->node.links > 0) return;
  entry->node.links = 0;
  entries_.erase(id);
}

tree::NodeId FakeTree::insert(std::string_view path, FakeEntry entry) {
  const Place where = place(path);
  tree::NodeId id = 0;
  {
    absl::MutexLock lock(&mutex_);
    id = next_id_++;
    entry.node.id = id;
    entry.node.modified = absl::FromUnixSeconds(1'700'000'000) + absl::Nanoseconds(123456789);
    entry.node.changed = entry.node.modified;
    const EntryRef parent = find(where.parent);
    entry.beneath_files = parent->beneath_files;
    entries_.emplace(id, std::make_shared<FakeEntry>(std::move(entry)));
    const auto [old, inserted] = parent->children.emplace(where.name, id);
    if (!inserted) drop(std::exchange(old->second, id));
  }
  tell(where);
  return id;
}

tree::NodeId FakeTree::add_directory(std::string_view path) {
  FakeEntry entry;
  entry.node.type = tree::NodeType::kDirectory;
  entry.node.mode = 0755;
  return insert(path, std::move(entry));
}

tree::NodeId FakeTree::add_file(std::string_view path, uint64_t size, uint64_t seed) {
  FakeEntry entry;
  entry.node.size_bytes = size;
  entry.node.mode = 0444;
  entry.source = std::make_shared<TestSource>(seed);
  entry.spec.incarnation = page::Incarnation::random();
  std::copy(entry.spec.incarnation.bytes.begin(), entry.spec.incarnation.bytes.end(),
            entry.spec.key.bytes.begin());
  entry.spec.size_bytes = size;
  entry.spec.source = entry.source;
  entry.node.digest = entry.spec.key;
  return insert(path, std::move(entry));
}

page::ObjectSpec FakeTree::store_bytes(std::string_view bytes) {
  page::ObjectSpec spec;
  auto writer = store_.create(page::Retention::kKept, bytes.size()).value();
  const absl::Status appended =
      writer->append({reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()});
  if (!appended.ok()) throw std::runtime_error("append");
  const auto id = page::Incarnation::random();
  std::copy(id.bytes.begin(), id.bytes.end(), spec.key.bytes.begin());
  const page::SealedObject sealed = writer->seal(spec.key, {.text = "test", .records = {}}).value();
  writer->keep();
  spec.incarnation = sealed.incarnation;
  spec.size_bytes = bytes.size();
  spec.retention = page::Retention::kKept;
  spec.inline_map = sealed.inline_map;
  return spec;
}

tree::NodeId FakeTree::add_stored_file(std::string_view path, uint64_t size, uint64_t seed) {
  FakeEntry entry;
  entry.node.size_bytes = size;
  entry.node.mode = 0444;
  entry.spec = store_bytes(pattern(seed, 0, size));
  entry.node.digest = entry.spec.key;
  return insert(path, std::move(entry));
}

std::shared_ptr<FakeImage> FakeTree::add_image(std::string_view path, std::string bytes,
                                               mode_t mode) {
  FakeEntry entry;
  entry.node.type = tree::NodeType::kImage;
  entry.node.mode = mode;
  entry.image = std::make_shared<FakeImage>(std::move(bytes), FakeImage::Size::kFixed, later_);
  std::shared_ptr<FakeImage> image = entry.image;
  insert(path, std::move(entry));
  return image;
}

void FakeTree::settle(std::string_view path) {
  const tree::NodeId id = resolve(path).value().id;
  page::ObjectSpec spec = store_bytes(written(path));
  const absl::MutexLock lock(&mutex_);
  const EntryRef entry = find(id);
  entry->image = nullptr;
  entry->node.size_bytes = spec.size_bytes;
  entry->node.digest = spec.key;
  entry->node.settled = true;
  entry->spec = std::move(spec);
}

std::string FakeTree::written(std::string_view path) {
  const tree::NodeId id = resolve(path).value().id;
  std::shared_ptr<FakeImage> image;
  {
    const absl::ReaderMutexLock lock(&mutex_);
    image = find(id)->image;
  }
  return image == nullptr ? "nothing written" : image->bytes();
}

void FakeTree::set_space(const Space& space) {
  const absl::MutexLock lock(&mutex_);
  space_ = space;
}

absl::StatusOr<tree::Namespace::Space> FakeTree::space() {
  const absl::ReaderMutexLock lock(&mutex_);
  return space_;
}

uint64_t FakeTree::name_syncs() const { return editor_->syncs(); }

TestSource& FakeTree::source(tree::NodeId file) {
  absl::MutexLock lock(&mutex_);
  return *entries_.at(file)->source;
}

absl::StatusOr<tree::Node> FakeTree::resolve(std::string_view path) {
  absl::ReaderMutexLock lock(&mutex_);
  EntryRef at = find(tree::kRootNode);
  while (at != nullptr && !path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    at = child(at->node.id, path.substr(0, slash));
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  if (at == nullptr) return absl::NotFoundError("no such path");
  return node_of(*at);
}

absl::StatusOr<tree::Node> FakeTree::lookup(tree::NodeId parent, std::string_view name) {
  absl::ReaderMutexLock lock(&mutex_);
  const EntryRef found = child(parent, name);
  if (found == nullptr) return absl::NotFoundError("no such name");
  return node_of(*found);
}

absl::StatusOr<tree::Node> FakeTree::stat(tree::NodeId node) {
  absl::ReaderMutexLock lock(&mutex_);
  const EntryRef found = find(node);
  if (found == nullptr) return absl::NotFoundError("no such node");
  return node_of(*found);
}

absl::StatusOr<std::vector<tree::NamedNode>> FakeTree::list(tree::NodeId directory, uint64_t cookie,
                                                            size_t limit) {
  absl::ReaderMutexLock lock(&mutex_);
  const EntryRef found = find(directory);
  if (found == nullptr) return absl::NotFoundError("no such directory");
  std::vector<tree::NamedNode> out;
  for (const auto& [name, id] : found->children) {
    if (id > cookie) out.push_back({name, node_of(*find(id)), id});
  }
  std::sort(out.begin(), out.end(),
            [](const auto& a, const auto& b) { return a.cookie < b.cookie; });
  out.resize(std::min(out.size(), limit));
  return out;
}

absl::StatusOr<page::ObjectRef> FakeTree::open(tree::NodeId node) {
  absl::ReaderMutexLock lock(&mutex_);
  const EntryRef found = find(node);
  if (found == nullptr) return absl::NotFoundError("no such node");
  return store_.attach(found->spec);
}

absl::StatusOr<std::shared_ptr<volume::Image>> FakeTree::open_image(tree::NodeId node) {
  absl::ReaderMutexLock lock(&mutex_);
  const EntryRef found = find(node);
  if (found == nullptr || found->image == nullptr) return absl::NotFoundError("no such image");
  return found->image;
}

absl::StatusOr<std::unique_ptr<tree::BlobWriter>> FakeTree::put(std::string_view,
                                                                const tree::Creator&, uint64_t) {
  return absl::UnimplementedError("put");
}

absl::StatusOr<tree::Node> FakeTree::bind(std::string_view, const page::ObjectKey&,
                                          const tree::Creator&) {
  return absl::UnimplementedError("bind");
}

absl::Status FakeTree::remove(std::string_view path) {
  const Place where = place(path);
  {
    absl::MutexLock lock(&mutex_);
    auto& children = find(where.parent)->children;
    const auto found = children.find(where.name);
    if (found == children.end()) return absl::NotFoundError("no such name");
    drop(found->second);
    children.erase(found);
  }
  tell(where);
  return absl::OkStatus();
}

void FakeTree::tell_content(tree::NodeId file, uint64_t offset, uint64_t length) {
  std::vector<tree::NamespaceListener*> listeners;
  {
    absl::MutexLock lock(&mutex_);
    listeners = listeners_;
  }
  for (tree::NamespaceListener* listener : listeners) {
    listener->on_content_changed(file, offset, length);
  }
}

void FakeTree::tell(const Place& place) {
  std::vector<tree::NamespaceListener*> listeners;
  {
    absl::MutexLock lock(&mutex_);
    listeners = listeners_;
  }
  for (tree::NamespaceListener* listener : listeners) {
    listener->on_name_changed(place.parent, place.name);
  }
}

void FakeTree::add_listener(tree::NamespaceListener* listener) {
  absl::MutexLock lock(&mutex_);
  listeners_.push_back(listener);
}

void FakeTree::remove_listener(tree::NamespaceListener* listener) {
  absl::MutexLock lock(&mutex_);
  std::erase(listeners_, listener);
}

void FakeTree::set_pinned(std::string_view path, bool pinned) {
  absl::MutexLock lock(&mutex_);
  for (auto& [id, entry] : entries_) {
    const auto& digest = entry->node.digest;
    if (digest.has_value() && path == "blobs/" + digest->hex()) entry->node.pinned = pinned;
  }
}

absl::StatusOr<tree::Node> FakeTree::pin(std::string_view path) {
  set_pinned(path, true);
  return tree::Node();
}

absl::StatusOr<tree::Node> FakeTree::unpin(std::string_view path) {
  set_pinned(path, false);
  return tree::Node();
}

absl::StatusOr<tree::Evicted> FakeTree::evict(std::string_view /*path*/, tree::EvictFrom /*from*/) {
  return absl::UnimplementedError("not in a fake tree");
}

absl::Status FakeTree::scrub(std::string_view /*path*/, tree::ScrubWatcher& /*watcher*/) {
  return absl::UnimplementedError("not in a fake tree");
}

absl::Status FakeTree::collect_garbage(const tree::GarbageOptions& /*options*/,
                                       tree::GarbageWatcher& /*watcher*/) {
  return absl::UnimplementedError("not in a fake tree");
}

absl::StatusOr<tree::Namespace::Counts> FakeTree::counts() {
  absl::ReaderMutexLock lock(&mutex_);
  Counts out;
  for (const auto& [id, entry] : entries_) {
    if (entry->node.type != tree::NodeType::kFile) continue;
    ++out.blobs;
    out.blob_bytes += node_of(*entry).size_bytes;
  }
  return out;
}

}  // namespace blobcache::fusefs
