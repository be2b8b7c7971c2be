#!/bin/bash
# The times of a file stay what they were told to be when it settles, and when the daemon stops or is killed.
. "$(dirname "$0")/lib.sh"
need getfattr
need_fuse
need_root

start_daemon --set store.settle_after=1h
mount_at "$MNT"
printf x >"$MNT/files/written"
sleep 0.05
printf y >>"$MNT/files/written"
printf x >"$MNT/files/set"
touch -d '2001-02-03 04:05:06.789' "$MNT/files/set"
chmod 600 "$MNT/files/set"
times() { (cd "$MNT/files" && stat -c '%n %y %z' written set); }
times >"$TEST_DIR/times"
stop_daemon
start_daemon --set store.settle_after=1h
mount_at "$MNT"
diff "$TEST_DIR/times" <(times) || fail "times after a restart"
stop_daemon

start_daemon --set store.settle_after=10ms
mount_at "$MNT"
settled() { [[ $(getfattr --absolute-names --only-values -n user.blobcache.settled "$1" 2>/dev/null) == 1 ]]; }
for name in written set; do wait_until 20 settled "$MNT/files/$name" || fail "$name did not settle"; done
diff "$TEST_DIR/times" <(times) || fail "times after settling"
printf z >>"$MNT/files/written"
times >"$TEST_DIR/times"
wait_until 20 settled "$MNT/files/written" || fail "it did not settle again"
diff "$TEST_DIR/times" <(times) || fail "times after a write and settling"
kill_daemon
start_daemon
mount_at "$MNT"
diff "$TEST_DIR/times" <(times) || fail "times after a kill"
unmount_at "$MNT"
stop_daemon
