#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "server/ctl/command_line.h"
#include "server/ctl/impl/command_table.h"
#include "server/ctl/impl/commands.h"
#include "server/ctl/impl/completion_words.h"
#include "server/ctl/impl/output.h"

namespace blobcache::ctl {
namespace {

/// Names of arguments and of options' types say what they are; see commands.h.
std::string kind_of(std::string_view name) {
  if (name == "FILE" || name == "DEVICE") return "file";
  if (name == "PATH" || name == "VOLUME") return "path";
  if (name == "MOUNTPOINT") return "directory";
  if (name == "SHELL") return "shell";
  return "text";
}

void read_options(const CLI::App& app, CommandWords& words) {
  for (const CLI::Option* const option : app.get_options()) {
    const std::string& description = option->get_description();
    if (option->get_positional()) {
      const std::string name = option->get_name(true);
      words.arguments.push_back({name, description, kind_of(name)});
      words.repeats = option->get_items_expected_max() > 1;
      continue;
    }
    const bool flag = option->get_items_expected_max() == 0;
    const std::string kind = flag ? "" : kind_of(option->get_type_name());
    for (const std::string& name : option->get_snames()) {
      words.options.push_back({"-" + name, description, kind});
    }
    for (const std::string& name : option->get_lnames()) {
      words.options.push_back({"--" + name, description, kind});
    }
  }
}

void read_commands(const CLI::App& app, const std::string& name, std::vector<CommandWords>& out) {
  CommandWords words;
  words.name = name;
  read_options(app, words);
  const std::vector<const CLI::App*> commands = app.get_subcommands({});
  for (const CLI::App* const command : commands) {
    words.commands.push_back({command->get_name(), command->get_description(), ""});
  }
  out.push_back(std::move(words));
  for (const CLI::App* const command : commands) {
    const std::string prefix = name.empty() ? "" : name + " ";
    read_commands(*command, prefix + command->get_name(), out);
  }
}

}  // namespace

std::vector<CommandWords> completion_words(const CLI::App& app) {
  std::vector<CommandWords> out;
  read_commands(app, "", out);
  return out;
}

absl::StatusOr<std::string> completion_script(const std::string& shell) {
  const CommandTable table;
  const std::vector<CommandWords> commands = completion_words(*table.app);
  if (shell == "bash") return bash_completion(commands);
  if (shell == "zsh") return zsh_completion(commands);
  if (shell == "fish") return fish_completion(commands);
  return base::error(absl::StatusCode::kInvalidArgument, "the shells are bash, zsh and fish");
}

void add_completion_command(CLI::App& app, Action& selected) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* const command =
      app.add_subcommand("completion", "Print the completion script for bash, zsh or fish");
  command->group("The shell");
  command->add_option("SHELL", *shell, "bash, zsh or fish")->required()->type_name("");
  command->footer(
      "Examples:\n"
      "  eval \"$(blobcachectl completion bash)\"           # in ~/.bashrc\n"
      "  blobcachectl completion zsh > ~/.zfunc/_blobcachectl\n"
      "  blobcachectl completion fish > ~/.config/fish/completions/blobcachectl.fish");
  command->callback([shell, &selected] {
    selected = [shell](Session&) {
      const absl::StatusOr<std::string> script = completion_script(*shell);
      if (!script.ok()) return Outcome::usage("completion", base::message(script.status()));
      return print(*script);
    };
  });
}

}  // namespace blobcache::ctl
