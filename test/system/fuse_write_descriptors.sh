#!/bin/bash
# Many files that are written at once do not use up the daemon's descriptors, and do not keep others from writing.
. "$(dirname "$0")/lib.sh"
need python3 tar prlimit
need_fuse
need_root

# Few descriptors, as in some containers, and many small files: all are written, and settle.
mkdir "$TEST_DIR/in"
for i in $(seq 1500); do echo "$i" >"$TEST_DIR/in/$i"; done
tar -C "$TEST_DIR/in" -cf "$TEST_DIR/in.tar" .
DAEMON_PREFIX=(prlimit --nofile=1024:1024)
start_daemon
mount_at "$MNT"
mkdir "$MNT/files/x"
tar -C "$MNT/files/x" -xf "$TEST_DIR/in.tar" || fail "tar x with 1,024 descriptors"
diff -r "$TEST_DIR/in" "$MNT/files/x" || fail "what tar wrote"
ctl status >"$TEST_DIR/status" || fail "status"
all_settled() { [[ -z $(ls -A "$STORE/writing") ]]; }
wait_until 30 all_settled || fail "not everything settled"
stop_daemon

# One process that holds more files open than there may be unsettled: others go on.
DAEMON_PREFIX=(prlimit --nofile=16384:16384)
start_daemon
mount_at "$MNT"
# shellcheck disable=SC2016  # Python's
in_background prlimit --nofile=4096:4096 python3 -c '
import os, sys, time
held = []
try:
    for i in range(2500):
        held.append(os.open(sys.argv[1] + "/h%d" % i, os.O_CREAT | os.O_RDWR))
        os.write(held[-1], b"x")
except OSError as e:
    print(e)
open(sys.argv[2], "w").close()
time.sleep(1000)' "$MNT/files/x" "$TEST_DIR/opened"
wait_until 30 test -e "$TEST_DIR/opened" || fail "opening 2,500 files, or an error for some, takes more than 30 seconds"
timeout 5 bash -c "echo new >'$MNT/files/new'" || fail "another process cannot make a file meanwhile"
expect_equal new "$(cat "$MNT/files/new")" "what it wrote"
kill "$BACKGROUND_PID"
unmount_at "$MNT"
stop_daemon
