#!/bin/bash
# A stop does not wait for clients that stand still: a half put, and reads that nobody takes, through both
# network doors. What was put before is whole afterwards, and nothing of the half put is left.
. "$(dirname "$0")/lib.sh"
need mkfifo nbdcopy jq

make_random "$TEST_DIR/a" 40M
start_daemon
ctl put "$TEST_DIR/a" --name a >/dev/null
mkfifo "$TEST_DIR/in" "$TEST_DIR/out"
exec 7<>"$TEST_DIR/in" 8<>"$TEST_DIR/out"

stalled() { in_background "$BIN/blobcachectl" "$@" 7>&- 8>&-; }
stalled put - --name half <"$TEST_DIR/in"
head -c 200K "$TEST_DIR/a" >&7 &
stalled get files/a >"$TEST_DIR/out"
stalled get files/a >"$TEST_DIR/out"
in_background nbdcopy "$(nbd_uri files/a)" - >"$TEST_DIR/out" 7>&- 8>&-
all_are_there() { [[ $(status_of '"\(.grpc.open) \(.nbd.open)"') == "3 1" ]]; }
wait_until 30 all_are_there || fail "not all clients came: $(ctl --json status)"
# Its grace for clients is 2 seconds. Whether a connection has to be cut for it depends on what its buffers hold.
started=$SECONDS
stop_daemon
((SECONDS - started <= 15)) || fail "the stop took $((SECONDS - started)) seconds"
exec 7>&- 8>&-

start_daemon
expect_equal 1 "$(status_of .blobs)" "blobs after the stop"
ctl get files/a | cmp - "$TEST_DIR/a" || fail "what was put before"
stop_daemon
