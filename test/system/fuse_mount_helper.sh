#!/bin/bash
# A line in fstab mounts by mount(8) and unmounts by umount(8); what the helper cannot do it says.
# runs alone
. "$(dirname "$0")/lib.sh"
need_fuse
need_root
need mount umount findmnt jq pgrep

# mount(8) finds its helper in /sbin and nowhere else.
helper=/sbin/mount.blobcache
[[ ! -e $helper && ! -L $helper ]] || skip "$helper is there already"
ln -s "$(realpath "$BIN")/blobcachectl" "$helper" 2>/dev/null || skip "needs to make $helper"
# shellcheck disable=SC2317  # called by the trap
without_helper() {
  local status=$?
  rm -f "$helper"
  (exit "$status")
  cleanup
}
trap without_helper EXIT

mkdir "$MNT" "$TEST_DIR/part" "$TEST_DIR/later" "$TEST_DIR/wrong"
fstab=$TEST_DIR/fstab
socket=endpoint=unix:$GRPC_SOCKET
cat >"$fstab" <<FSTAB
blobcache $MNT            blobcache defaults,_netdev,nofail,x-systemd.requires=blobcached.service,$socket 0 0
blobcache $TEST_DIR/part  blobcache ro,noexec,noauto,subtree=files/a\\040b,$socket 0 0
blobcache $TEST_DIR/later blobcache noauto,wait=60,$socket 0 0
blobcache $TEST_DIR/wrong blobcache noauto,$socket,frob=1 0 0
FSTAB
by_fstab() { mount -T "$fstab" "$@"; }

# Nobody is there.
unset BLOBCACHE_ENDPOINT
expect_fail 32 "mount.blobcache: cannot reach unix:$GRPC_SOCKET: is blobcached running" by_fstab "$MNT"

start_daemon
ctl() { "$BIN/blobcachectl" --endpoint "unix:$GRPC_SOCKET" "$@"; }
by_fstab "$MNT"
expect_equal "blobcache fuse.blobcache" "$(findmnt -n -o SOURCE,FSTYPE "$MNT" | tr -s ' ')" "what is mounted"
mkdir "$MNT/files/a b"
echo hello >"$MNT/files/a b/x"
cp /bin/true "$MNT/files/a b/program"
chmod 755 "$MNT/files/a b/program"

by_fstab "$TEST_DIR/part"
expect_equal hello "$(cat "$TEST_DIR/part/x")" "a file of the subtree"
expect_fail 1 "Read-only file system" touch "$TEST_DIR/part/y"
expect_fail 126 "Permission denied" "$TEST_DIR/part/program"
"$MNT/files/a b/program"
shown=$(ctl --json status | jq -c '.mounts[] | select(.subtree != "") | {subtree, read_only, no_exec}')
expect_equal '{"subtree":"files/a b","read_only":true,"no_exec":true}' "$shown" "the mount, as the daemon has it"

# Those that are mounted are left alone by mount -a.
by_fstab -a -t blobcache
expect_equal 1 "$(grep -cF " $MNT " /proc/self/mounts)" "mounts after mount -a"

# umount(8) unmounts, and the same line mounts again.
is_free() { ! ctl --json status | jq -e --arg at "$1" '.mounts | map(.mountpoint) | index($at)' >/dev/null; }
umount "$MNT"
wait_until 10 is_free "$MNT" || fail "the daemon still has the mount that umount took away"
by_fstab "$MNT"
[[ -d $MNT/files ]] || fail "nothing is mounted the second time"
umount "$TEST_DIR/part"

# Somebody in it: umount(8) refuses, as for any file system, and blobcachectl does it lazily.
(
  cd "$MNT/files"
  expect_fail 32 'target is busy' umount "$MNT"
  ctl umount "$MNT"
)
if mountpoint -q "$MNT"; then fail "still mounted after blobcachectl umount"; fi

# What cannot be, says why.
on_wrong() { mount -t blobcache "$@" "$TEST_DIR/wrong"; }
expect_fail 1 'unknown option frob=1' by_fstab "$TEST_DIR/wrong"
expect_fail 1 'option allow_other: fuse.allow_other' on_wrong -o "$socket,allow_other" blobcache
expect_fail 1 'source files/a: must be blobcache' on_wrong -o "$socket" files/a
expect_fail 1 'must be a unix socket' on_wrong -o endpoint=tcp:127.0.0.1:1 blobcache
expect_fail 32 'subtree files/none: there is no such directory' on_wrong -o "$socket,subtree=files/none" blobcache
expect_fail 32 'subtree files/a b/x: it is not a directory' on_wrong -o "$socket,subtree=files/a b/x" blobcache
touch "$TEST_DIR/wrong/file"
expect_fail 32 'it is not empty' on_wrong -o "$socket" blobcache
rm "$TEST_DIR/wrong/file"
by_fstab "$MNT"
expect_fail 1 'option remount: a mount cannot be changed' by_fstab -o remount,ro "$MNT"

# Flags.
mount -f -t blobcache -o "$socket" blobcache "$TEST_DIR/wrong"
if mountpoint -q "$TEST_DIR/wrong"; then fail "mount -f mounts"; fi
mount -s -n -t blobcache -o "$socket,frob=1" blobcache "$TEST_DIR/wrong"
mountpoint -q "$TEST_DIR/wrong" || fail "mount -s does not mount"
umount "$TEST_DIR/wrong"
expect_equal "mount.blobcache: files/a b on $TEST_DIR/wrong, read-only" \
  "$("$helper" blobcache "$TEST_DIR/wrong" -v -o "ro,subtree=files/a b,$socket")" "what -v says"
umount "$TEST_DIR/wrong"

# What a killed daemon left is taken away, here as elsewhere.
kill_daemon
expect_fail any 'not connected' ls "$MNT"
start_daemon
by_fstab "$MNT"
[[ -d $MNT/files ]] || fail "the dead mount is still there"
expect_equal 1 "$(grep -cF " $MNT " /proc/self/mounts)" "mounts after a dead one"

# A daemon that comes up a moment later is waited for.
stop_daemon
in_background mount -T "$fstab" "$TEST_DIR/later"
waits=$BACKGROUND_PID
wait_until 10 pgrep -f "mount.blobcache blobcache $TEST_DIR/later" >/dev/null || fail "the helper does not wait"
start_daemon
wait_until 20 mountpoint -q "$TEST_DIR/later" || fail "mount did not wait for the daemon"
wait "$waits"
umount "$TEST_DIR/later"
stop_daemon
