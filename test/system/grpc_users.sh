#!/bin/bash
# Who may open the socket reads everything and makes new names, replaces only names of his own, and administers
# nothing; a TCP listener that asks for neither token nor certificate lets nobody administer.
. "$(dirname "$0")/lib.sh"
need setpriv
need_root

cd "$TEST_DIR"
# What the others need: a way to the socket, and a program that they may run.
chmod 0755 "$TEST_DIR"
chmod o+x "$(dirname "$TEST_DIR")"
cp "$BIN/blobcachectl" "$TEST_DIR/blobcachectl"
echo one >one
echo two >two
chmod 0644 one two

# as UID CMD...: in group 50000, which the socket is opened to below.
as() {
  local uid=$1
  shift
  setpriv --reuid "$uid" --regid 50000 --clear-groups "$@"
}
ctl_as() { as "$1" "$TEST_DIR/blobcachectl" "${@:2}"; }

# refused REGEX CMD...: status 1 and one line.
refused() {
  expect_fail 1 "$@"
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines on stderr of: ${*:2}"
}

start_daemon --set "grpc.listen=unix:$GRPC_SOCKET,tcp:127.0.0.1:0"
expect_fail 3 'Permission denied' ctl_as 50001 stat files
chgrp 50000 "$GRPC_SOCKET"

# --- Owners.
ctl_as 50001 put one --name d/x >/dev/null
ctl put one --name root >/dev/null
not_his() {
  refused "put two: files/$1: belongs to uid $2; only its owner or an administrator may replace it" "${@:3}"
}
not_his d/x 50001 ctl_as 50002 put two --name d/x
not_his root 0 ctl_as 50001 put two --name root
expect_same one <(ctl_as 50002 get files/d/x) "what another user reads"
expect_same one <(ctl_as 50002 get files/root) "what another user reads of root's"
ctl_as 50002 put two --name d/y >/dev/null
ctl_as 50002 put two --name e/f/z >/dev/null
ctl_as 50001 put two --name d/x >/dev/null
expect_same two <(ctl get files/d/x) "after its owner put it anew"
ctl put one --name d/y >/dev/null
not_his d/y 0 ctl_as 50002 put two --name d/y
expect_equal "$(printf 'd\ne\nroot')" "$(ctl ls files)" "names after all that"
for command in ls status 'rm files/e/f/z' "name e/f/z sha256:$(sha256_of one)" 'mount /mnt' 'config show'; do
  # shellcheck disable=SC2086  # words
  refused 'needs root' ctl_as 50002 $command
done

# --- TCP without a guard: everybody who reaches it is a stranger, root too.
tcp_endpoint() { sed -n 's/.*grpc listens on \(tcp:127\.0\.0\.1:[0-9]*\).*/\1/p' "$DAEMON_LOG"; }
tcp=$(tcp_endpoint)
for command in ls status 'rm root' "name e/f/z sha256:$(sha256_of one)" 'mount /mnt' 'config show'; do
  # shellcheck disable=SC2086  # words
  refused 'use the unix socket, or configure grpc.token_file or grpc.tls_client_ca' ctl --endpoint "$tcp" $command
done
expect_same two <(ctl_as 50002 --endpoint "$tcp" get files/d/x) "a get over TCP"
ctl_as 50002 --endpoint "$tcp" put two --name new >/dev/null
not_his root 0 ctl --endpoint "$tcp" put two --name root
not_his new 0 ctl --endpoint "$tcp" put two --name new
expect_same one <(ctl get files/root) "root's file after all that"
stop_daemon

# --- With a token over TCP, who has it may do all.
(umask 077 && echo secret >token)
start_daemon --set "grpc.listen=unix:$GRPC_SOCKET,tcp:127.0.0.1:0" --set "grpc.token_file=$TEST_DIR/token"
tcp=$(tcp_endpoint)
refused 'put two: .*needs a token.*--token-file' ctl --endpoint "$tcp" put two --name root
ctl --endpoint "$tcp" --token-file token put two --name root >/dev/null
ctl --endpoint "$tcp" --token-file token rm files/d/x
expect_same two <(ctl get files/root) "a name that the token's holder replaced"
stop_daemon
