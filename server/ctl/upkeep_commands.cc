#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "base/size.h"
#include "base/status.h"
#include "blobcache.grpc.pb.h"
#include "server/ctl/arguments.h"
#include "server/ctl/impl/bar.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/impl/rpc_call.h"

namespace blobcache::ctl {
namespace {

using Json = nlohmann::ordered_json;

struct ScrubOptions {
  std::string path = "/";
  std::optional<std::string> rate;
};

struct GcOptions {
  bool dry_run = false;
  bool expire_now = false;
};

std::string plural(uint64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

// ----------------------------------------------------------------------------------------- scrub

/// One line for the object, then one for each stretch that is lost.
std::string damage_text(const v1::ScrubDamage& damage) {
  std::string out;
  for (const std::string& name : damage.names()) out += escape(name) + ", ";
  if (damage.more_names()) out += "..., ";
  if (damage.digest().empty()) {
    // A volume has its name alone.
    out.resize(out.size() - std::min<size_t>(out.size(), 2));
  } else {
    out += format_digest(damage.digest());
  }
  out += fmt::format(": {}\n", escape(damage.reason()));
  for (const v1::ScrubDamage::Range& range : damage.ranges()) {
    out += fmt::format("  {} bytes at {}\n", range.length(), range.offset());
  }
  if (damage.more_ranges()) out += "  ... and more\n";
  return out;
}

Json damage_json(const v1::ScrubDamage& damage) {
  Json out;
  out["digest"] = damage.digest().empty() ? Json(nullptr) : Json(format_digest(damage.digest()));
  out["size"] = damage.size();
  out["names"] = Json::array();
  for (const std::string& name : damage.names()) out["names"].push_back(name);
  out["more_names"] = damage.more_names();
  out["reason"] = damage.reason();
  out["pages"] = damage.pages();
  out["ranges"] = Json::array();
  for (const v1::ScrubDamage::Range& range : damage.ranges()) {
    out["ranges"].push_back({{"offset", range.offset()}, {"length", range.length()}});
  }
  out["more_ranges"] = damage.more_ranges();
  out["map_repaired"] = damage.map_repaired();
  return out;
}

double seconds_of(const v1::ScrubSummary& summary) {
  return static_cast<double>(summary.ended_ns() - summary.started_ns()) / 1e9;
}

std::string summary_text(const v1::ScrubSummary& summary) {
  std::string out =
      fmt::format("{}, {} read in {:.1f} s: ", plural(summary.objects(), "object"),
                  base::format_size(summary.bytes()), std::max(0.0, seconds_of(summary)));
  if (summary.damaged_objects() == 0) return out + "no damage\n";
  out += fmt::format("{} damaged, {}", summary.damaged_objects(),
                     plural(summary.damaged_pages(), "damaged page"));
  if (summary.repaired_maps() > 0) {
    out += fmt::format(", {} made again", plural(summary.repaired_maps(), "page map"));
  }
  return out + "\n";
}

Json summary_json(const v1::ScrubSummary& summary) {
  return {{"path", summary.path()},
          {"objects", summary.objects()},
          {"pages", summary.pages()},
          {"bytes", summary.bytes()},
          {"damaged_objects", summary.damaged_objects()},
          {"damaged_pages", summary.damaged_pages()},
          {"repaired_maps", summary.repaired_maps()},
          {"seconds", seconds_of(summary)}};
}

/// What has come of a scrub so far.
struct Scrubbed {
  Json damaged = Json::array();
  std::optional<v1::ScrubSummary> summary;
  Outcome printed;  ///< of what is printed as it comes
};

void take(const v1::ScrubResponse& response, const GlobalOptions& options, ProgressBar& bar,
          Scrubbed& scrubbed) {
  switch (response.step_case()) {
    case v1::ScrubResponse::kBegin:
      bar.set_total(response.begin().bytes());
      break;
    case v1::ScrubResponse::kProgress:
      bar.advance_to(response.progress().bytes());
      break;
    case v1::ScrubResponse::kDamage:
      if (options.json) {
        scrubbed.damaged.push_back(damage_json(response.damage()));
      } else {
        bar.hide();
        scrubbed.printed = print(damage_text(response.damage()));
      }
      break;
    case v1::ScrubResponse::kSummary:
      scrubbed.summary = response.summary();
      break;
    case v1::ScrubResponse::STEP_NOT_SET:
      break;
  }
}

absl::Status run_scrub(const net::RpcClient& client, const v1::ScrubRequest& request,
                       const GlobalOptions& options, ProgressBar& bar, Scrubbed& scrubbed) {
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client.channel());
  grpc::ClientContext context;
  prepare(client, context);
  const auto reader = stub->Scrub(&context, request);
  v1::ScrubResponse response;
  while (reader->Read(&response)) {
    take(response, options, bar, scrubbed);
    // Whoever reads our output has gone; nobody needs the rest.
    if (scrubbed.printed.exit != ExitStatus::kDone) context.TryCancel();
  }
  return outcome_of(client, reader->Finish());
}

Outcome show_scrub(const std::string& what, const GlobalOptions& options, Scrubbed scrubbed) {
  if (!scrubbed.summary) {
    return Outcome::failed(what, absl::InternalError("the daemon sent no summary"));
  }
  const v1::ScrubSummary& summary = *scrubbed.summary;
  Outcome outcome;
  if (options.json) {
    Json document = summary_json(summary);
    document["damaged"] = std::move(scrubbed.damaged);
    outcome = print_json(document);
  } else {
    outcome = print(summary_text(summary));
  }
  if (outcome.exit != ExitStatus::kDone || summary.damaged_objects() == 0) return outcome;
  return {ExitStatus::kFailed, fmt::format("{}: {} of {} damaged", what, summary.damaged_objects(),
                                           plural(summary.objects(), "object"))};
}

Outcome scrub(const ScrubOptions& arguments, Session& session) {
  const absl::StatusOr<std::string> path = parse_path(arguments.path);
  const std::string what = arguments.path == "/" ? std::string("scrub")
                                                 : fmt::format("scrub {}", escape(arguments.path));
  if (!path.ok()) return Outcome::usage(what, base::message(path.status()));
  v1::ScrubRequest request;
  request.set_path(*path);
  if (arguments.rate) {
    const absl::StatusOr<uint64_t> rate = parse_rate(*arguments.rate);
    if (!rate.ok()) return Outcome::usage("scrub --rate", base::message(rate.status()));
    request.set_bytes_per_second(*rate);
  }
  Interrupt interrupt;
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed(what, client.status());
  const std::shared_ptr<ProgressBar> bar =
      make_bar(interrupt, session.options(), path->empty() ? "scrub" : *path, std::nullopt);
  Scrubbed scrubbed;
  const absl::Status status = run_scrub(**client, request, session.options(), *bar, scrubbed);
  bar->clear();
  if (scrubbed.printed.exit != ExitStatus::kDone) return scrubbed.printed;
  if (!status.ok()) return Outcome::failed(what, with_hint(status, *path));
  return show_scrub(what, session.options(), std::move(scrubbed));
}

// -------------------------------------------------------------------------------------------- gc

const char* kind_name(v1::GcItem::Kind kind) {
  switch (kind) {
    case v1::GcItem::BLOB:
      return "blob";
    case v1::GcItem::ORPHAN:
      return "orphan";
    case v1::GcItem::TEMPORARY:
      return "temporary";
    default:
      return "other";
  }
}

/// What has come of a collection so far.
struct Collected {
  Json items = Json::array();
  std::optional<v1::GcTotals> totals;
  Outcome printed;  ///< of what is printed as it comes
};

void take(const v1::GcResponse& response, bool json, Collected& collected) {
  std::string text;
  for (const v1::GcItem& item : response.items()) {
    if (json) {
      collected.items.push_back(
          {{"kind", kind_name(item.kind())}, {"name", item.name()}, {"bytes", item.bytes()}});
    } else {
      text += fmt::format("{:>10}  {}\n", base::format_size(item.bytes()), escape(item.name()));
    }
  }
  if (response.has_totals()) collected.totals = response.totals();
  if (!text.empty()) collected.printed = print(text);
}

absl::Status run_gc(const net::RpcClient& client, const v1::GcRequest& request, bool json,
                    Collected& collected) {
  const std::unique_ptr<v1::Admin::Stub> stub = v1::Admin::NewStub(client.channel());
  grpc::ClientContext context;
  prepare(client, context);
  const auto reader = stub->Gc(&context, request);
  v1::GcResponse response;
  while (reader->Read(&response)) {
    take(response, json, collected);
    if (collected.printed.exit != ExitStatus::kDone) context.TryCancel();
  }
  return outcome_of(client, reader->Finish());
}

Outcome gc(const GcOptions& arguments, Session& session) {
  v1::GcRequest request;
  request.set_dry_run(arguments.dry_run);
  request.set_expire_now(arguments.expire_now);
  const absl::StatusOr<net::RpcClient*> client = session.connect();
  if (!client.ok()) return Outcome::failed("gc", client.status());
  Collected collected;
  const absl::Status status = run_gc(**client, request, session.options().json, collected);
  if (collected.printed.exit != ExitStatus::kDone) return collected.printed;
  if (!status.ok()) return Outcome::failed("gc", status);
  const v1::GcTotals totals = collected.totals.value_or(v1::GcTotals());
  if (session.options().json) {
    return print_json(Json{{"dry_run", arguments.dry_run},
                           {"items", std::move(collected.items)},
                           {"count", totals.items()},
                           {"bytes", totals.bytes()}});
  }
  return print(fmt::format("{} {}, {}\n", arguments.dry_run ? "would remove" : "removed",
                           plural(totals.items(), "item"), base::format_size(totals.bytes())));
}

// -------------------------------------------------------------------------------- the command line

void add_scrub(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<ScrubOptions>();
  CLI::App* const command = app.add_subcommand(
      "scrub", "Verify every page of blobs and volumes on disk; list what is damaged");
  command->group("Upkeep");
  command
      ->add_option("PATH", options->path,
                   "A file, a blob, a volume or a directory; without it, everything")
      ->type_name("");
  command
      ->add_option("--rate", options->rate,
                   "Read at most so much a second (100MiB); 0 or unlimited: no bound")
      ->type_name("SIZE");
  command->footer(
      "Ends with status 1 when anything is damaged. Ctrl-C ends the scrub in the daemon, too.\n"
      "Examples:\n"
      "  blobcachectl scrub\n"
      "  blobcachectl scrub files/images --rate 1GiB");
  command->callback([options, &selected] {
    selected = [options](Session& session) { return scrub(*options, session); };
  });
}

void add_gc(CLI::App& app, Action& selected) {
  const auto options = std::make_shared<GcOptions>();
  CLI::App* const command =
      app.add_subcommand("gc", "Remove what nothing names: expired blobs, files of no blob");
  command->group("Upkeep");
  command->add_flag("-n,--dry-run", options->dry_run, "List what would go, and remove nothing");
  command->add_flag(
      "--expire-now", options->expire_now,
      "Unnamed blobs whose time (store.unnamed_ttl) is not over, too; no pinned ones");
  command->callback([options, &selected] {
    selected = [options](Session& session) { return gc(*options, session); };
  });
}

}  // namespace

void add_upkeep_commands(CLI::App& app, Action& selected) {
  add_scrub(app, selected);
  add_gc(app, selected);
}

}  // namespace blobcache::ctl
