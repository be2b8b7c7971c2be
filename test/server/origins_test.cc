#include "server/origins.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"
#include "server/config.h"
#include "server/loop_guard.h"
#include "test/store/tree/fake_origin.h"
#include "test/temporary_directory.h"

namespace blobcache::server {
namespace {

TEST_CASE("origins: each is made, in the order of the configuration") {
  std::vector<Config::Origin> configs(2);
  configs[0].name = "b";
  configs[1].name = "a";
  const auto factory = [](const Config::Origin& config,
                          const std::shared_ptr<net::DirGuard>& /*guard*/)
      -> absl::StatusOr<std::shared_ptr<tree::Origin>> {
    return std::make_shared<tree::FakeOrigin>(config.name);
  };
  const absl::StatusOr<Origins> origins = make_origins(configs, factory, nullptr);
  REQUIRE(origins.ok());
  REQUIRE(origins->size() == 2);
  CHECK((*origins)[0]->name() == "b");
  CHECK((*origins)[1]->name() == "a");
}

TEST_CASE("origins: an error names the one that cannot be made") {
  std::vector<Config::Origin> configs(1);
  configs[0].name = "hub";
  configs[0].type = "tape";
  const auto factory = [](const Config::Origin& /*config*/,
                          const std::shared_ptr<net::DirGuard>& /*guard*/)
      -> absl::StatusOr<std::shared_ptr<tree::Origin>> {
    return absl::InvalidArgumentError("no such place");
  };
  const absl::Status failed = make_origins(configs, factory, nullptr).status();
  CHECK(absl::IsInvalidArgument(failed));
  CHECK(failed.message() == "origin hub: no such place");
  CHECK(absl::IsUnimplemented(make_origins(configs, make_origin, nullptr).status()));
}

TEST_CASE("origins: an NBD server is made as it was configured, without being there") {
  std::vector<Config::Origin> configs(1);
  configs[0].name = "hub";
  configs[0].type = "nbd";
  configs[0].url = "nbd+unix:///?socket=/nowhere/nbd.sock";
  const absl::StatusOr<Origins> origins = make_origins(configs, make_origin, nullptr);
  REQUIRE_MESSAGE(origins.ok(), origins.status().ToString());
  CHECK(origins->front()->name() == "hub");
  CHECK(origins->front()->description().find("/nowhere/nbd.sock") != std::string::npos);
  configs[0].url = "nbd://user:secret@host/";
  const absl::Status refused = make_origins(configs, make_origin, nullptr).status();
  CHECK(absl::IsInvalidArgument(refused));
  CHECK(refused.message().find("secret") == std::string_view::npos);
}

TEST_CASE("origins: a directory is made as it was configured, without being there") {
  std::vector<Config::Origin> configs(1);
  configs[0].name = "share";
  configs[0].type = "dir";
  configs[0].path = "/nowhere/at/all";
  const absl::StatusOr<Origins> origins = make_origins(configs, make_origin, nullptr);
  REQUIRE_MESSAGE(origins.ok(), origins.status().ToString());
  CHECK(origins->front()->description() == "dir /nowhere/at/all");
  CHECK(absl::IsUnavailable(origins->front()->look_up("x").status()));
}

TEST_CASE("origins: what is our own is no origin, by whatever path") {
  const test::TemporaryDirectory folder;
  const std::filesystem::path store = folder.path() / "a/store";
  std::filesystem::create_directories(store / "objects");
  std::filesystem::create_directories(folder.path() / "a/beside");
  std::filesystem::create_symlink(store, folder.path() / "link");
  LoopGuard guard(store);
  const auto check = [&](const std::filesystem::path& path) {
    const base::UniqueFd directory(::open(path.c_str(), O_PATH | O_DIRECTORY));
    REQUIRE(directory.valid());
    return guard.check_directory(directory.get());
  };
  CHECK(absl::IsFailedPrecondition(check(store)));
  CHECK(absl::IsFailedPrecondition(check(store / "objects")));
  CHECK(absl::IsFailedPrecondition(check(folder.path() / "link")));
  CHECK(absl::IsFailedPrecondition(check(folder.path() / "a")));
  CHECK(absl::IsFailedPrecondition(check("/")));
  CHECK(check(folder.path() / "a/beside").ok());
  CHECK(guard.check_path("/mnt/x").ok());
  struct stat info{};
  REQUIRE(::stat((folder.path() / "a/beside").c_str(), &info) == 0);
  guard.set_mounts([&] { return LoopGuard::Mounts{{"/mnt/x"}, {info.st_dev}}; });
  CHECK(absl::IsFailedPrecondition(guard.check_path("/mnt/x")));
  CHECK(absl::IsFailedPrecondition(guard.check_path("/mnt/y/../x/origins/b")));
  CHECK(guard.check_path("/mnt/xy").ok());
  CHECK(absl::IsFailedPrecondition(check(folder.path() / "a/beside")));
  guard.set_mounts(nullptr);
  CHECK(check(folder.path() / "a/beside").ok());
}

}  // namespace
}  // namespace blobcache::server
