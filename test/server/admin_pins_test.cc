// Admin.Pin, Unpin and Evict: what goes in and comes out.

#include <doctest/doctest.h>

#include "test/server/admin_fixture.h"

namespace blobcache::server {
namespace {

TEST_CASE("admin: what is pinned, unpinned and listed tells how it is held") {
  AdminFixture fixture;
  fixture.names.file_count = 1;
  v1::PinRequest pin;
  v1::PinResponse pinned;
  pin.set_path("files/1");
  {
    grpc::ClientContext context;
    REQUIRE(fixture.stub->Pin(&context, pin, &pinned).ok());
  }
  CHECK(pinned.node().pinned());
  CHECK(pinned.node().retention() == v1::Node::KEPT);
  CHECK(pinned.node().expires_ns() == 0);
  v1::UnpinRequest unpin;
  v1::UnpinResponse unpinned;
  unpin.set_path("files/1");
  {
    grpc::ClientContext context;
    REQUIRE(fixture.stub->Unpin(&context, unpin, &unpinned).ok());
  }
  CHECK_FALSE(unpinned.node().pinned());
  CHECK(unpinned.node().expires_ns() == 77);
  v1::ListRequest list;
  v1::ListResponse root;
  {
    grpc::ClientContext context;
    REQUIRE(fixture.stub->List(&context, list, &root).ok());
  }
  CHECK(root.entries(0).node().retention() == v1::Node::RETENTION_UNSPECIFIED);
  pin.set_path("files/no");
  grpc::ClientContext context;
  CHECK(fixture.stub->Pin(&context, pin, &pinned).error_code() == grpc::StatusCode::NOT_FOUND);
  unpin.set_path("files/no");
  grpc::ClientContext another;
  CHECK(fixture.stub->Unpin(&another, unpin, &unpinned).error_code() ==
        grpc::StatusCode::NOT_FOUND);
}

TEST_CASE("admin: an eviction is of the tier that is named, of all when none is") {
  AdminFixture fixture;
  fixture.names.evicted = {.memory_pages = 7, .disk_bytes = 8, .removed = true, .stays = "why"};
  v1::EvictRequest request;
  v1::EvictResponse response;
  request.set_path("files/1");
  const auto evict = [&] {
    grpc::ClientContext context;
    return fixture.stub->Evict(&context, request, &response);
  };
  REQUIRE(evict().ok());
  CHECK(fixture.names.evicted_from == tree::EvictFrom::kAll);
  CHECK(response.memory_pages() == 7);
  CHECK(response.disk_bytes() == 8);
  CHECK(response.removed());
  CHECK(response.stays() == "why");
  request.set_tier(v1::EvictRequest::MEMORY);
  REQUIRE(evict().ok());
  CHECK(fixture.names.evicted_from == tree::EvictFrom::kMemory);
  request.set_tier(v1::EvictRequest::DISK);
  REQUIRE(evict().ok());
  CHECK(fixture.names.evicted_from == tree::EvictFrom::kDisk);
  request.set_tier(static_cast<v1::EvictRequest::Tier>(9));
  fixture.names.evicted_from.reset();
  CHECK(evict().error_code() == grpc::StatusCode::INVALID_ARGUMENT);
  CHECK_FALSE(fixture.names.evicted_from.has_value());
  request.clear_tier();
  request.set_path("files/no");
  CHECK(evict().error_code() == grpc::StatusCode::NOT_FOUND);
}

}  // namespace
}  // namespace blobcache::server
