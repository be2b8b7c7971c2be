#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "store/tree/evict.h"
#include "store/tree/namespace.h"
#include "store/tree/volumes.h"
#include "store/volume/image.h"
#include "test/store/tree/fake_origin.h"
#include "test/store/tree/tree_fixture.h"

namespace blobcache::tree {
namespace {

using Names = std::vector<std::string>;

/// A tree with the origins "a" and "b".
struct OriginsFixture : TreeFixture {
  OriginsFixture() {
    origins = {b, a};
    reopen();
  }
  ~OriginsFixture() { close(); }

  std::shared_ptr<FakeOrigin> a = std::make_shared<FakeOrigin>("a");
  std::shared_ptr<FakeOrigin> b = std::make_shared<FakeOrigin>("b");

  NodeId id_of(std::string_view path) { return names().resolve(path).value().id; }
};

std::string read_image(volume::Image& image) {
  std::string bytes(image.size_bytes(), '\0');
  void* const data = bytes.data();
  absl::Status status = absl::UnknownError("no answer");
  image.read(0, {static_cast<std::byte*>(data), bytes.size()},
             [&](absl::Status done) { status = std::move(done); });
  CHECK(status.ok());
  return bytes;
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: they are listed without being asked") {
  a->set_error(absl::UnavailableError("away"));
  CHECK(list("origins") == Names{"a", "b"});
  CHECK(names().resolve("origins/a")->type == NodeType::kDirectory);
  CHECK(names().resolve("origins/a")->mode == 0555);
  CHECK(absl::IsNotFound(names().resolve("origins/c").status()));
  CHECK(absl::IsNotFound(names().resolve("origins/c/d").status()));
  const NodeId top = id_of("origins/a");
  CHECK(names().lookup(id_of("origins"), "a")->id == top);
  CHECK(names().stat(top)->id == top);
  CHECK(a->look_ups == 0);
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: what an origin has is listed, looked up and read") {
  a->put("x/1", "one");
  a->put("x/2", content_of(300'000, 2));
  a->put("y", "why");
  CHECK(list("origins/a") == Names{"x", "y"});
  CHECK(list("origins/a/x", 1) == Names{"1", "2"});
  CHECK(list("origins/b").empty());
  CHECK(read("origins/a/x/1") == "one");
  CHECK(read("/origins/a/x/2") == content_of(300'000, 2));
  const Node node = names().resolve("origins/a/y").value();
  CHECK(node.type == NodeType::kFile);
  CHECK(node.mode == 0444);
  CHECK(node.uid == ::geteuid());
  CHECK(node.size_bytes == 3);
  CHECK(node.retention == page::Retention::kCached);
  CHECK(!node.digest.has_value());
  CHECK(node.steady);
  CHECK(node.modified == absl::FromUnixSeconds(1'600'000'000));
  CHECK(names().lookup(id_of("origins/a"), "y")->id == node.id);
  CHECK(names().lookup(id_of("origins/a/x"), "1")->id == id_of("origins/a/x/1"));
  CHECK(names().list(id_of("origins/a"), 0, 10)->back().node.id == node.id);
  CHECK(absl::IsNotFound(names().resolve("origins/a/z").status()));
  CHECK(absl::IsNotFound(names().lookup(id_of("origins/a"), "z").status()));
  CHECK(absl::IsFailedPrecondition(names().lookup(node.id, "z").status()));
  CHECK(absl::IsFailedPrecondition(names().list(node.id, 0, 1).status()));
  CHECK(absl::IsFailedPrecondition(names().open(id_of("origins/a/x")).status()));
  CHECK(absl::IsFailedPrecondition(names().open_image(node.id).status()));
  CHECK(absl::IsInvalidArgument(names().resolve("origins/a//y").status()));
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: where bytes come from is told in three words") {
  const auto odd = std::make_shared<FakeOrigin>("of two\n%");
  origins.push_back(odd);
  reopen();
  a->put("x/1", "one");
  odd->put_image("disk", "image");
  const int look_ups = a->look_ups;
  const NodeId file = id_of("origins/a/x/1");
  CHECK(names().origin_of(file).value() == "a fake fake://a/x/1");
  CHECK(names()
            .origin_of(id_of("origins/of two\n%/disk"))
            .value()
            .starts_with("of%20two%0A%25 fake fake://"));
  CHECK(names().origin_of(id_of("origins/a/x")).value().empty());
  CHECK(names().origin_of(id_of("origins/a")).value().empty());
  CHECK(names().origin_of(id_of("origins")).value().empty());
  put("named", "files/x");
  CHECK(names().origin_of(id_of("files/x")).value().empty());
  // It is known without asking.
  a->set_error(absl::UnavailableError("away"));
  clock().advance(absl::Hours(1));
  CHECK(names().origin_of(file).value() == "a fake fake://a/x/1");
  CHECK(a->look_ups == look_ups + 2);
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: a second read brings nothing, a lasting one never") {
  const std::string content = content_of(500'000, 3);
  a->put("x", content);
  CHECK(read("origins/a/x") == content);
  CHECK(a->fetched_bytes == content.size());
  CHECK(read("origins/a/x") == content);
  store().wait_cached();
  CHECK(a->sessions == 0);
  reopen();
  CHECK(read("origins/a/x") == content);
  CHECK(a->fetched_bytes == content.size());
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: without a strong validator nothing outlives the open") {
  const std::string content = content_of(500'000, 3);
  a->put("x", content, /*lasting=*/false);
  const NodeId node = id_of("origins/a/x");
  CHECK(!names().stat(node)->steady);
  {
    const page::ObjectRef first = names().open(node).value();
    CHECK(read_object(*first).value() == content);
    // Who has it open at once shares it.
    const page::ObjectRef second = names().open(node).value();
    CHECK(second->key() == first->key());
    CHECK(read_object(*second).value() == content);
    CHECK(a->fetched_bytes == content.size());
    CHECK(a->sessions == 1);
    store().wait_cached();
    CHECK(store().stats().disk_filled_bytes > 0);
  }
  close_names();  // waits until all is forgotten
  CHECK(a->sessions == 0);
  CHECK(store().stats().disk_filled_bytes == 0);
  open_names();
  CHECK(read("origins/a/x") == content);
  CHECK(a->fetched_bytes == 2 * content.size());
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: another version is another node") {
  a->put("x", "old");
  const NodeId old = id_of("origins/a/x");
  const page::ObjectRef open = names().open(old).value();
  a->put("x", "new");
  const NodeId now = id_of("origins/a/x");
  CHECK(now != old);
  CHECK(absl::IsNotFound(names().open(old).status()));
  clock().advance(absl::Seconds(2));
  CHECK(absl::IsNotFound(names().stat(old).status()));
  CHECK(names().stat(now)->id == now);
  CHECK(read_object(*open).value() == "old");
  CHECK(read("origins/a/x") == "new");
  // So is another kind of thing, or size.
  a->put_image("x", "img");
  CHECK(absl::IsNotFound(names().open(now).status()));
  a->put("w", "12", false);
  const NodeId weak = id_of("origins/a/w");
  a->put("w", "123", false);
  CHECK(absl::IsNotFound(names().open(weak).status()));
  a->remove("w");
  CHECK(absl::IsNotFound(names().open(weak).status()));
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: attributes are asked for again after a second") {
  a->put("x", "one");
  const NodeId node = id_of("origins/a/x");
  CHECK(a->look_ups == 1);
  CHECK(names().stat(node)->size_bytes == 3);
  CHECK(a->look_ups == 1);
  clock().advance(absl::Seconds(1));
  CHECK(names().stat(node)->size_bytes == 3);
  CHECK(a->look_ups == 2);
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: an image is open once, whoever opens it") {
  a->put_image("disk", "0123456789");
  const Node node = names().resolve("origins/a/disk").value();
  CHECK(node.type == NodeType::kImage);
  CHECK(node.mode == 0600);
  CHECK(node.size_bytes == 10);
  CHECK(absl::IsFailedPrecondition(names().open(node.id).status()));
  std::shared_ptr<volume::Image> first = names().open_image(node.id).value();
  const std::shared_ptr<volume::Image> second = names().open_image(node.id).value();
  CHECK(first == second);
  CHECK(a->images == 1);
  first->write(2, bytes_of("ab"), false, [](const absl::Status& status) { CHECK(status.ok()); });
  CHECK(read_image(*second) == "01ab456789");
  CHECK(a->content("disk") == "01ab456789");
  // The same node, though its bytes are others.
  CHECK(id_of("origins/a/disk") == node.id);
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: an image that nobody has open is let go") {
  a->put_image("disk", "0123456789");
  const NodeId node = id_of("origins/a/disk");
  CHECK(names().open_image(node).ok());
  CHECK(a->images == 0);
  CHECK(names().open_image(node).ok());
  close_names();
  CHECK(a->images == 0);
  CHECK(a->sessions == 0);
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: volumes are images at the same call") {
  const VolumeInfo volume = names().volumes().create("v", 8192, "", Creator{}).value();
  const std::shared_ptr<volume::Image> image = names().open_image(volume.node).value();
  CHECK(image->size_bytes() == 8192);
  put("content", "files/x");
  CHECK(absl::IsFailedPrecondition(names().open_image(id_of("files/x")).status()));
  CHECK(absl::IsFailedPrecondition(names().open_image(id_of("files")).status()));
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: one that is away says so, and is back when it is") {
  a->put("x", "one");
  const NodeId node = id_of("origins/a/x");
  a->set_error(absl::UnavailableError("no route"));
  const absl::Status away = names().resolve("origins/a/x").status();
  CHECK(absl::IsUnavailable(away));
  CHECK(says(away, "origins/a/x"));
  CHECK(says(away, "no route"));
  CHECK(absl::IsUnavailable(names().list(id_of("origins/a"), 0, 5).status()));
  CHECK(absl::IsUnavailable(names().open(node).status()));
  CHECK(absl::IsUnavailable(names().lookup(id_of("origins/a"), "x").status()));
  CHECK(list("origins/b").empty());
  a->set_error(absl::OkStatus());
  CHECK(read("origins/a/x") == "one");
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: a fetch that fails is its reader's error") {
  a->put("x", "one");
  const page::ObjectRef object = names().open(id_of("origins/a/x")).value();
  a->set_error(absl::UnavailableError("no route"));
  CHECK(absl::IsUnavailable(read_object(*object).status()));
  a->set_error(absl::OkStatus());
  CHECK(read_object(*object).value() == "one");
}

TEST_CASE_FIXTURE(OriginsFixture,
                  "origins: nothing can be bound, removed, pinned or scrubbed there") {
  a->put("x", "one");
  const page::ObjectKey key = put("content", "files/x").key;
  CHECK(absl::IsPermissionDenied(names().bind("origins/a/y", key, Creator{}).status()));
  CHECK(absl::IsPermissionDenied(names().put("origins/a/y", Creator{}, 0).status()));
  const absl::Status removed = names().remove("origins/a/x");
  CHECK(absl::IsFailedPrecondition(removed));
  CHECK(says(removed, "not ours to remove"));
  CHECK(absl::IsFailedPrecondition(names().remove("origins/a")));
  CHECK(absl::IsNotFound(names().remove("origins/c/x")));
  const absl::Status pinned = names().pin("origins/a/x").status();
  CHECK(absl::IsFailedPrecondition(pinned));
  CHECK(says(pinned, "put it under files/"));
  CHECK(absl::IsFailedPrecondition(names().unpin("origins/a/x").status()));
  CHECK(absl::IsNotFound(names().pin("origins/c/x").status()));
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: evicting drops what is cached, from a tier or both") {
  const std::string content = content_of(500'000, 3);
  a->put("x", content);
  a->put("d/y", "why");
  a->put_image("disk", "0123");
  const page::ObjectRef open = names().open(id_of("origins/a/x")).value();
  CHECK(read("origins/a/x") == content);
  store().wait_cached();
  const Evicted memory = names().evict("origins/a/x", EvictFrom::kMemory).value();
  CHECK(memory.memory_pages == 123);
  CHECK(!memory.removed);
  CHECK(read("origins/a/x") == content);
  CHECK(a->fetched_bytes == content.size());
  const Evicted both = names().evict("origins/a/x", EvictFrom::kAll).value();
  CHECK(both.memory_pages == 123);
  CHECK(both.removed);
  CHECK(both.disk_bytes == 123 * 4096);
  CHECK(read("origins/a/x") == content);
  CHECK(a->fetched_bytes == 2 * content.size());
  CHECK(absl::IsFailedPrecondition(names().evict("origins/a/d", EvictFrom::kAll).status()));
  CHECK(absl::IsFailedPrecondition(names().evict("origins/a/disk", EvictFrom::kAll).status()));
  CHECK(absl::IsNotFound(names().evict("origins/a/z", EvictFrom::kAll).status()));
  CHECK(absl::IsNotFound(names().evict("origins/c/z", EvictFrom::kAll).status()));
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: a walk goes on while names come and go") {
  for (const char* name : {"b", "d", "f"}) a->put(name, name);
  const NodeId top = id_of("origins/a");
  const std::vector<NamedNode> first = names().list(top, 0, 2).value();
  REQUIRE(first.size() == 2);
  a->remove("d");
  a->put("a", "a");
  a->put("e", "e");
  CHECK(list("origins/a") == Names{"a", "b", "e", "f"});
  const std::vector<NamedNode> rest = names().list(top, first.back().cookie, 9).value();
  // "e" may be seen, or not; what was there all the time is.
  REQUIRE(!rest.empty());
  CHECK(rest.back().name == "f");
  CHECK(rest.size() <= 2);
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: a directory that is too large is not listed") {
  for (size_t i = 0; i <= kMaxOriginEntries; ++i) b->put(std::to_string(i), "");
  const absl::Status status = names().list(id_of("origins/b"), 0, 10).status();
  CHECK(absl::IsResourceExhausted(status));
  CHECK(says(status, "65536"));
  CHECK(names().resolve("origins/b/777").ok());
}

TEST_CASE_FIXTURE(OriginsFixture, "origins: an object may outlive the names") {
  a->put("x", "one", /*lasting=*/false);
  a->put("y", "two");
  page::ObjectRef weak = names().open(id_of("origins/a/x")).value();
  page::ObjectRef strong = names().open(id_of("origins/a/y")).value();
  close_names();
  CHECK(read_object(*weak).value() == "one");
  weak = nullptr;
  strong = nullptr;
  CHECK(a->sessions == 0);
}

}  // namespace
}  // namespace blobcache::tree
