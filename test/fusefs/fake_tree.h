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

/// A tree in memory whose files are real objects of a real page store, with a TestSource behind
/// each. It knows how to look, to remove and to bind; puts, pins
/// and upkeep are UNIMPLEMENTED. Thread-safe.
class FakeTree final : public tree::Namespace {
 public:
  /// `store` must outlive it. Has the directories blobs and files.
  explicit FakeTree(page::PageStore& store);

  tree::NodeId add_directory(std::string_view path);
  /// Adds a file of `size` bytes of pattern(seed), or binds the name anew.
  tree::NodeId add_file(std::string_view path, uint64_t size, uint64_t seed);
  /// The same with the bytes on the store's disk and no source.
  tree::NodeId add_stored_file(std::string_view path, uint64_t size, uint64_t seed);
  [[nodiscard]] TestSource& source(tree::NodeId file);

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

 private:
  struct Entry {
    tree::Node node;
    std::map<std::string, tree::NodeId, std::less<>> children;
    page::ObjectSpec spec;
    std::shared_ptr<TestSource> source;
  };
  struct Place {
    tree::NodeId parent = 0;
    std::string name;
  };

  [[nodiscard]] Place place(std::string_view path);
  tree::NodeId insert(std::string_view path, Entry entry);
  [[nodiscard]] absl::StatusOr<tree::Node> child(tree::NodeId parent, std::string_view name)
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  void tell(const Place& place);

  page::PageStore& store_;
  tree::NoVolumes volumes_;
  absl::Mutex mutex_;
  std::map<tree::NodeId, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  tree::NodeId next_id_ ABSL_GUARDED_BY(mutex_) = tree::kRootNode + 1;
  std::vector<tree::NamespaceListener*> listeners_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace blobcache::fusefs
