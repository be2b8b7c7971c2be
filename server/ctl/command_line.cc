#include "server/ctl/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <utility>

#include "base/status.h"
#include "server/ctl/impl/command_table.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/output.h"
#include "server/ctl/session.h"
#include "server/ctl/text.h"
#include "server/version.h"

namespace blobcache::ctl {
namespace {

constexpr size_t kHelpColumn = 34;

constexpr const char* kFooter =
    "Examples:\n"
    "  blobcachectl put debian.raw --name images/debian.raw\n"
    "  blobcachectl ls -l files/images\n"
    "  blobcachectl get files/images/debian.raw -o copy.raw\n"
    "  blobcachectl --json status\n"
    "\n"
    "blobcachectl COMMAND --help tells about one command, blobcachectl(1) about all of them.";

void add_global_options(CLI::App& app, GlobalOptions& options) {
  app.add_option("--endpoint", options.endpoint,
                 "Where blobcached listens: unix:/PATH, /PATH or tcp:HOST:PORT")
      ->type_name("ADDR");
  app.add_flag("--json", options.json, "Print one JSON document");
  app.add_flag("-q,--quiet", options.quiet, "No progress bar");
  app.add_option("--token-file", options.token_file, "Token for a tcp: endpoint")
      ->type_name("FILE");
  app.add_option("--tls-ca", options.tls_ca, "Use TLS; the server's authority (PEM)")
      ->type_name("FILE");
  app.add_option("--tls-certificate", options.tls_certificate, "Our certificate (PEM)")
      ->type_name("FILE");
  app.add_option("--tls-key", options.tls_key, "Its key (PEM)")->type_name("FILE");
  app.set_version_flag("--version", fmt::format("blobcachectl {}", server::version()),
                       "Print the version");
}

/// The command, perhaps of a command ("config check"), that parsing had come to.
const CLI::App& deepest(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().back();
  return *at;
}

std::string full_name(const CLI::App& command) {
  const CLI::App* const parent = command.get_parent();
  if (parent == nullptr) return "blobcachectl";
  return fmt::format("{} {}", full_name(*parent), command.get_name());
}

std::string help_of(const CLI::App& command) {
  const CLI::App* const parent = command.get_parent();
  return command.help(parent == nullptr ? "" : full_name(*parent));
}

/// What CLI11 says of an option that has too few values or too many, in our words.
std::string explain_values(std::string_view error) {
  const std::string_view option = error.substr(0, error.find(':'));
  const bool too_many = error.find("At Most") != std::string_view::npos;
  return fmt::format("{} {}", option, too_many ? "is given more than once" : "needs a value");
}

/// The first argument that nothing took.
std::string first_left_over(const CLI::App& app) {
  const std::vector<std::string> left = app.remaining(true);
  return left.empty() ? "" : left.front();
}

/// A parse error in our words: one line that ends with where to read on.
Outcome explain(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = deepest(app);
  const std::string name = full_name(command);
  const std::string words = name.substr(std::min(name.size(), name.find(' ') + 1));
  const std::string what = command.get_parent() == nullptr ? "" : words + ": ";
  const std::string left = first_left_over(app);
  const bool wants_command = !command.get_subcommands({}).empty();
  std::string why = error.what();
  if (error.get_name() == "ArgumentMismatch") why = explain_values(why);
  if (!left.empty() && left.starts_with('-') && left != "-") {
    why = fmt::format("unknown option {}", escape(left));
  } else if (!left.empty() && wants_command) {
    why = fmt::format("unknown command {}", escape(left));
  } else if (!left.empty()) {
    why = fmt::format("one argument too many, {}", escape(left));
  } else if (wants_command) {
    why = "a command is missing";
  }
  return {ExitStatus::kUsage, fmt::format("{}{}; see {} --help", what, why, name)};
}

}  // namespace

CommandTable::CommandTable()
    : app(std::make_unique<CLI::App>("Administers blobcached, a cache of "
                                     "blobs and disk images.",
                                     "blobcachectl")) {
  app->get_formatter()->column_width(kHelpColumn);
  app->get_formatter()->label("SUBCOMMAND", "COMMAND");
  app->get_formatter()->label("REQUIRED", "");
  app->get_formatter()->label("Positionals", "Arguments");
  app->set_help_flag("-h,--help", "Print this help");
  app->fallthrough();
  app->require_subcommand(1);
  app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::Throw);
  add_global_options(*app, options);
  add_data_commands(*app, selected);
  add_transfer_commands(*app, selected);
  add_tree_commands(*app, selected);
  add_pin_commands(*app, selected);
  add_volume_commands(*app, selected);
  add_admin_commands(*app, selected);
  add_mount_commands(*app, selected);
  add_device_commands(*app, selected);
  add_upkeep_commands(*app, selected);
  add_upgrade_command(*app, selected);
  add_config_commands(*app, selected);
  add_completion_command(*app, selected);
  app->footer(kFooter);
}

CommandTable::~CommandTable() = default;

Outcome run(const std::vector<std::string>& arguments) {
  CommandTable table;
  std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
  try {
    table.app->parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    return print(help_of(deepest(*table.app)));
  } catch (const CLI::CallForVersion& version) {
    return print(fmt::format("{}\n", version.what()));
  } catch (const CLI::ParseError& error) {
    return explain(*table.app, error);
  }
  Session session(table.options);
  if (const auto endpoint = session.endpoint(); !endpoint.ok()) {
    return {ExitStatus::kUsage, std::string(base::message(endpoint.status()))};
  }
  return table.selected(session);
}

}  // namespace blobcache::ctl
