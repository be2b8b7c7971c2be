#include <fmt/format.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/ctl/impl/completion_words.h"

namespace blobcache::ctl {
namespace {

// Each script is a table of the commands, generated, before a fixed part that walks the words of
// the line. A name that `blobcachectl ls` had to escape (it has a backslash then) is not offered.

constexpr std::string_view kBash = R"script(
# Joins again what bash splits at ":" and "=", up to the cursor, into `words`.
_blobcachectl_words() {
  local i word line=$COMP_LINE
  words=()
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if ((i == 0)) || [[ $line == [[:blank:]]* ]]; then
      line=${line#"${line%%[![:blank:]]*}"}
      words+=("$word")
    else
      words[${#words[@]} - 1]+=$word
    fi
    line=${line#"$word"}
  done
}

_blobcachectl_paths() {
  local directory=${cur%"${cur##*/}"} name
  compopt -o filenames -o nospace
  while IFS= read -r name; do
    [[ $name != *\\* && $directory$name == "$cur"* ]] && COMPREPLY+=("$directory$name")
  done < <("${words[0]}" "${endpoint[@]}" ls -F "${directory:-/}" 2>/dev/null)
}

_blobcachectl_offer() {
  local word
  case $1 in
    path) _blobcachectl_paths ;;
    file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    directory) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$cur") ;;
    shell) mapfile -t COMPREPLY < <(compgen -W 'bash zsh fish' -- "$cur") ;;
  esac
}

_blobcachectl() {
  local words options commands arguments kind cur command='' count=0 i word prefix
  local endpoint=()
  COMPREPLY=()
  _blobcachectl_words
  cur=${words[${#words[@]} - 1]//\\/}
  cur=${cur#[\"\']}
  for ((i = 1; i < ${#words[@]} - 1; i++)); do
    word=${words[i]}
    _blobcachectl_value "${word%%=*}"
    if [[ -n $kind && $word != *=* ]]; then
      case $word in
        --endpoint | --token-file | --tls-*) endpoint+=("$word" "${words[i + 1]}") ;;
      esac
      ((++i))
    elif [[ $word == --endpoint=* || $word == --token-file=* || $word == --tls-*=* ]]; then
      endpoint+=("$word")
    elif [[ $word == -?* ]]; then
      continue
    else
      _blobcachectl_table "$command"
      if [[ -n $commands ]]; then command="${command:+$command }$word"; else ((++count)); fi
    fi
  done
  _blobcachectl_table "$command"
  prefix=$cur
  if ((i == ${#words[@]})); then
    _blobcachectl_value "${words[i - 2]}"
    _blobcachectl_offer "$kind"
  elif [[ $cur == --*=* ]]; then
    _blobcachectl_value "${cur%%=*}"
    cur=${cur#*=}
    _blobcachectl_offer "$kind"
  elif [[ $cur == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options $global" -- "$cur")
  elif [[ -n $commands ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
  else
    local kinds
    read -ra kinds <<<"$arguments"
    ((count < ${#kinds[@]})) || count=$((${#kinds[@]} - 1))
    ((count < 0)) || _blobcachectl_offer "${kinds[count]}"
  fi
  if ((${#COMPREPLY[@]} == 1)) && [[ ${COMPREPLY[0]} != */ ]]; then compopt +o nospace; fi
  # Readline replaces only what follows the last ":" or "=".
  if [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
    prefix=${cur%"${cur##*:}"}
    COMPREPLY=("${COMPREPLY[@]#"$prefix"}")
  fi
}

complete -F _blobcachectl blobcachectl
)script";

constexpr std::string_view kZsh = R"script(
_blobcachectl_paths() {
  local directory=${1%${1##*/}} name
  local -a names directories
  for name in ${(f)"$($program $endpoint ls -F ${directory:-/} 2>/dev/null)"}; do
    [[ $name == *\\* ]] && continue
    if [[ $name == */ ]]; then directories+=($directory${name%/}); else names+=($directory$name); fi
  done
  compadd -S / -q -a directories
  compadd -a names
}

_blobcachectl_offer() {
  case $1 in
    path) _blobcachectl_paths ${(Q)PREFIX} ;;
    file) _files ;;
    directory) _files -/ ;;
    shell) compadd bash zsh fish ;;
  esac
}

_blobcachectl() {
  local kind word command='' program=$words[1]
  local -a options commands arguments endpoint
  local -i i count=1
  for ((i = 2; i < CURRENT; i++)); do
    word=${(Q)words[i]}
    _blobcachectl_value ${word%%=*}
    if [[ -n $kind && $word != *=* ]]; then
      [[ $word == (--endpoint|--token-file|--tls-*) ]] && endpoint+=($word ${(Q)words[i+1]})
      ((++i))
    elif [[ $word == (--endpoint|--token-file|--tls-*)=* ]]; then
      endpoint+=($word)
    elif [[ $word == -?* ]]; then
      continue
    else
      _blobcachectl_table $command
      if ((${#commands})); then command="${command:+$command }$word"; else ((++count)); fi
    fi
  done
  _blobcachectl_table $command
  if ((i > CURRENT)); then
    _blobcachectl_value ${(Q)words[CURRENT-1]}
    _blobcachectl_offer $kind
  elif [[ $PREFIX == --*=* ]]; then
    _blobcachectl_value ${PREFIX%%=*}
    compset -P 1 '*='
    _blobcachectl_offer $kind
  elif [[ $PREFIX == -* ]]; then
    options+=($global)
    _describe -o option options
  elif ((${#commands})); then
    _describe command commands
  elif ((${#arguments})); then
    ((count <= ${#arguments})) || count=${#arguments}
    _blobcachectl_offer $arguments[count]
  fi
}

# Autoloaded from $fpath, the file is the function's body; sourced, it says what it is for.
if [[ $funcstack[1] == _blobcachectl ]]; then
  _blobcachectl "$@"
else
  compdef _blobcachectl blobcachectl
fi
)script";

constexpr std::string_view kFish = R"script(
# The command that the line has come to, "" before there is one.
function __blobcachectl_command
    set -l words (commandline -opc)
    set -l command
    set -l skip 0
    for word in $words[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $word $__blobcachectl_with_value
            set skip 1
        else if not string match -q -- '-*' $word
            if test -z "$command"
                set command $word
            else if contains -- "$command" $__blobcachectl_groups
                set command "$command $word"
            end
        end
    end
    echo "$command"
end

function __blobcachectl_at
    test (__blobcachectl_command) = "$argv[1]"
end

function __blobcachectl_paths
    set -l words (commandline -opc)
    set -l endpoint
    for i in (seq 2 (count $words))
        if string match -qr -- '^--(endpoint|token-file|tls-[a-z]+)$' $words[$i]
            set -l value (math $i + 1)
            set -a endpoint $words[$i] $words[$value]
        else if string match -qr -- '^--(endpoint|token-file|tls-[a-z]+)=' $words[$i]
            set -a endpoint $words[$i]
        end
    end
    set -l typed (string unescape -- (commandline -ct | string replace -r '^--[a-z]+=' ''))
    set -l directory (string match -r -- '^.*/' "$typed")
    set -l start $directory
    test -n "$start"; or set start /
    for name in ($words[1] $endpoint ls -F $start 2>/dev/null)
        string match -qr -- '\\\\' $name; or echo "$directory$name"
    end
end

complete -c blobcachectl -f
)script";

std::string join(const std::vector<Word>& words, std::string Word::* member) {
  std::string out;
  for (const Word& word : words) {
    if (!out.empty()) out += ' ';
    out += word.*member;
  }
  return out;
}

/// `text` in single quotes; `quote` is how the shell writes a single quote within.
std::string quoted(std::string_view text, std::string_view quote) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') {
      out += quote;
    } else {
      out += c;
    }
  }
  return out + "'";
}

/// The options that take a value, by the kind of value, in the form of a case label.
std::map<std::string, std::string> value_labels(const std::vector<CommandWords>& commands) {
  std::map<std::string, std::string> labels;
  for (const CommandWords& command : commands) {
    for (const Word& option : command.options) {
      if (option.kind.empty()) continue;
      std::string& label = labels[option.kind];
      label += (label.empty() ? "" : " | ") + option.name;
    }
  }
  return labels;
}

std::string value_function(const std::vector<CommandWords>& commands) {
  std::string out = "_blobcachectl_value() {\n  case $1 in\n";
  for (const auto& [kind, label] : value_labels(commands)) {
    out += fmt::format("    {}) kind='{}' ;;\n", label, kind);
  }
  return out + "    *) kind= ;;\n  esac\n}\n";
}

/// "word:what it is" for zsh's _describe.
std::string zsh_described(const std::vector<Word>& words) {
  std::string out;
  for (const Word& word : words) {
    std::string text = word.name + ":";
    for (const char c : word.description) {
      if (c == ':' || c == '\\') text += '\\';
      text += c;
    }
    out += ' ';
    out += quoted(text, R"('\'')");
  }
  return out;
}

std::string arguments_of(const CommandWords& command) {
  std::string out = join(command.arguments, &Word::kind);
  // What comes after the last argument is an error, and nothing is offered for it.
  if (!command.repeats && !out.empty()) out += " none";
  return out;
}

std::string fish_value(const Word& word) {
  if (word.kind == "file") return " -r -F";
  if (word.kind == "path") return " -x -a '(__blobcachectl_paths)'";
  return word.kind.empty() ? "" : " -x";
}

}  // namespace

std::string bash_completion(const std::vector<CommandWords>& commands) {
  std::string out = "# bash completion for blobcachectl\n\n_blobcachectl_table() {\n";
  out += fmt::format("  global={}\n  case $1 in\n",
                     quoted(join(commands.front().options, &Word::name), R"('\'')"));
  for (const CommandWords& command : commands) {
    out += fmt::format("    '{}') options='{}' commands='{}' arguments='{}' ;;\n", command.name,
                       join(command.options, &Word::name), join(command.commands, &Word::name),
                       arguments_of(command));
  }
  out += "    *) options='' commands='' arguments='' ;;\n  esac\n}\n\n";
  return out + value_function(commands) + std::string(kBash);
}

std::string zsh_completion(const std::vector<CommandWords>& commands) {
  std::string out = "#compdef blobcachectl\n\n_blobcachectl_table() {\n";
  out += fmt::format("  global=({})\n  case $1 in\n", zsh_described(commands.front().options));
  for (const CommandWords& command : commands) {
    out += fmt::format("    '{}') options=({}) commands=({}) arguments=({}) ;;\n", command.name,
                       zsh_described(command.options), zsh_described(command.commands),
                       arguments_of(command));
  }
  out += "    *) options=() commands=() arguments=() ;;\n  esac\n}\n\n";
  return out + value_function(commands) + std::string(kZsh);
}

std::string fish_completion(const std::vector<CommandWords>& commands) {
  std::string with_value;
  for (const auto& [kind, label] : value_labels(commands)) with_value += " " + label;
  std::erase(with_value, '|');
  std::string groups;
  for (const CommandWords& command : commands) {
    if (!command.name.empty() && !command.commands.empty()) groups += " " + command.name;
  }
  std::string out = fmt::format(
      "# fish completion for blobcachectl\n\nset -g __blobcachectl_with_value{}\n"
      "set -g __blobcachectl_groups{}\n{}",
      with_value, groups, kFish);
  for (const CommandWords& command : commands) {
    // The program's own options go with every command.
    const std::string at =
        command.name.empty() ? "" : fmt::format(" -n '__blobcachectl_at \"{}\"'", command.name);
    const std::string start = fmt::format(" -n '__blobcachectl_at \"{}\"'", command.name);
    for (const Word& word : command.commands) {
      out += fmt::format("complete -c blobcachectl{} -a {} -d {}\n", start, word.name,
                         quoted(word.description, R"(\')"));
    }
    for (const Word& word : command.options) {
      const bool is_long = word.name.starts_with("--");
      out += fmt::format("complete -c blobcachectl{} {} {} -d {}{}\n", at, is_long ? "-l" : "-s",
                         word.name.substr(is_long ? 2 : 1), quoted(word.description, R"(\')"),
                         fish_value(word));
    }
    for (const Word& word : command.arguments) {
      if (word.kind == "path") {
        out += fmt::format("complete -c blobcachectl{} -a '(__blobcachectl_paths)'\n", at);
      } else if (word.kind == "shell") {
        out += fmt::format("complete -c blobcachectl{} -a 'bash zsh fish'\n", at);
      } else if (word.kind != "text") {
        out += fmt::format("complete -c blobcachectl{} -F\n", at);
      }
    }
  }
  return out;
}

}  // namespace blobcache::ctl
