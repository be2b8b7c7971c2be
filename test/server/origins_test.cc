#include "server/origins.h"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/config.h"
#include "test/store/tree/fake_origin.h"

namespace blobcache::server {
namespace {

TEST_CASE("origins: each is made, in the order of the configuration") {
  std::vector<Config::Origin> configs(2);
  configs[0].name = "b";
  configs[1].name = "a";
  const auto factory =
      [](const Config::Origin& config) -> absl::StatusOr<std::shared_ptr<tree::Origin>> {
    return std::make_shared<tree::FakeOrigin>(config.name);
  };
  const absl::StatusOr<Origins> origins = make_origins(configs, factory);
  REQUIRE(origins.ok());
  REQUIRE(origins->size() == 2);
  CHECK((*origins)[0]->name() == "b");
  CHECK((*origins)[1]->name() == "a");
}

TEST_CASE("origins: an error names the one that cannot be made") {
  std::vector<Config::Origin> configs(1);
  configs[0].name = "hub";
  configs[0].type = "tape";
  const auto factory =
      [](const Config::Origin& /*config*/) -> absl::StatusOr<std::shared_ptr<tree::Origin>> {
    return absl::InvalidArgumentError("no such place");
  };
  const absl::Status failed = make_origins(configs, factory).status();
  CHECK(absl::IsInvalidArgument(failed));
  CHECK(failed.message() == "origin hub: no such place");
  CHECK(absl::IsUnimplemented(make_origins(configs, make_origin).status()));
}

TEST_CASE("origins: an NBD server is made as it was configured, without being there") {
  std::vector<Config::Origin> configs(1);
  configs[0].name = "hub";
  configs[0].type = "nbd";
  configs[0].url = "nbd+unix:///?socket=/nowhere/nbd.sock";
  const absl::StatusOr<Origins> origins = make_origins(configs, make_origin);
  REQUIRE_MESSAGE(origins.ok(), origins.status().ToString());
  CHECK(origins->front()->name() == "hub");
  CHECK(origins->front()->description().find("/nowhere/nbd.sock") != std::string::npos);
  configs[0].url = "nbd://user:secret@host/";
  const absl::Status refused = make_origins(configs, make_origin).status();
  CHECK(absl::IsInvalidArgument(refused));
  CHECK(refused.message().find("secret") == std::string_view::npos);
}

}  // namespace
}  // namespace blobcache::server
