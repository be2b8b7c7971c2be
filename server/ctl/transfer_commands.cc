#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/size.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/bar.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/each_path.h"
#include "server/ctl/impl/follow.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/interrupt.h"
#include "server/ctl/text.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;

struct ImportOptions {
  std::string path;
  std::optional<std::string> name;
  std::optional<std::string> digest;
};

struct WarmOptions {
  std::vector<std::string> paths;
  std::optional<std::string> range;
  bool wait = false;
};

std::string label_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// ---------------------------------------------------------------------------------------- import

absl::StatusOr<v1::ImportRequest> import_request(const ImportOptions& arguments) {
  v1::ImportRequest request;
  BLOBCACHE_ASSIGN_OR_RETURN(const std::string path, parse_path(arguments.path));
  request.set_path(path.starts_with("origins/") ? path : "origins/" + path);
  if (arguments.name) {
    const absl::StatusOr<std::string> name = parse_name(*arguments.name);
    if (!name.ok()) return base::annotate(name.status(), "--name");
    request.set_bind(*name);
  }
  if (arguments.digest) {
    const absl::StatusOr<page::ObjectKey> digest = parse_digest(*arguments.digest);
    if (!digest.ok()) return base::annotate(digest.status(), "--digest");
    request.set_expected_digest(digest->bytes.data(), digest->bytes.size());
  }
  return request;
}

Outcome run_import(const ImportOptions& arguments, Session& session) {
  const std::string what = fmt::format("import {}", escape(arguments.path));
  const absl::StatusOr<v1::ImportRequest> request = import_request(arguments);
  if (!request.ok()) return Outcome::usage(what, base::message(request.status()));
  Interrupt interrupt;
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  const std::shared_ptr<ProgressBar> bar =
      make_bar(interrupt, session.options(), label_of(request->path()), std::nullopt);
  const absl::StatusOr<v1::ImportResponse> last =
      follow(**client, *request, *bar, &v1::Admin::Stub::Import);
  bar->clear();
  if (!last.ok()) return Outcome::failed(what, last.status());
  const v1::PutResponse& blob = last->blob();
  if (!session.options().json) return print(format_digest(blob.digest()) + "\n");
  return print_json({{"path", request->path()},
                     {"digest", format_digest(blob.digest())},
                     {"size", blob.size()},
                     {"existed", blob.existed()},
                     {"name", request->bind().empty() ? Json(nullptr) : Json(request->bind())}});
}

// ------------------------------------------------------------------------------------------ warm

/// "OFF:LEN"; a LEN of nothing is to the end.
absl::StatusOr<ByteRange> parse_offset_and_length(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    return absl::InvalidArgumentError(
        fmt::format("{}: is not OFFSET:LENGTH, as in 1MiB:64KiB", escape(text)));
  }
  const std::string offset(text.substr(0, colon));
  std::optional<std::string> length(text.substr(colon + 1));
  if (length->empty()) length.reset();
  BLOBCACHE_ASSIGN_OR_RETURN(const ByteRange range, parse_range(offset, length));
  if (range.length == uint64_t{0}) return absl::InvalidArgumentError("a range of no bytes");
  return range;
}

/// One path; what --json lists of it. `printed` is how it went with what people are told.
absl::StatusOr<Json> warm_one(const net::RpcClient& client, const v1::WarmRequest& request,
                              const GlobalOptions& options, Interrupt& interrupt,
                              Outcome& printed) {
  const std::shared_ptr<ProgressBar> bar =
      make_bar(interrupt, options, label_of(request.path()), std::nullopt);
  const absl::StatusOr<v1::WarmResponse> last =
      follow(client, request, *bar, &v1::Admin::Stub::Warm);
  bar->clear();
  if (!last.ok()) return last.status();
  if (!request.wait()) return Json(request.path());
  const v1::Warmed& warmed = last->warmed();
  if (!options.json && printed.exit == ExitStatus::kDone) {
    printed =
        print(fmt::format("{}: {} on disk, {} of it fetched\n", escape(request.path()),
                          base::format_size(warmed.length()), base::format_size(warmed.fetched())));
  }
  return Json{{"path", request.path()}, {"length", warmed.length()}, {"fetched", warmed.fetched()}};
}

Outcome warm(const WarmOptions& arguments, Session& session) {
  ByteRange range;
  if (arguments.range) {
    const absl::StatusOr<ByteRange> parsed = parse_offset_and_length(*arguments.range);
    if (!parsed.ok()) return Outcome::usage("warm --range", base::message(parsed.status()));
    range = *parsed;
  }
  Interrupt interrupt;
  Outcome printed;
  const Outcome outcome = for_each_path(
      "warm", arguments.wait ? "warmed" : "begun", arguments.paths, session,
      [&](const net::RpcClient& client, v1::Admin::Stub& /*stub*/, const std::string& path) {
        v1::WarmRequest request;
        request.set_path(path);
        request.set_offset(range.offset);
        request.set_length(range.length.value_or(0));
        request.set_wait(arguments.wait);
        return warm_one(client, request, session.options(), interrupt, printed);
      });
  return printed.exit == ExitStatus::kDone ? outcome : printed;
}

// -------------------------------------------------------------------------------- the command line

void add_import(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<ImportOptions>();
  CLI::App* const command =
      app.add_subcommand("import", "Make a blob of an origin's file; print its digest");
  command->group("Data");
  command->add_option("PATH", options->path, "ORIGIN/PATH (origins/ may be left out)")
      ->required()
      ->type_name("");
  command
      ->add_option("--name", options->name,
                   "Bind files/PATH to the blob in the same step (files/ may be left out)")
      ->type_name("PATH");
  command
      ->add_option("--digest", options->digest, "Store nothing unless the content has this SHA-256")
      ->type_name("sha256:HEX");
  command->footer(
      "Ctrl-C ends the import in the daemon, too, and nothing of it is left.\n"
      "Examples:\n"
      "  blobcachectl import golden/debian.raw --name images/debian.raw\n"
      "  blobcachectl import models/llama.gguf --digest sha256:3b0c...");
  command->callback([options, &selected] {
    selected = [options](Session& session) { return run_import(*options, session); };
  });
}

void add_warm(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<WarmOptions>();
  CLI::App* const command =
      app.add_subcommand("warm", "Fetch origins' files to the disk before somebody reads them");
  command->group("Data");
  command->add_option("PATH", options->paths, "Paths of the tree")->required()->type_name("");
  command
      ->add_option("--range", options->range,
                   "Only these bytes of each: OFFSET:LENGTH, or OFFSET: to the end")
      ->type_name("OFF:LEN");
  command->add_flag("--wait", options->wait, "End when it is done; else when it is begun");
  command->footer(
      "Examples:\n"
      "  blobcachectl warm origins/models/llama.gguf --wait\n"
      "  blobcachectl warm origins/golden/debian.raw --range 0:64MiB");
  command->callback([options, &selected] {
    selected = [options](Session& session) { return warm(*options, session); };
  });
}

}  // namespace

void add_transfer_commands(CLI::App& app, Action& selected) {
  add_import(app, selected);
  add_warm(app, selected);
}

}  // namespace blobcache::ctl
