// Who hears of changed names, and when.

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "store/tree/impl/listener_list.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

struct Recorder final : NamespaceListener {
  void on_name_changed(NodeId parent, std::string_view name) override {
    changes.emplace_back(parent, name);
  }
  std::vector<std::pair<NodeId, std::string>> changes;
};

using Changes = std::vector<std::pair<NodeId, std::string>>;

TEST_CASE("listener: hears of every name that a change touched, and of nothing that failed") {
  TreeFixture tree;
  Namespace& names = tree.names();
  const NodeId files = names.resolve("files").value().id;
  const NodeId blobs = names.resolve("blobs").value().id;
  Recorder recorder;
  names.add_listener(&recorder);

  const CommittedBlob blob = tree.put("content", "files/a/b");
  const NodeId a = names.resolve("files/a").value().id;
  CHECK(recorder.changes == Changes{{blobs, blob.key.hex()}, {files, "a"}, {a, "b"}});

  recorder.changes.clear();
  REQUIRE(names.bind("files/a/b", blob.key, {}).ok());
  CHECK(recorder.changes == Changes{{a, "b"}});

  recorder.changes.clear();
  CHECK_FALSE(names.bind("files/new/x", digest_of("other"), {}).ok());
  CHECK_FALSE(names.remove("files/a").ok());
  CHECK_FALSE(names.remove(blob_path(blob.key)).ok());
  CHECK(recorder.changes.empty());

  REQUIRE(names.remove("files/a/b").ok());
  REQUIRE(names.remove("files/a").ok());
  REQUIRE(names.remove(blob_path(blob.key)).ok());
  CHECK(recorder.changes == Changes{{a, "b"}, {files, "a"}, {blobs, blob.key.hex()}});

  names.remove_listener(&recorder);
  recorder.changes.clear();
  tree.put("content", "files/c");
  CHECK(recorder.changes.empty());
}

TEST_CASE("listener: may use the namespace, and sees the change") {
  struct Looker final : NamespaceListener {
    explicit Looker(Namespace& tree) : names(tree) {}
    void on_name_changed(NodeId parent, std::string_view name) override {
      if (names.lookup(parent, name).ok()) ++found;
    }
    Namespace& names;
    int found = 0;
  };
  TreeFixture tree;
  Looker looker(tree.names());
  tree.names().add_listener(&looker);
  tree.put("content", "files/a");
  CHECK(looker.found == 2);
  tree.names().remove_listener(&looker);
}

TEST_CASE("listener: removing one waits for a call that is under way") {
  struct Slow final : NamespaceListener {
    void on_name_changed(NodeId, std::string_view) override {
      entered.Notify();
      leave.WaitForNotification();
      left = true;
    }
    absl::Notification entered;
    absl::Notification leave;
    std::atomic<bool> left = false;
  };
  ListenerList list;
  Slow slow;
  list.add(&slow);
  std::thread notifier([&] { list.notify({{kRootNode, "a"}}); });
  slow.entered.WaitForNotification();
  std::atomic<bool> left_before_removal = false;
  std::thread remover([&] {
    list.remove(&slow);
    left_before_removal = slow.left.load();
  });
  slow.leave.Notify();
  remover.join();
  notifier.join();
  CHECK(left_before_removal);
  list.notify({{kRootNode, "b"}});  // a second call would notify twice and abort
  list.remove(&slow);               // no longer there: nothing happens
}

}  // namespace
}  // namespace blobcache::tree
