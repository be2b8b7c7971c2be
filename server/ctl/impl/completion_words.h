#pragma once

#include <string>
#include <vector>

namespace CLI {  // NOLINT(readability-identifier-naming): CLI11's name
class App;
}  // namespace CLI

namespace blobcache::ctl {

/// What a word on the command line may be, as completion scripts know it. Value type.
struct Word {
  std::string name;  ///< "--offset", "put"
  std::string description;
  /// Of an option's value or an argument: "file", "path" (of the tree), "directory", "shell" or
  /// "text"; "" for a flag or a command.
  std::string kind;
};

/// One command, or one command of a command, with all that may follow it. Value type.
struct CommandWords {
  std::string name;  ///< "put", "config check"; "" for the program itself
  std::vector<Word> options;
  std::vector<Word> arguments;
  std::vector<Word> commands;
  bool repeats = false;  ///< the last argument may come again
};

/// All of a command line, the program itself first.
[[nodiscard]] std::vector<CommandWords> completion_words(const CLI::App& app);

// The scripts. Each asks `blobcachectl ls` for paths of the tree, at the endpoint that the line
// names.
[[nodiscard]] std::string bash_completion(const std::vector<CommandWords>& commands);
[[nodiscard]] std::string zsh_completion(const std::vector<CommandWords>& commands);
[[nodiscard]] std::string fish_completion(const std::vector<CommandWords>& commands);

}  // namespace blobcache::ctl
