#!/bin/bash
# A file of which little is stored takes little room, whatever its length; room that is not there is refused at once.
. "$(dirname "$0")/lib.sh"
need getfattr fallocate qemu-io tar
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

# du tells what is stored: while it is written, and when it has settled; cp makes no hole a page of zeros.
kib_of() { du -k "$1" | cut -f1; }
truncate -s 300M "$MNT/files/holes"
# (A page, since an archiver takes a file without any for zeros, and a mapping may have changed it.)
expect_equal 4 "$(kib_of "$MNT/files/holes")" "du of a file that is a hole"
dd if="$TEST_DIR/a" of="$MNT/files/holes" bs=1M seek=200 conv=notrunc status=none
expect_equal 1024 "$(kib_of "$MNT/files/holes")" "du of a file under writing"
is_blob() { [[ $(getfattr --absolute-names --only-values -n user.blobcache.settled "$1" 2>/dev/null) == 1 ]]; }
wait_until 20 is_blob "$MNT/files/holes" || fail "the file did not settle"
expect_equal 1024 "$(kib_of "$MNT/files/holes")" "du of a file that has settled"
cp "$MNT/files/holes" "$TEST_DIR/holes"
expect_same "$MNT/files/holes" "$TEST_DIR/holes" "a copy of a sparse file"
(($(kib_of "$TEST_DIR/holes") < 2000)) || fail "the copy is not sparse"
tar -C "$MNT/files" -S -cf "$TEST_DIR/holes.tar" holes
tar -C "$TEST_DIR" -xf "$TEST_DIR/holes.tar"
expect_same "$MNT/files/holes" "$TEST_DIR/holes" "tar --sparse of it"
# A little of it written anew: what comes from the blob is there, and is no hole.
printf 'new' | dd of="$MNT/files/holes" bs=1 seek=5 conv=notrunc status=none
printf 'new' | dd of="$TEST_DIR/holes" bs=1 seek=5 conv=notrunc status=none
tar -C "$MNT/files" -S -cf "$TEST_DIR/holes.tar" holes
mkdir "$TEST_DIR/out"
tar -C "$TEST_DIR/out" -xf "$TEST_DIR/holes.tar"
expect_same "$TEST_DIR/holes" "$TEST_DIR/out/holes" "tar --sparse of a file over a blob"
rm "$MNT/files/holes"
ctl volume create v --size 16M >/dev/null
expect_equal 4 "$(kib_of "$MNT/volumes/v")" "du of a new volume"
qemu-io -f raw -c 'write -P 7 1M 256k' "$(nbd_uri volumes/v)" >/dev/null
blocks_are() { [[ $(kib_of "$MNT/volumes/v") == "$1" ]]; }
wait_until 20 blocks_are 256 || fail "du of a volume: $(kib_of "$MNT/volumes/v")"
ctl volume rm v

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
