#!/bin/bash
# A killed daemon leaves a dead mount; the next one takes it away, says so and mounts anew.
. "$(dirname "$0")/lib.sh"
need_fuse
need_root

make_random "$TEST_DIR/a" 5M
mkdir "$MNT"
start_daemon --set "fuse.mountpoint=$MNT"
ctl put "$TEST_DIR/a" --name a >/dev/null
exec {open}<"$MNT/files/a"
head -c 100 <&"$open" >/dev/null
kill_daemon
expect_fail any "not connected" ls "$MNT"

start_daemon --set "fuse.mountpoint=$MNT"
grep -q "took away the mount that an earlier daemon left" "$DAEMON_LOG" || fail "the daemon does not tell of it"
expect_same "$TEST_DIR/a" "$MNT/files/a" "a file after the daemon came back"
expect_equal 1 "$(grep -cF " $MNT " /proc/self/mounts)" "mounts there"
exec {open}<&-

# A clean end leaves nothing, though a file is open.
exec {open}<"$MNT/files/a"
stop_daemon
exec {open}<&-
if mountpoint -q "$MNT"; then fail "still mounted after the daemon ended"; fi

# And a mount that somebody else takes away is the daemon's no more; it can be mounted again.
start_daemon --set "fuse.mountpoint=$MNT"
umount "$MNT"
mounts_again() { ctl mount "$MNT" 2>/dev/null; }
wait_until 10 mounts_again || fail "cannot be mounted again after umount"
expect_same "$TEST_DIR/a" "$MNT/files/a" "a file after umount and mount"
stop_daemon
