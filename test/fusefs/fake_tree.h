#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "store/page/page_store.h"
#include "store/page/source.h"
#include "store/tree/namespace.h"
#include "store/tree/volumes.h"
#include "test/fusefs/fake_image.h"
#include "test/no_volumes.h"

namespace blobcache::fusefs {

/// The byte at `offset` of a file made from `seed`: told from its place alone, the same nowhere
/// near.
[[nodiscard]] std::byte pattern_byte(uint64_t seed, uint64_t offset);
[[nodiscard]] std::string pattern(uint64_t seed, uint64_t offset, uint64_t length);

/// A source that a test holds in its hand: it answers with the pattern, or with an error, at once
/// or when the gate is opened. Thread-safe.
class TestSource final : public page::Source {
 public:
  explicit TestSource(uint64_t seed) : seed_(seed) {}
  ~TestSource() override { open_gate(); }

  [[nodiscard]] std::unique_ptr<Fetch> fetch(uint64_t offset, absl::Span<std::byte> into,
                                             FetchDone done) override;

  /// Fetches wait from now on.
  void close_gate();
  /// Lets those that wait go on.
  void open_gate();
  /// Fetches fail from now on; with OK they work again.
  void answer_with(absl::StatusCode code);
  /// Returns when this many fetches wait at the gate.
  void wait_for_waiting(size_t fetches);

 private:
  struct Waiting {
    uint64_t offset;
    absl::Span<std::byte> into;
    FetchDone done;
  };
  class Handle;

  void answer(Waiting waiting);
  void cancel(uint64_t id);

  const uint64_t seed_;
  absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::StatusCode code_ ABSL_GUARDED_BY(mutex_) = absl::StatusCode::kOk;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
};

class FakeEditor;
class FakeFiles;

/// One thing of a FakeTree. What is in it is guarded by the tree's mutex, but for what guards
/// itself.
struct FakeEntry {
  tree::Node node;
  std::map<std::string, tree::NodeId, std::less<>> children;
  page::ObjectSpec spec;               ///< of a file that has settled
  std::shared_ptr<TestSource> source;  ///< of one that was added with one
  std::shared_ptr<FakeImage> image;    ///< of an image, or a file under writing
  std::string target;                  ///< of a symbolic link
  bool beneath_files = false;          ///< or files/ itself
};

/// A tree in memory whose files are real objects of a real page store, with a TestSource behind
/// each, until they are written to; then their bytes are in memory, too. It knows how to look, to
/// remove and to bind, and all of NameEditor and Files; puts and upkeep are UNIMPLEMENTED.
/// Thread-safe.
class FakeTree final : public tree::Namespace {
 public:
  /// `store` must outlive it. Has the directories blobs, files and volumes.
  explicit FakeTree(page::PageStore& store);
  ~FakeTree() override;

  tree::NodeId add_directory(std::string_view path);
  /// Adds a file of `size` bytes of pattern(seed), or binds the name anew.
  tree::NodeId add_file(std::string_view path, uint64_t size, uint64_t seed);
  /// The same with the bytes on the store's disk and no source.
  tree::NodeId add_stored_file(std::string_view path, uint64_t size, uint64_t seed);
  /// Adds an image of these bytes, of which nobody may change the size.
  std::shared_ptr<FakeImage> add_image(std::string_view path, std::string bytes, mode_t mode);
  [[nodiscard]] TestSource& source(tree::NodeId file);
  /// Makes what was written to a file the content of a blob, with the same node.
  void settle(std::string_view path);
  /// Where changes of bytes end.
  [[nodiscard]] LaterThread& later() { return later_; }
  void set_space(const Space& space);
  /// How often the names were made durable.
  [[nodiscard]] uint64_t name_syncs() const;
  /// The bytes of a file that is being written, or of an image.
  [[nodiscard]] std::string written(std::string_view path);

  // Namespace
  absl::StatusOr<tree::Node> resolve(std::string_view path) override;
  absl::StatusOr<tree::Node> lookup(tree::NodeId parent, std::string_view name) override;
  absl::StatusOr<tree::Node> stat(tree::NodeId node) override;
  absl::StatusOr<std::vector<tree::NamedNode>> list(tree::NodeId directory, uint64_t cookie,
                                                    size_t limit) override;
  absl::StatusOr<page::ObjectRef> open(tree::NodeId node) override;
  absl::StatusOr<std::shared_ptr<volume::Image>> open_image(tree::NodeId node) override;
  absl::StatusOr<std::unique_ptr<tree::BlobWriter>> put(std::string_view bind_path,
                                                        const tree::Creator& creator,
                                                        uint64_t size_hint) override;
  absl::StatusOr<tree::Node> bind(std::string_view path, const page::ObjectKey& key,
                                  const tree::Creator& creator) override;
  absl::Status remove(std::string_view path) override;
  absl::StatusOr<tree::Node> pin(std::string_view path) override;
  absl::StatusOr<tree::Node> unpin(std::string_view path) override;
  absl::StatusOr<tree::Evicted> evict(std::string_view path, tree::EvictFrom from) override;
  void add_listener(tree::NamespaceListener* listener) override;
  void remove_listener(tree::NamespaceListener* listener) override;
  tree::Volumes& volumes() override { return volumes_; }
  absl::Status scrub(std::string_view path, tree::ScrubWatcher& watcher) override;
  absl::Status collect_garbage(const tree::GarbageOptions& options,
                               tree::GarbageWatcher& watcher) override;
  absl::StatusOr<Counts> counts() override;
  absl::StatusOr<Space> space() override;
  tree::NameEditor& editor() override;
  tree::Files& files() override;

 private:
  friend class FakeEditor;
  friend class FakeFile;
  friend class FakeFiles;

  using EntryRef = std::shared_ptr<FakeEntry>;
  struct Place {
    tree::NodeId parent = 0;
    std::string name;
  };

  [[nodiscard]] Place place(std::string_view path);
  [[nodiscard]] page::ObjectSpec store_bytes(std::string_view bytes);
  tree::NodeId insert(std::string_view path, FakeEntry entry);
  void set_pinned(std::string_view path, bool pinned);
  [[nodiscard]] EntryRef find(tree::NodeId id) ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] EntryRef child(tree::NodeId parent, std::string_view name)
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  [[nodiscard]] static tree::Node node_of(const FakeEntry& entry);
  /// Takes a name off what it means, which is gone with its last.
  void drop(tree::NodeId id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void tell(const Place& place);
  void tell_content(tree::NodeId file, uint64_t offset, uint64_t length);

  page::PageStore& store_;
  tree::NoVolumes volumes_;
  LaterThread later_;
  std::unique_ptr<FakeEditor> editor_;
  std::unique_ptr<FakeFiles> files_;
  absl::Mutex mutex_;
  std::map<tree::NodeId, EntryRef> entries_ ABSL_GUARDED_BY(mutex_);
  tree::NodeId next_id_ ABSL_GUARDED_BY(mutex_) = tree::kRootNode + 1;
  Space space_ ABSL_GUARDED_BY(mutex_);
  std::vector<tree::NamespaceListener*> listeners_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::fusefs
