#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/size.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/each_path.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"
#include "server/ctl/table.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;
using Entry = v1::ListResponse::Entry;

constexpr uint32_t kEntriesPerCall = 2000;

struct ListOptions {
  std::string path;
  bool detailed = false;
  bool classify = false;
};

struct NameOptions {
  std::string path;
  std::string digest;
};

bool is_directory(const v1::Node& node) { return node.type() == v1::Node::DIRECTORY; }

absl::Time time_of(int64_t nanoseconds) { return absl::FromUnixNanos(nanoseconds); }

bool is_kept(const v1::Node& node) { return node.retention() == v1::Node::KEPT; }

std::string retention_text(const v1::Node& node) {
  if (!is_kept(node)) return "cached";
  if (node.pinned()) return "kept, pinned";
  if (node.expires_ns() == 0) return "kept";
  return fmt::format("kept until {}", format_local_time(time_of(node.expires_ns())));
}

std::string digest_of(const v1::Node& node) {
  const std::string& digest = node.digest();
  if (digest.empty()) return "";
  return format_digest(digest);
}

/// `path` is the node's own, or its directory's.
std::string_view type_of(const v1::Node& node, std::string_view path) {
  if (is_directory(node)) return "directory";
  if (node.type() == v1::Node::SYMLINK) return "symlink";
  if (node.type() != v1::Node::VOLUME) return "file";
  return path.starts_with("volumes") ? "volume" : "image";
}

std::string mode_text(const v1::Node& node) {
  std::string text = format_mode(is_directory(node), node.mode());
  if (node.type() == v1::Node::SYMLINK) text.front() = 'l';
  return text;
}

/// Users and groups by name. Only where the daemon is on this machine: elsewhere a number may be
/// another's.
class Owners {
 public:
  explicit Owners(bool local) : local_(local) {}

  std::string user(uint32_t uid) {
    std::string& name = users_[uid];
    if (name.empty()) {
      const passwd* const entry = local_ ? ::getpwuid(uid) : nullptr;
      name = entry != nullptr ? entry->pw_name : std::to_string(uid);
    }
    return name;
  }

  std::string group(uint32_t gid) {
    std::string& name = groups_[gid];
    if (name.empty()) {
      const ::group* const entry = local_ ? ::getgrgid(gid) : nullptr;
      name = entry != nullptr ? entry->gr_name : std::to_string(gid);
    }
    return name;
  }

 private:
  const bool local_;
  std::map<uint32_t, std::string> users_;
  std::map<uint32_t, std::string> groups_;
};

Owners owners_of(const Session& session) {
  const absl::StatusOr<base::ListenAddress> endpoint = session.endpoint();
  return Owners(endpoint.ok() && endpoint->kind == base::ListenAddress::Kind::kUnix);
}

Json node_json(const v1::Node& node, std::string_view path) {
  Json out;
  out["type"] = type_of(node, path);
  out["size"] = node.size();
  out["digest"] = node.digest().empty() ? Json(nullptr) : Json(digest_of(node));
  out["mode"] = fmt::format("{:04o}", node.mode());
  out["uid"] = node.uid();
  out["gid"] = node.gid();
  out["links"] = node.links();
  out["modified"] = format_utc(time_of(node.modified_ns()));
  out["changed"] = format_utc(time_of(node.changed_ns()));
  out["node_id"] = node.node_id();
  out["pinned"] = node.pinned();
  out["retention"] = node.retention() == v1::Node::RETENTION_UNSPECIFIED
                         ? Json(nullptr)
                         : Json(is_kept(node) ? "kept" : "cached");
  out["expires"] =
      node.expires_ns() == 0 ? Json(nullptr) : Json(format_utc(time_of(node.expires_ns())));
  return out;
}

absl::StatusOr<v1::StatResponse> stat_path(const net::RpcClient& client, const std::string& path,
                                           bool residency) {
  const std::unique_ptr<v1::Data::Stub> stub = v1::Data::NewStub(client.channel());
  v1::StatRequest request;
  request.set_path(path);
  request.set_residency(residency);
  return call(client, *stub, &v1::Data::Stub::Stat, request);
}

// -------------------------------------------------------------------------------------------- ls

absl::StatusOr<std::vector<Entry>> list(const net::RpcClient& client, const std::string& path) {
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client.channel());
  std::vector<Entry> entries;
  v1::ListRequest request;
  request.set_path(path);
  request.set_limit(kEntriesPerCall);
  do {
    BLOBCACHE_ASSIGN_OR_RETURN(v1::ListResponse page,
                               call(client, *stub, &v1::Admin::Stub::List, request));
    std::move(page.mutable_entries()->begin(), page.mutable_entries()->end(),
              std::back_inserter(entries));
    request.set_cookie(page.next_cookie());
  } while (request.cookie() != 0);
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.name() < b.name(); });
  return entries;
}

/// What a path lists: a directory's entries, or a file itself.
absl::StatusOr<std::vector<Entry>> list_or_self(const net::RpcClient& client,
                                                const std::string& path) {
  absl::StatusOr<std::vector<Entry>> entries = list(client, path);
  if (!absl::IsFailedPrecondition(entries.status())) return entries;
  BLOBCACHE_ASSIGN_OR_RETURN(const v1::StatResponse response, stat_path(client, path, false));
  if (is_directory(response.node())) return entries;
  Entry self;
  self.set_name(path);
  *self.mutable_node() = response.node();
  return std::vector<Entry>{self};
}

std::string list_details(const std::vector<Entry>& entries, bool classify, Owners owners) {
  using Align = Table::Align;
  Table table({{"", Align::kLeft},
               {"", Align::kLeft},
               {"", Align::kLeft},
               {"", Align::kRight},
               {"", Align::kLeft},
               {"", Align::kLeft}});
  for (const Entry& entry : entries) {
    const v1::Node& node = entry.node();
    const bool directory = is_directory(node);
    table.add_row({mode_text(node) + (node.pinned() ? "p" : ""), owners.user(node.uid()),
                   owners.group(node.gid()), directory ? "-" : base::format_size(node.size()),
                   format_local_time(time_of(node.modified_ns())),
                   entry.name() + (directory && classify ? "/" : "")});
  }
  return table.render();
}

Outcome list(const ListOptions& arguments, Session& session) {
  const std::string what = fmt::format("ls {}", escape(arguments.path));
  const absl::StatusOr<std::string> path = parse_path(arguments.path);
  if (!path.ok()) return Outcome::usage(what, base::message(path.status()));
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  const absl::StatusOr<std::vector<Entry>> entries = list_or_self(**client, *path);
  if (!entries.ok()) return Outcome::failed(what, with_hint(entries.status(), *path));
  if (session.options().json) {
    Json document = {{"path", *path}, {"entries", Json::array()}};
    for (const Entry& entry : *entries) {
      Json item = {{"name", entry.name()}};
      item.update(node_json(entry.node(), *path));
      document["entries"].push_back(std::move(item));
    }
    return print_json(document);
  }
  if (arguments.detailed) {
    return print(list_details(*entries, arguments.classify, owners_of(session)));
  }
  std::string out;
  for (const Entry& entry : *entries) {
    const bool mark = arguments.classify && is_directory(entry.node());
    out += fmt::format("{}{}\n", escape(entry.name()), mark ? "/" : "");
  }
  return print(out);
}

// ------------------------------------------------------------------------------------------ stat

Json stat_json(const std::string& path, const v1::StatResponse& response) {
  Json document = {{"path", path}};
  document.update(node_json(response.node(), path));
  const bool is_link = response.node().type() == v1::Node::SYMLINK;
  document["target"] = is_link ? Json(response.target()) : Json(nullptr);
  document["residency"] = nullptr;
  if (response.has_residency()) {
    const v1::Residency& residency = response.residency();
    document["residency"] = {{"pages", residency.pages()},
                             {"memory_pages", residency.memory_pages()},
                             {"disk_pages", residency.disk_pages()},
                             {"zero_pages", residency.zero_pages()}};
  }
  return document;
}

std::string stat_text(const std::string& path, const v1::StatResponse& response, Owners owners) {
  const v1::Node& node = response.node();
  const bool directory = is_directory(node);
  Table table = property_table();
  table.add_row({"path", path.empty() ? "/" : path});
  table.add_row({"type", std::string(type_of(node, path))});
  if (node.type() == v1::Node::SYMLINK) table.add_row({"target", escape(response.target())});
  if (!directory) {
    table.add_row(
        {"size", fmt::format("{} ({} bytes)", base::format_size(node.size()), node.size())});
    if (!node.digest().empty()) table.add_row({"digest", digest_of(node)});
  }
  table.add_row({"mode", fmt::format("{} ({:04o})", mode_text(node), node.mode())});
  table.add_row({"owner", fmt::format("{}:{}", owners.user(node.uid()), owners.group(node.gid()))});
  table.add_row({"links", std::to_string(node.links())});
  table.add_row({"modified", format_local_time(time_of(node.modified_ns()))});
  table.add_row({"changed", format_local_time(time_of(node.changed_ns()))});
  table.add_row({"node", std::to_string(node.node_id())});
  if (node.retention() != v1::Node::RETENTION_UNSPECIFIED) {
    table.add_row({"retention", retention_text(node)});
  }
  if (!directory && response.has_residency()) {
    const v1::Residency& residency = response.residency();
    const auto pages = [&](uint64_t count) {
      return fmt::format("{} ({})", count, format_share(count, residency.pages()));
    };
    table.add_row({"pages", fmt::format("{} of 4 KiB", residency.pages())});
    table.add_row({"  in memory", pages(residency.memory_pages())});
    table.add_row({"  on disk", pages(residency.disk_pages())});
    table.add_row({"  zero", pages(residency.zero_pages())});
  }
  return table.render();
}

Outcome stat(const std::string& argument, Session& session) {
  const std::string what = fmt::format("stat {}", escape(argument));
  const absl::StatusOr<std::string> path = parse_path(argument);
  if (!path.ok()) return Outcome::usage(what, base::message(path.status()));
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  const absl::StatusOr<v1::StatResponse> response = stat_path(**client, *path, true);
  if (!response.ok()) return Outcome::failed(what, with_hint(response.status(), *path));
  if (session.options().json) return print_json(stat_json(*path, *response));
  return print(stat_text(*path, *response, owners_of(session)));
}

// -------------------------------------------------------------------------------------- name, rm

Outcome name(const NameOptions& arguments, Session& session) {
  const std::string what = fmt::format("name {}", escape(arguments.path));
  const absl::StatusOr<std::string> path = parse_name(arguments.path);
  if (!path.ok()) return Outcome::usage(what, base::message(path.status()));
  const absl::StatusOr<page::ObjectKey> digest = parse_digest(arguments.digest);
  if (!digest.ok()) return Outcome::usage(what, base::message(digest.status()));
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  v1::NameRequest request;
  request.set_path(*path);
  request.set_digest(digest->bytes.data(), digest->bytes.size());
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub((*client)->channel());
  const absl::StatusOr<v1::NameResponse> response =
      call(**client, *stub, &v1::Admin::Stub::Name, request);
  if (!response.ok()) return Outcome::failed(what, response.status());
  if (!session.options().json) return Outcome::done();
  Json document = {{"path", *path}};
  document.update(node_json(response->node(), *path));
  return print_json(document);
}

Outcome remove(const std::vector<std::string>& arguments, Session& session) {
  return for_each_path(
      "rm", "removed", arguments, session,
      [](const net::RpcClient& client, v1::Admin::Stub& stub,
         const std::string& path) -> absl::StatusOr<Json> {
        v1::RemoveRequest request;
        request.set_path(path);
        BLOBCACHE_RETURN_IF_ERROR(call(client, stub, &v1::Admin::Stub::Remove, request).status());
        return Json(path);
      });
}

void add_list(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<ListOptions>();
  options->path = "/";
  CLI::App* const command = app.add_subcommand("ls", "List a directory of the tree");
  command->group("The tree");
  command->add_option("PATH", options->path, "Where; without it, the root of the tree")
      ->type_name("");
  command->add_flag("-l,--long", options->detailed,
                    "Mode (with a p if it is pinned), owner, size and time, too");
  command->add_flag("-F,--classify", options->classify, "Mark directories with a /");
  command->footer("Examples:\n  blobcachectl ls\n  blobcachectl ls -l files/images");
  command->callback([options, &selected] {
    selected = [options](Session& session) { return list(*options, session); };
  });
}

void add_stat(CLI::App& app, Action& selected) {
  const auto path = std::make_shared<std::string>();
  CLI::App* const command =
      app.add_subcommand("stat", "Show one path: size, digest, pages in each tier, what keeps it");
  command->group("The tree");
  command->add_option("PATH", *path, "A path of the tree, or sha256:HEX")
      ->required()
      ->type_name("");
  command->callback(
      [path, &selected] { selected = [path](Session& session) { return stat(*path, session); }; });
}

void add_name(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<NameOptions>();
  CLI::App* const command =
      app.add_subcommand("name", "Bind a path under files/ to a blob that is here");
  command->group("The tree");
  command->add_option("PATH", options->path, "What to bind (files/ may be left out)")
      ->required()
      ->type_name("");
  command->add_option("DIGEST", options->digest, "The blob, sha256:HEX")->required()->type_name("");
  command->callback([options, &selected] {
    selected = [options](Session& session) { return name(*options, session); };
  });
}

void add_remove(CLI::App& app, Action& selected) {
  const auto paths = std::make_shared<std::vector<std::string>>();
  CLI::App* const command =
      app.add_subcommand("rm", "Remove names under files/, or forget blobs that nothing holds");
  command->group("The tree");
  command->add_option("PATH", *paths, "Names, empty directories, blobs/HEX or sha256:HEX")
      ->required()
      ->type_name("");
  command->callback([paths, &selected] {
    selected = [paths](Session& session) { return remove(*paths, session); };
  });
}

}  // namespace

void add_tree_commands(CLI::App& app, Action& selected) {
  add_list(app, selected);
  add_stat(app, selected);
  add_name(app, selected);
  add_remove(app, selected);
}

}  // namespace blobcache::ctl
