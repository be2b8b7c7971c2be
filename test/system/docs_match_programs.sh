#!/bin/bash
# The man pages name every option and command that --help shows, and the README only what there is.
. "$(dirname "$0")/lib.sh"
cd "$SOURCE_DIR"

# What a man page says, as plain words: \- is a dash.
man_words() { sed 's/\\-/-/g' "$@"; }

# options_of HELP: the long options in a help text.
options_of() { grep -oE '(^|[ ,])--[a-z][a-z-]*' | tr -d ' ,' | sort -u; }

# has_option PAGE OPTION: mdoc writes --name as "Fl -name" or "\-\-name".
has_option() { man_words "$1" | grep -Eq -- "(Fl -?-?${2#--}|$2)([^a-z-]|$)"; }

missing=0
complain() {
  echo "$*"
  missing=$((missing + 1))
}

while read -r option; do
  has_option man/blobcached.8 "$option" || complain "man/blobcached.8 does not mention $option"
done < <("$BIN/blobcached" --help | options_of)

commands_of() { awk '/^[A-Za-z ]*[Cc]ommands:$|^SUBCOMMANDS:$|^Subcommands:$/ {on = 1; next} /^[^ ]/ {on = 0} on && /^  [a-z]/ {print $1}'; }
check_help() {
  local option command
  while read -r option; do
    has_option man/blobcachectl.1 "$option" || complain "man/blobcachectl.1 does not mention $* $option"
  done < <(ctl "$@" --help | options_of)
  while read -r command; do
    man_words man/blobcachectl.1 | grep -qw -- "$command" || complain "man/blobcachectl.1 does not mention $* $command"
    check_help "$@" "$command"
  done < <(ctl "$@" --help | commands_of)
}
commands=$(ctl --help | commands_of)
[[ $(wc -l <<<"$commands") -ge 5 ]] || fail "blobcachectl --help lists too few commands to be read right: $commands"
check_help

# The README: every make target and every command of blobcachectl in it exists.
while read -r target; do
  grep -Eq "^($target|[a-z ]*\b$target\b[a-z ]*|bench-%):" Makefile || complain "README.md: there is no  make $target"
done < <(grep -oE '(^ {4}|`)(sudo )?make( [a-z-]+)?' README.md | awk '{print $NF}' | grep -v '^.*make$' | sort -u)
while read -r command; do
  grep -qx -- "$command" <<<"$commands" || complain "README.md: there is no  blobcachectl $command"
done < <(grep -oE 'blobcachectl( --[a-z]+( unix:[^ ]+)?)* [a-z]+' README.md | awk '{print $NF}' | sort -u)

((missing == 0)) || fail "$missing things do not match"
