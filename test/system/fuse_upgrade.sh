#!/bin/bash
# Twenty upgrades under readers and writers: nothing is lost, what is open stays open, inodes and the process stay the
# same, and nobody waits for longer than ten seconds.
# limit: 300 seconds
. "$(dirname "$0")/lib.sh"
need fio jq python3
need_fuse
need_root
UPGRADES=${UPGRADES:-20}

make_random "$TEST_DIR/large" 8M
start_daemon --set 'store.settle_after="500ms"' --set 'log.level="info"'
mount_at "$MNT"
mkdir -p "$MNT/files/work/walk"
cp "$TEST_DIR/large" "$MNT/files/work/large"
for ((i = 0; i < 1500; i++)); do : >"$MNT/files/work/walk/a_rather_long_name_$i"; done
ctl put "$TEST_DIR/large" --name got >/dev/null
mkdir "$TEST_DIR/second"
ctl mount --read-only --subtree files/work "$TEST_DIR/second"
ctl volume create v --size 4M >/dev/null

# Clients of the mount, and of the other door, which has to connect anew, and gets the right bytes or none.
STOP=$TEST_DIR/stop
in_background python3 "$LIB_DIR/upgrade_clients.py" "$MNT/files/work" "$STOP" "$TEST_DIR/longest" \
  >"$TEST_DIR/clients.out" 2>&1
CLIENTS=$BACKGROUND_PID
get_in_a_loop() {
  while [[ ! -e $STOP ]]; do
    if ctl get files/got -o "$TEST_DIR/got" 2>/dev/null; then
      cmp "$TEST_DIR/large" "$TEST_DIR/got" >>"$TEST_DIR/get.wrong" || true
      echo >>"$TEST_DIR/get.rounds"
    fi
  done
}
in_background get_in_a_loop
GETTER=$BACKGROUND_PID
in_background fio --name=verify --directory="$MNT/files/work" --size=4M --rw=randwrite --bs=4k --ioengine=psync \
  --verify=crc32c --verify_backlog=64 --time_based --runtime=3600 \
  --output="$TEST_DIR/fio.out" --eta=never --verify_state_save=0
FIO=$BACKGROUND_PID

clients_are_at_work() { [[ -e $MNT/files/work/db && -e $MNT/files/work/lines && -s $TEST_DIR/get.rounds ]]; }
wait_until 30 clients_are_at_work || fail "the clients do not begin"
longest=0
for ((i = 1; i <= UPGRADES; i++)); do
  pause=$(ctl --json upgrade --binary "$BIN/blobcached" | jq -r '.pause_seconds') || fail "upgrade $i failed"
  longest=$(jq -n "[$longest, $pause] | max")
  kill -0 "$DAEMON_PID" 2>/dev/null || fail "upgrade $i: another process"
  expect_equal "$DAEMON_PID" "$(status_of .pid)" "the process after upgrade $i"
  kill -0 "$CLIENTS" 2>/dev/null || break
done
expect_equal "$UPGRADES" "$(grep -c 'upgrade: done' "$DAEMON_LOG")" "upgrades that the log tells of"

touch "$STOP"
wait "$CLIENTS" || { cat "$TEST_DIR/clients.out"; fail "a client of the mount has lost something"; }
wait "$GETTER" || fail "the client of the other door failed"
[[ ! -s $TEST_DIR/get.wrong ]] || fail "get gave wrong bytes"
end_process "$FIO" INT 20 || fail "fio does not end"
grep -q 'err= 0' "$TEST_DIR/fio.out" || { cat "$TEST_DIR/fio.out"; fail "fio found wrong bytes"; }
cat "$TEST_DIR/clients.out"
echo "pauses: $longest s at most; the longest operation took $(cat "$TEST_DIR/longest") s"
jq -ne "$longest < 10 and $(cat "$TEST_DIR/longest") < 10" >/dev/null || fail "somebody waited for too long"

expect_same "$TEST_DIR/large" "$MNT/files/work/large" "a file after all upgrades"
expect_same "$TEST_DIR/large" "$TEST_DIR/second/large" "a file through the other mount"
expect_same "$MNT/files/work/lines" "$TEST_DIR/second/lines" "what was written, through the other mount"
expect_fail any 'Read-only' touch "$TEST_DIR/second/large"
unmount_at "$TEST_DIR/second"
expect_equal 1 "$(grep -cF " $MNT " /proc/self/mounts)" "mounts there"
unmount_at "$MNT"
[[ -S $GRPC_SOCKET && -S $NBD_SOCKET ]] || fail "a socket is gone"
stop_daemon
[[ ! -e $GRPC_SOCKET && ! -e $NBD_SOCKET ]] || fail "a socket stays"
start_daemon
expect_equal "$(sha256_of "$TEST_DIR/large")" "$(ctl get files/work/large | sha256_of -)" "a file after a restart"
stop_daemon
