#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>

#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/mount_call.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;

struct MountArguments {
  std::string mountpoint;
  std::string subtree;
  bool read_only = false;
  bool writeback_cache = false;
};

/// The daemon has another working directory than we have. INVALID_ARGUMENT for what can never be
/// right.
absl::StatusOr<std::string> mountpoint_of(const std::string& argument) {
  std::error_code error;
  const std::filesystem::path here = std::filesystem::current_path(error);
  if (error && !argument.starts_with('/')) {
    return base::errno_error(error.value(), "the working directory");
  }
  return absolute_path(argument, here);
}

/// How a command ended whose arguments could not be understood.
Outcome not_understood(std::string_view what, const absl::Status& why) {
  if (absl::IsInvalidArgument(why)) return Outcome::usage(what, base::message(why));
  return Outcome::failed(what, why);
}

Outcome mount_tree(const MountArguments& arguments, Session& session) {
  const std::string what = fmt::format("mount {}", escape(arguments.mountpoint));
  const absl::StatusOr<std::string> mountpoint = mountpoint_of(arguments.mountpoint);
  if (!mountpoint.ok()) return not_understood(what, mountpoint.status());
  v1::MountRequest request;
  request.set_mountpoint(*mountpoint);
  request.set_read_only(arguments.read_only);
  request.set_writeback_cache(arguments.writeback_cache);
  if (!arguments.subtree.empty()) {
    const absl::StatusOr<std::string> subtree = parse_path(arguments.subtree);
    if (!subtree.ok()) return not_understood(what, base::annotate(subtree.status(), "--subtree"));
    request.set_subtree(*subtree);
  }
  const absl::Status mounted = ask_to_mount(request, session);
  if (!mounted.ok()) return Outcome::failed(what, mounted);
  if (!session.options().json) return Outcome::done();
  return print_json(Json{{"mountpoint", *mountpoint},
                         {"subtree", request.subtree()},
                         {"read_only", request.read_only()},
                         {"writeback_cache", request.writeback_cache()}});
}

Outcome unmount_tree(const std::string& argument, Session& session) {
  const std::string what = fmt::format("umount {}", escape(argument));
  const absl::StatusOr<std::string> mountpoint = mountpoint_of(argument);
  if (!mountpoint.ok()) return not_understood(what, mountpoint.status());
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub((*client)->channel());
  v1::UnmountRequest request;
  request.set_mountpoint(*mountpoint);
  const absl::StatusOr<v1::UnmountResponse> unmounted =
      call(**client, *stub, &v1::Admin::Stub::Unmount, request);
  if (!unmounted.ok()) return Outcome::failed(what, unmounted.status());
  if (!session.options().json) return Outcome::done();
  return print_json(Json{{"mountpoint", *mountpoint}});
}

}  // namespace

absl::Status ask_to_mount(const v1::MountRequest& request, Session& session) {
  BLOBCACHE_ASSIGN_OR_RETURN(const net::RpcClient* const client, session.connect());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client->channel());
  const absl::Status status = call(*client, *stub, &v1::Admin::Stub::Mount, request).status();
  // Of a mountpoint that is not there no path of the tree is to blame.
  const bool of_subtree = base::message(status).starts_with("subtree ");
  return of_subtree ? with_hint(status, request.subtree()) : status;
}

void add_mount_commands(CLI::App& app, Action& selected) {
  const auto arguments = std::make_shared<MountArguments>();
  CLI::App* const mount = app.add_subcommand("mount", "Have the daemon mount the tree");
  mount->group("The daemon");
  mount
      ->add_option("MOUNTPOINT", arguments->mountpoint, "An empty directory, as the daemon sees it")
      ->required()
      ->type_name("");
  mount->add_flag("--read-only", arguments->read_only, "Nothing can be changed through the mount");
  mount->add_option("--subtree", arguments->subtree, "Mount this directory of the tree, not all")
      ->type_name("PATH");
  mount->add_flag("--writeback-cache", arguments->writeback_cache,
                  "The kernel holds writes back; for a subtree of files/ that nobody else writes");
  mount->callback([arguments, &selected] {
    selected = [arguments](Session& session) { return mount_tree(*arguments, session); };
  });
  CLI::App* const unmount = app.add_subcommand("umount", "Have the daemon unmount the tree");
  unmount->group("The daemon");
  unmount
      ->add_option("MOUNTPOINT", arguments->mountpoint, "A directory that the daemon has mounted")
      ->required()
      ->type_name("");
  unmount->callback([arguments, &selected] {
    selected = [arguments](Session& session) {
      return unmount_tree(arguments->mountpoint, session);
    };
  });
}

}  // namespace blobcache::ctl
