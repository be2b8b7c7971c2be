#!/bin/bash
# A second daemon on a store, or on a socket, that is in use refuses to start and disturbs nothing.
. "$(dirname "$0")/lib.sh"
need jq

make_random "$TEST_DIR/file" 3M
start_daemon
ctl put "$TEST_DIR/file" --name file >/dev/null

# The same store behind other sockets.
expect_fail any "(in use|locked|already).*$DAEMON_PID|$DAEMON_PID.*(in use|locked|already|holds)" \
  daemon_once --set "nbd.listen=[\"unix:$TEST_DIR/nbd2.sock\"]" --set "grpc.listen=[\"unix:$TEST_DIR/grpc2.sock\"]"
[[ ! -e $TEST_DIR/grpc2.sock ]] || fail "the second daemon left its socket"

# The same sockets over another store.
mkdir "$TEST_DIR/store2"
expect_fail any 'in use' daemon_once --set "store.path=$TEST_DIR/store2"

ctl get files/file | cmp - "$TEST_DIR/file" || fail "the first daemon after the second tries"
stop_daemon

# The lock goes with its holder, however that ends.
start_daemon
kill_daemon
start_daemon
ctl get files/file | cmp - "$TEST_DIR/file" || fail "after a killed holder"
stop_daemon
