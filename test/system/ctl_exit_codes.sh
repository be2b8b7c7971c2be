#!/bin/bash
# Exit statuses: 0 done, 1 the operation failed, 2 usage, 3 the daemon could not be reached; each error is one line.
. "$(dirname "$0")/lib.sh"

cd "$TEST_DIR"
echo words >file

# one_line CODE REGEX ARG...: as expect_fail, and nothing on stdout and exactly one line on stderr.
one_line() {
  local code=$1 regex=$2
  shift 2
  expect_fail "$code" "^blobcachectl: $regex" "$BIN/blobcachectl" "$@"
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines on stderr of: $*"
  expect_equal 0 "$(stat -c %s "$TEST_DIR/expect.out")" "bytes on stdout of: $*"
}

# --- 0 without a daemon
ctl --version | grep -Eq '^blobcachectl [0-9]+\.[0-9]+\.[0-9]+$' || fail "--version"
ctl --help | grep -q '^Usage: blobcachectl ' || fail "--help"
for command in put get ls stat name rm status exports mount umount config 'config check' 'config show' completion; do
  # shellcheck disable=SC2086  # a command of a command is two words
  ctl $command --help | grep -q "^Usage: blobcachectl $command" || fail "$command --help"
done
for shell in bash zsh fish; do
  ctl completion "$shell" | grep -q umount || fail "completion $shell"
done
bash -n <(ctl completion bash) || fail "bash does not understand its completion"
# fish, where it is: also what comes behind the commands that have commands.
if command -v fish >/dev/null; then
  ctl completion fish >"$TEST_DIR/completion.fish"
  offered() { fish --no-config -c "source '$TEST_DIR/completion.fish'; complete -C 'blobcachectl $1'"; }
  for line in 'volume create --s:--size' 'volume co:commit' 'config ch:check' 'config check --h:--help'; do
    offered "${line%:*}" | grep -q "^${line#*:}" || fail "fish offers nothing for: ${line%:*}"
  done
fi

# --- 2
one_line 2 'a command is missing; see blobcachectl --help'
one_line 2 'unknown command frobnicate' frobnicate
one_line 2 'config: a command is missing; see blobcachectl config --help' config
one_line 2 'ls: unknown option --frob; see blobcachectl ls --help' ls --frob
one_line 2 'put: FILE is required' put
one_line 2 'put: one argument too many, b' put a b
one_line 2 'get: -o needs a value|get: --output needs a value' get files/a -o
one_line 2 'get: --length is given more than once' get files/a --length 1 --length 2
one_line 2 'completion: ' completion csh
one_line 2 '--endpoint: bad address' --endpoint nonsense status
one_line 2 '--endpoint: bad address "tcp:host"' --endpoint tcp:host status
BLOBCACHE_ENDPOINT=nonsense one_line 2 'BLOBCACHE_ENDPOINT: bad address' status

# What can never be right is known without a daemon, whatever is wrong with it.
for bad in sha256:zz files/../x files//x; do
  for command in get stat ls rm; do one_line 2 "$command $bad: " "$command" "$bad"; done
done
one_line 2 'put --name: bad path' put file --name a/../b
one_line 2 'name a/./b: bad path' name a/./b "$(printf '%064d' 0)"

# --- 3: nobody, a socket that a dead daemon left, a file that is no socket, a port where nobody listens.
for command in 'put file' 'get files/a' ls 'stat files/a' 'rm files/a' status exports 'mount /mnt' 'umount /mnt' \
  'config show' "name a $(printf '%064d' 0)"; do
  # shellcheck disable=SC2086  # words
  one_line 3 "cannot reach unix:$GRPC_SOCKET: is blobcached running\?" $command
done
start_daemon
kill_daemon
[[ -S $GRPC_SOCKET ]] || fail "the killed daemon left no socket"
one_line 3 "cannot reach unix:$GRPC_SOCKET: is blobcached running\?" status
one_line 3 "cannot reach unix:$TEST_DIR/file: is blobcached running\?" --endpoint "$TEST_DIR/file" status
one_line 3 'cannot reach tcp:127.0.0.1:1: is blobcached running\?' --endpoint tcp:127.0.0.1:1 status
one_line 3 'cannot reach tcp:no-such-host.invalid:1: cannot resolve the host: ' \
  --endpoint tcp:no-such-host.invalid:1 status

# --- 0 and 1 with a daemon; its address by option, by environment, as a bare path.
start_daemon
ctl status >/dev/null
env -u BLOBCACHE_ENDPOINT "$BIN/blobcachectl" --endpoint "$GRPC_SOCKET" status >/dev/null
BLOBCACHE_ENDPOINT=$GRPC_SOCKET ctl status --endpoint "unix:$GRPC_SOCKET" >/dev/null
ctl put file --name dir/file >/dev/null
one_line 3 "cannot reach unix:$NBD_SOCKET: what listens there does not speak gRPC" --endpoint "$NBD_SOCKET" status
one_line 1 'get files/none: no such file' get files/none
one_line 1 'get none: no such file .*files/none' get none
one_line 1 'stat files/none: no such file' stat files/none
one_line 1 'ls files/none: no such file' ls files/none
one_line 1 'rm files/dir: .*not empty' rm files/dir
one_line 1 'rm blobs/.*: held by files/dir/file' rm "blobs/$(sha256_of file)"
one_line 1 'name x: .*no such blob' name x "$(printf '%064d' 0)"
one_line 1 'put nothing: cannot open it: No such file' put nothing
one_line 1 'put .: it is a directory' put .
one_line 1 'get files/dir/file: cannot create .*nowhere/x: No such file' get files/dir/file -o nowhere/x
one_line 1 'get files/dir/file: cannot write .: Is a directory' get files/dir/file -o .
one_line 1 'mount nowhere: .*does not exist' mount nowhere
one_line 1 'umount nowhere: .*no mount' umount nowhere
one_line 1 'config check: nothing.toml: No such file' config check nothing.toml
if (($(id -u) != 0)); then
  touch secret
  chmod 0 secret
  one_line 1 'put secret: cannot open it: Permission denied' put secret
fi

# A full or closed standard output is an error, too.
to_full() { ctl "$@" >/dev/full; }
expect_fail 1 '^blobcachectl: standard output: .*No space left' to_full status
to_closed() { ctl "$@" >&-; }
expect_fail 1 '^blobcachectl: standard output: ' to_closed status

stop_daemon
