#!/bin/bash
# The man pages name every option and command that --help shows, and the README only what there is.
. "$(dirname "$0")/lib.sh"
cd "$SOURCE_DIR"

# What the man pages say, as plain words: \- is a dash.
daemon_page=$(sed 's/\\-/-/g' man/blobcached.8)
ctl_page=$(sed 's/\\-/-/g' man/blobcachectl.1)

# options_of HELP: the long options in a help text.
options_of() { grep -oE '(^|[ ,])--[a-z][a-z-]*' | tr -d ' ,' | sort -u; }

# has_option PAGE_TEXT OPTION: mdoc writes --name as "Fl -name" or "\-\-name".
has_option() { grep -Eq -- "(Fl -?-?${2#--}|$2)([^a-z-]|$)" <<<"$1"; }

missing=0
complain() {
  echo "$*"
  missing=$((missing + 1))
}

while read -r option; do
  has_option "$daemon_page" "$option" || complain "man/blobcached.8 does not mention $option"
done < <("$BIN/blobcached" --help | options_of)

# commands_of HELP: options begin with a dash, arguments are in capitals.
commands_of() { awk '/^Examples:/ { exit } /^  [a-z]/ { print $1 }'; }
check_help() {
  local option command
  while read -r option; do
    has_option "$ctl_page" "$option" || complain "man/blobcachectl.1 does not mention $* $option"
  done < <(ctl "$@" --help | options_of)
  while read -r command; do
    grep -qw -- "$command" <<<"$ctl_page" || complain "man/blobcachectl.1 does not mention $* $command"
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
