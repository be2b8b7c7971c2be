#include "store/tree/impl/origin_nodes.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "absl/time/time.h"
#include "base/parcel.h"
#include "store/page/object_key.h"
#include "store/tree/impl/node_ids.h"
#include "test/store/tree/fake_origin.h"

namespace blobcache::tree {
namespace {

OriginNode file(const std::shared_ptr<Origin>& origin, std::string path, uint64_t size = 1) {
  OriginNode node;
  node.origin = origin;
  node.path = std::move(path);
  node.entry.size_bytes = size;
  return node;
}

TEST_CASE("origin nodes: a version of a path is a node, and another one another") {
  const auto origin = std::make_shared<FakeOrigin>("a");
  const auto other = std::make_shared<FakeOrigin>("b");
  OriginNodes nodes;
  const NodeId id = nodes.note(file(origin, "x", 1));
  CHECK(is_origin_node(id));
  CHECK(id < uint64_t{1} << 63);
  CHECK(!blob_of_node(id).has_value());
  CHECK(file_of_node(id) == 0);
  CHECK(nodes.note(file(origin, "x", 1)) == id);
  CHECK(nodes.note(file(origin, "x", 2)) != id);
  CHECK(nodes.note(file(origin, "y", 1)) != id);
  CHECK(nodes.note(file(other, "x", 1)) != id);
  OriginNode touched = file(origin, "x", 1);
  touched.entry.modified = absl::FromUnixSeconds(5);
  CHECK(nodes.note(touched) != id);
  OriginNode strong = file(origin, "x", 1);
  strong.entry.version = page::ObjectKey();
  CHECK(nodes.note(strong) != id);
  REQUIRE(nodes.find(id).has_value());
  CHECK(nodes.find(id)->path == "x");
  // In another process what has a strong validator is the same, and the rest is not.
  OriginNodes next;
  CHECK(next.note(strong) == nodes.note(strong));
  CHECK(next.note(file(origin, "x", 1)) != id);
  CHECK(!nodes.find(id + 1).has_value());
}

TEST_CASE("origin nodes: an image and a directory are the same whatever is in them") {
  const auto origin = std::make_shared<FakeOrigin>("a");
  OriginNodes nodes;
  for (const auto kind : {OriginEntry::Kind::kImage, OriginEntry::Kind::kDirectory}) {
    OriginNode before = file(origin, "x", 1);
    before.entry.kind = kind;
    OriginNode after = file(origin, "x", 2);
    after.entry.kind = kind;
    const NodeId id = nodes.note(before);
    CHECK(nodes.note(after) == id);
    CHECK(nodes.find(id)->entry.size_bytes == 2);
  }
  CHECK(nodes.size() == 2);
}

TEST_CASE("origin nodes: the ones not asked for the longest go, and come back as they were") {
  const auto origin = std::make_shared<FakeOrigin>("a");
  OriginNodes nodes(3 * (OriginNodes::kNodeBytes + 1));
  const NodeId first = nodes.note(file(origin, "1"));
  const NodeId second = nodes.note(file(origin, "2"));
  static_cast<void>(nodes.note(file(origin, "3")));
  CHECK(nodes.find(first).has_value());  // is asked for
  static_cast<void>(nodes.note(file(origin, "4")));
  CHECK(nodes.size() == 3);
  CHECK(nodes.find(first).has_value());
  CHECK(!nodes.find(second).has_value());
  CHECK(nodes.note(file(origin, "2")) == second);
}

TEST_CASE("origin nodes: who takes over has the same numbers, also for what is noted anew") {
  const std::shared_ptr<Origin> origin = std::make_shared<FakeOrigin>("a");
  const auto gone = std::make_shared<FakeOrigin>("gone");
  OriginNodes nodes;
  OriginNode strong = file(origin, "strong", 5);
  strong.entry.version = page::ObjectKey{{1, 2, 3}};
  strong.entry.modified = absl::FromUnixSeconds(5);
  const NodeId strong_id = nodes.note(strong);
  const NodeId weak_id = nodes.note(file(origin, "weak", 1));
  OriginNode link = file(origin, "link", 0);
  link.entry.kind = OriginEntry::Kind::kSymlink;
  link.entry.target = "where it leads";
  const NodeId link_id = nodes.note(link);
  const NodeId lost_id = nodes.note(file(gone, "x", 1));
  base::ParcelWriter writer;
  nodes.hand_over(writer);
  const base::Parcel parcel = std::move(writer).take();

  OriginNodes next;
  base::ParcelReader reader(parcel);
  next.take_over(reader, [&origin](std::string_view name) {
    return name == "a" ? origin : std::shared_ptr<Origin>();
  });
  CHECK(reader.end().ok());
  CHECK(next.size() == 3);
  REQUIRE(next.find(link_id).has_value());
  CHECK(next.find(link_id)->entry.target == "where it leads");
  CHECK(next.note(link) == link_id);
  REQUIRE(next.find(strong_id).has_value());
  CHECK(next.find(strong_id)->path == "strong");
  CHECK(same_node(next.find(strong_id)->entry, strong.entry));
  CHECK(next.note(file(origin, "weak", 1)) == weak_id);
  CHECK_FALSE(next.find(lost_id).has_value());
  // A file without a validator that is seen for the first time has the number that it would have
  // had there.
  CHECK(next.note(file(origin, "later", 1)) == nodes.note(file(origin, "later", 1)));

  for (size_t size = 0; size < parcel.bytes.size(); ++size) {
    const base::Parcel cut{parcel.bytes.substr(0, size), {}};
    OriginNodes none;
    base::ParcelReader short_reader(cut);
    none.take_over(short_reader, [&origin](std::string_view /*name*/) { return origin; });
    CHECK(absl::IsDataLoss(short_reader.end()));
  }
}

}  // namespace
}  // namespace blobcache::tree
