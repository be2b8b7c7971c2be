#!/bin/bash
# Whatever is wrong at a start, blobcached says it in one line, exits 1 (2 for its command line), and leaves
# nothing half-started behind.
. "$(dirname "$0")/lib.sh"

# refused REGEX ARG...: a start that fails with status 1 and exactly one line, and leaves no socket.
refused() {
  local regex=$1
  shift
  expect_fail 1 "^blobcached: $regex" daemon_once "$@"
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines on stderr for: $*"
  [[ ! -e $GRPC_SOCKET && ! -e $NBD_SOCKET ]] || fail "a socket is left after: $*"
}

# file_refused REGEX LINE...: the same for a configuration file of these lines.
file_refused() {
  local regex=$1
  shift
  printf '%s\n' "$@" >"$TEST_DIR/bad.toml"
  expect_fail 1 "^blobcached: .*bad\.toml:$regex" "$BIN/blobcached" --config "$TEST_DIR/bad.toml"
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines on stderr for: $*"
}

# The command line.
expect_fail 2 '^blobcached: .*--nonsense' "$BIN/blobcached" --nonsense
expect_fail 2 '^blobcached: .*extra' "$BIN/blobcached" extra
expect_fail 2 '^blobcached: .*--config' "$BIN/blobcached" --config
"$BIN/blobcached" --version | grep -Eq '^blobcached [0-9]+\.[0-9]+\.[0-9]+$' || fail "--version"
"$BIN/blobcached" --help | grep -q -- --config || fail "--help"

# The configuration.
file_refused '2: store\.memry: unknown key \(did you mean "memory"\?\)' '[store]' 'memry = "1GiB"'
file_refused '2: store\.memory: bad size "12Q": unknown unit' '[store]' 'memory = "12Q"'
file_refused '1: \[stroe\]: unknown section \(did you mean "store"\?\)' '[stroe]'
file_refused '2: fuse\.allow_other: must be true or false' '[fuse]' 'allow_other = 1'
file_refused '2: store\.unnamed_ttl: bad duration' '[store]' 'unnamed_ttl = "a day"'
file_refused '2: nbd\.listen: bad address' '[nbd]' 'listen = ["127.0.0.1:10809"]'
file_refused '2: nbd\.listen: tcp:0\.0\.0\.0:10809 lets other machines in' '[nbd]' 'listen = ["tcp:0.0.0.0:10809"]'
file_refused '2: grpc\.listen: tcp:\[::\]:7440 lets other machines in' '[grpc]' 'listen = ["tcp:[::]:7440"]'
file_refused '2: metrics\.listen: tcp:0\.0\.0\.0:9440 lets other machines in' '[metrics]' 'listen = "0.0.0.0:9440"'
file_refused '3: origin\.type: "ftp" is no type of origin' '[[origin]]' 'name = "hub"' 'type = "ftp"'
file_refused '1: origin\.url: is needed' '[[origin]]' 'name = "hub"' 'type = "http"'
file_refused '1: origin\.url: is needed' '[[origin]]' 'name = "hub"' 'type = "nbd"'
file_refused '4: origin\.url: an NBD url: only nbd' '[[origin]]' 'name = "hub"' 'type = "nbd"' 'url = "http://h/"'
file_refused '2: cluster\.peers: this version' '[cluster]' 'peers = ["b=tcp:192.0.2.2:7440"]'
file_refused '2: nbd\.tls: needs nbd\.tls_certificates or nbd\.tls_psk' '[nbd]' 'tls = "require"'
file_refused '[0-9]+:[0-9]+: ' '[store]' 'memory = "1GiB'
refused '--set: store\.memry: unknown key' --set store.memry=1GiB
refused '--set: "store\.memory": must be KEY=VALUE' --set store.memory
expect_fail 1 'nothere\.toml: No such file' "$BIN/blobcached" --config "$TEST_DIR/nothere.toml"
expect_fail 1 'Is a directory' "$BIN/blobcached" --config "$TEST_DIR"

# What only this machine or a door can tell is told by --check, too.
file_refused '2: grpc\.admin_group: there is no group "no_such_group"' '[grpc]' 'admin_group = "no_such_group"'
file_refused '2: nbd\.exports: export pattern "\[": brackets have no meaning' '[nbd]' 'exports = ["["]'
file_refused '2: store\.path: "st": must be an absolute path' '[store]' 'path = "st"'
file_refused '2: fuse\.mountpoint: "mnt": must be an absolute path' '[fuse]' 'mountpoint = "mnt"'
file_refused '2: nbd\.listen: bad address "unix:s": a unix socket needs an absolute path' '[nbd]' 'listen = ["unix:s"]'
refused '--set: store\.path: "st": must be an absolute path' --set store.path=st
refused '--set: fuse\.mountpoint: "mnt": must be an absolute path' --set fuse.mountpoint=mnt
refused '--set: grpc\.listen: bad address "unix:s": a unix socket needs' --set grpc.listen=unix:s
refused "--set: fuse\.mountpoint: $STORE/mnt: it lies beneath the store, $STORE" --set "fuse.mountpoint=$STORE/mnt"
refused "--set: fuse\.mountpoint: $TEST_DIR: it contains the store, $STORE" --set "fuse.mountpoint=$TEST_DIR"

# Budgets that this machine cannot give.
file_refused '3: store\.memory: 100TiB is more than this (machine|control group).s [0-9.]+ [MGT]iB$' \
  '[store]' '' 'memory = "100TiB"'
file_refused '2: store\.disk_reserve: 100% leaves nothing' '[store]' 'disk_reserve = "100%"'
refused 'store\.disk_reserve: 1\.0 PiB leaves nothing of the file system of .*/store' --set store.disk_reserve=1PiB
for set in store.memory=100TiB store.disk_reserve=100%; do
  expect_fail 1 "^blobcached: --set: ${set%%=*}: " daemon_once --check --set "$set"
done
rm -rf "$STORE"

# --check prints every problem, and starts nothing.
printf '[store]\nmemry = "1"\n[nbd]\ntls = 3\n' >"$TEST_DIR/two.toml"
expect_fail 1 'nbd\.tls' "$BIN/blobcached" --config "$TEST_DIR/two.toml" --check
expect_equal 2 "$(wc -l <"$TEST_DIR/expect.err")" "problems that --check prints"
[[ $(daemon_once --check) == "$CONFIG: OK" ]] || fail "--check of a good file"
[[ ! -e $GRPC_SOCKET && -z $(ls -A "$STORE") ]] || fail "--check started something"

for set in grpc.admin_group=no_such_group 'nbd.exports=["["]' store.path=st "fuse.mountpoint=$STORE"; do
  expect_fail 1 "^blobcached: --set: ${set%%=*}: " daemon_once --check --set "$set"
done

# The store.
refused "store\.path: $TEST_DIR/no/store: the directory $TEST_DIR/no is missing" --set "store.path=$TEST_DIR/no/store"
touch "$TEST_DIR/plain"
refused "store\.path: $TEST_DIR/plain: is no directory" --set "store.path=$TEST_DIR/plain"
refused 'store\.path: /proc cannot hold a store: its file system lets no files be made' --set store.path=/proc
refused '--set: store\.memory: 1MiB is too little' --set store.memory=1MiB

# The sockets.
for missing in "$TEST_DIR/no" "$TEST_DIR/no/no"; do
  for door in grpc nbd; do
    refused "$door\.listen: unix:$missing/s: the directory $missing is missing; make it first" \
      --set "$door.listen=unix:$missing/s"
  done
done
[[ ! -e $TEST_DIR/no ]] || fail "a directory was made for a socket"
refused "nbd\.listen: unix:$TEST_DIR/plain/s: $TEST_DIR/plain: is no directory" \
  --set "nbd.listen=unix:$TEST_DIR/plain/s"
refused 'grpc\.listen: .*in use' --set "grpc.listen=unix:$TEST_DIR/plain"
refused '--set: grpc\.admin_group: there is no group "no_such_group"' --set grpc.admin_group=no_such_group
refused 'grpc: .*nothere' --set grpc.listen=tcp:127.0.0.1:0 --set "grpc.token_file=$TEST_DIR/nothere"

refused '--set: nbd\.exports: export pattern "/a"' --set nbd.exports=/a

# A port in use, on each listener in turn.
start_daemon --set 'nbd.listen=["tcp:127.0.0.1:0"]'
nbd_port=$(sed -n 's/.*nbd listens on tcp:127\.0\.0\.1:\([0-9]*\).*/\1/p' "$DAEMON_LOG")
metrics_port=$(sed -n 's/.*metrics listens on tcp:127\.0\.0\.1:\([0-9]*\).*/\1/p' "$DAEMON_LOG")
[[ -n $nbd_port && -n $metrics_port ]] || fail "the log does not tell the ports"
other=(--set "store.path=$TEST_DIR/other" --set "nbd.listen=[]" --set "grpc.listen=[]" --set metrics.listen=)
for try in "nbd.listen=tcp:127.0.0.1:$nbd_port" "grpc.listen=tcp:127.0.0.1:$nbd_port" \
  "metrics.listen=127.0.0.1:$metrics_port"; do
  expect_fail 1 "^blobcached: ${try%%=*}: .*in use" daemon_once "${other[@]}" --set "$try"
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines on stderr for $try"
done
stop_daemon

# The mountpoint; the sockets that were open by then go away again.
refused "fuse\.mountpoint: .*$TEST_DIR/no" --set "fuse.mountpoint=$TEST_DIR/no"
refused "fuse\.mountpoint: .*$TEST_DIR/plain" --set "fuse.mountpoint=$TEST_DIR/plain"
if [[ -c /dev/fuse && -w /dev/fuse ]]; then
  mkdir "$TEST_DIR/full"
  touch "$TEST_DIR/full/file"
  refused "fuse\.mountpoint: .*$TEST_DIR/full.*not empty" --set "fuse.mountpoint=$TEST_DIR/full"
fi
