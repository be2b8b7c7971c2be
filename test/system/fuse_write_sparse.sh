#!/bin/bash
# A file of which little is stored takes little room, whatever its length; room that is not there is refused at once.
. "$(dirname "$0")/lib.sh"
need getfattr fallocate qemu-io
need_fuse
need_root

start_daemon --set store.disk=64MiB --set store.volumes=64MiB --set store.settle_after=100ms
mount_at "$MNT"

# What cannot be had is asked for: an error, soon, and nothing of it stays.
truncate -s 1T "$MNT/files/big"
expect_fail 1 'No space left' timeout 60 fallocate -l 500G "$MNT/files/taken"
expect_fail 1 'No space left' timeout 60 fallocate -z -o 0 -l 500G "$MNT/files/big"
make_random "$TEST_DIR/a" 1M
cp "$TEST_DIR/a" "$MNT/files/a" || fail "a write after a fallocate that was refused"
expect_same "$TEST_DIR/a" "$MNT/files/a" "what was written"
rm "$MNT/files/big"

# A sparse file settles, and can be read through the other doors.
truncate -s 100M "$MNT/files/sparse"
printf 'end' >>"$MNT/files/sparse"
settled() { [[ $(getfattr --absolute-names --only-values -n user.blobcache.settled "$1" 2>/dev/null) == 1 ]]; }
wait_until 20 settled "$MNT/files/sparse" || fail "a sparse file that is longer than store.disk did not settle"
ctl get files/sparse -o "$TEST_DIR/sparse" || fail "get of a sparse file"
expect_same "$MNT/files/sparse" "$TEST_DIR/sparse" "the sparse file"
qemu-io -f raw -r -c 'read -P 0 0 1M' "$(nbd_uri files/sparse)" >/dev/null || fail "NBD of a sparse file"
unmount_at "$MNT"
stop_daemon
