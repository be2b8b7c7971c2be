#!/bin/bash
# A sparse file far larger than the disk budget takes what its data takes, on the wire, on disk and in memory.
. "$(dirname "$0")/lib.sh"
need jq nbdcopy truncate
need_fuse

start_daemon --set store.disk=64MiB --set store.memory=8MiB
truncate -s 1G "$TEST_DIR/image"
for at in 0 1000 200000 262143; do
  head -c 4096 /dev/urandom | dd of="$TEST_DIR/image" bs=4096 seek="$at" conv=notrunc status=none
done
ctl put "$TEST_DIR/image" --name image >/dev/null
used=$(status_of .disk.used)
((used < 2 * 1024 * 1024)) || fail "$used bytes of disk for 16 KiB of data"
expect_equal 4 "$(ctl --json stat files/image | jq '.residency | .pages - .zero_pages')" "pages of data"

mount_at "$MNT"
cmp "$TEST_DIR/image" "$MNT/files/image" || fail "the mount differs"
ctl get files/image -o "$TEST_DIR/copy"
cmp "$TEST_DIR/image" "$TEST_DIR/copy" || fail "the get differs"
(($(stat -c %b "$TEST_DIR/copy") < 1000)) || fail "the copy is not sparse"
nbdcopy "$(nbd_uri files/image)" null:
resident=$(status_of .memory.used)
((resident <= 1024 * 1024)) || fail "$resident bytes of memory for four extents"

# A file of data that cannot fit is refused before it is sent, with what to do about it.
head -c 80M /dev/urandom >"$TEST_DIR/dense"
expect_fail 1 'the disk budget .* is full.*dig holes' ctl put "$TEST_DIR/dense" --name dense
unmount_at "$MNT"
stop_daemon
