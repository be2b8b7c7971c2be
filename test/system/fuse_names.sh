#!/bin/bash
# What names mean changes under a mount at once, though the kernel may remember names for an hour.
. "$(dirname "$0")/lib.sh"
need_fuse

make_random "$TEST_DIR/a" 300000
make_random "$TEST_DIR/b" 400000
mkdir "$MNT"
start_daemon --set "fuse.mountpoint=$MNT" --set fuse.entry_timeout=1h --set fuse.negative_timeout=1h

there() { [[ -e $MNT/$1 ]]; }
not_there() { [[ ! -e $MNT/$1 ]]; }
has_size() { [[ $(stat -c %s "$MNT/$1") == "$2" ]]; }

# The kernel learns that nothing is there, at each level; then it is.
for path in files/x files/x/y files/x/y/a; do not_there "$path" || fail "$path is there before its time"; done
ctl put "$TEST_DIR/a" --name x/y/a >/dev/null
wait_until 5 there files/x/y/a || fail "a new name in new directories cannot be seen"
digest=$(sha256_of "$TEST_DIR/a")
wait_until 5 there "blobs/$digest" || fail "a new blob cannot be seen"
expect_same "$TEST_DIR/a" "$MNT/files/x/y/a" "the first binding"

# Bound anew: the next open has the new bytes, without any wait; who has the old open keeps it.
exec {old}<"$MNT/files/x/y/a"
ctl put "$TEST_DIR/b" --name x/y/a >/dev/null
expect_same "$TEST_DIR/b" "$MNT/files/x/y/a" "the second binding"
wait_until 5 has_size files/x/y/a 400000 || fail "stat shows the old size"
cmp "$TEST_DIR/a" - <&"$old" || fail "a file that was open when its name was bound anew"
exec {old}<&-

# Removed, a directory at a time, and the blob in the end.
ctl rm files/x/y/a
wait_until 5 not_there files/x/y/a || fail "a removed name is still there"
ctl rm files/x/y
wait_until 5 not_there files/x/y || fail "a removed directory is still there"
ctl rm "blobs/$digest"
wait_until 5 not_there "blobs/$digest" || fail "a forgotten blob is still there"
expect_equal "" "$(find "$MNT/blobs" -name "$digest")" "what find sees of it"

stop_daemon
