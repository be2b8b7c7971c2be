#!/bin/bash
# A directory whose file system hangs, as a file server's does that is away: who reads there is told in time, nobody
# else waits, the daemon ends in time, and all is well when the file system is back.
# limit: 180 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdfuse nbdkit
need_fuse

SHARE=$TEST_DIR/share
mkdir "$SHARE" "$TEST_DIR/well"
make_random "$TEST_DIR/well/a" 1M
make_random "$TEST_DIR/image" 32M
# A file system of another process, which can be stopped.
nbdfuse -r "$SHARE" --command nbdkit -s -r file "$TEST_DIR/image" &
BACKGROUND_PIDS+=("$!")
HUNG_PID=$!
wait_until 20 test -f "$SHARE/nbd" || skip "nbdfuse mounts nothing here"

write_config
for name in share well; do
  cat >>"$CONFIG" <<TOML

[[origin]]
name = "$name"
type = "dir"
path = "$TEST_DIR/$name"
connections = 2
request_timeout = "2s"
TOML
done
start_daemon
ctl get origins/share/nbd --length 1MiB -o "$TEST_DIR/got"
cmp -n 1048576 "$TEST_DIR/image" "$TEST_DIR/got" || fail "the bytes while all is well"
in_background ctl get origins/share/nbd -o "$TEST_DIR/none"
kill -STOP "$HUNG_PID"

for _ in 1 2 3 4 5 6; do
  in_background ctl get origins/share/nbd --offset 16MiB --length 1MiB -o "$TEST_DIR/none"
  in_background ctl ls origins/share
done
# Whoever asks is told, by the time or because no thread is left.
expect_fail 1 'no answer within|does not answer' timeout 30 "$BIN/blobcachectl" ls origins/share
expect_fail 1 'no answer within|does not answer' timeout 30 "$BIN/blobcachectl" stat origins/share/nbd
reachable() { ctl --json status | jq -c '.origins[] | select(.name == "share") | .reachable'; }
expect_equal false "$(reachable)" "an origin that hangs"
ctl get origins/well/a -o "$TEST_DIR/well.got"
expect_same "$TEST_DIR/well/a" "$TEST_DIR/well.got" "the other origin"

kill -CONT "$HUNG_PID"
answers() { ctl get origins/share/nbd --offset 20MiB --length 1MiB -o "$TEST_DIR/got" 2>/dev/null; }
wait_until 30 answers || fail "nothing comes when the file system is back"
cmp "$TEST_DIR/got" <(dd if="$TEST_DIR/image" bs=1M skip=20 count=1 status=none) || fail "the bytes when it is back"
expect_equal true "$(reachable)" "an origin that is back"

# The daemon ends while it hangs.
kill -STOP "$HUNG_PID"
in_background ctl get origins/share/nbd --offset 24MiB -o "$TEST_DIR/none"
in_background ctl ls origins/share
end_process "$DAEMON_PID" TERM 15 || fail "the daemon waits for a file system that hangs"
stop_daemon
kill -CONT "$HUNG_PID"
