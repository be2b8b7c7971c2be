#!/bin/bash
# A volume is written to through both doors, which agree at once; its size is fixed, and a snapshot is for reading.
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io nbdcopy mkfs.ext4 fallocate tar
need_fuse
need_root

start_daemon
mount_at "$MNT"
ctl volume create vm1 --size 64M
volume=$MNT/volumes/vm1

# Through FUSE, seen through NBD; and the reverse, by a handle that was open before.
make_random "$TEST_DIR/part" 1000000
exec {open}<"$volume"
dd if="$TEST_DIR/part" of="$volume" bs=64K seek=3 conv=notrunc,fsync status=none
qemu-io -f raw -r -c 'read -P 0 0 4096' "$(nbd_uri volumes/vm1)" >/dev/null || fail "the beginning is not zeros"
nbdcopy "$(nbd_uri volumes/vm1)" "$TEST_DIR/image"
cmp -n 1000000 -i 0:196608 "$TEST_DIR/part" "$TEST_DIR/image" || fail "what FUSE wrote, read through NBD"
qemu-io -f raw -c 'write -P 0x5a 12345 77777' "$(nbd_uri volumes/vm1)" >/dev/null
head -c 77777 /dev/zero | tr '\0' '\132' >"$TEST_DIR/want"
dd if="/proc/self/fd/$open" of="$TEST_DIR/got" iflag=skip_bytes,count_bytes skip=12345 count=77777 bs=4K status=none
expect_same "$TEST_DIR/want" "$TEST_DIR/got" "what NBD wrote, read through FUSE"
exec {open}<&-

# Holes: punched through FUSE, seen through NBD, and told by SEEK_HOLE.
fallocate -p -o 0 -l 1M "$volume"
qemu-io -f raw -r -c 'read -P 0 0 1M' "$(nbd_uri volumes/vm1)" >/dev/null || fail "a punched hole is not zeros"
nbdinfo --map "$(nbd_uri volumes/vm1)" | head -n 1 | grep -q 'hole,zero' || fail "block status of a punched hole"
expect_equal 1048576 "$(python3 -c '
import os, sys
print(os.lseek(os.open(sys.argv[1], os.O_RDONLY), 0, os.SEEK_DATA))' \
  "$volume" 2>&1 | sed 's/.*No such device.*/none/')" "where the data begins"

# Tools for images.
mkfs.ext4 -q -F "$volume" || fail "mkfs.ext4"
e2fsck -fn "$volume" >/dev/null || fail "e2fsck"
qemu-img convert -n -f raw -O raw "$TEST_DIR/image" "$volume"
qemu-img compare -f raw -F raw "$TEST_DIR/image" "$volume" || fail "qemu-img compare through FUSE"
qemu-img compare -f raw -F raw "$TEST_DIR/image" "$(nbd_uri volumes/vm1)" || fail "qemu-img compare through NBD"

# A volume keeps its size.
expect_fail any 'No space left|File too large' dd if=/dev/zero of="$volume" bs=1M seek=64 count=1 conv=notrunc \
  status=none
expect_fail 1 'Operation not permitted|Invalid argument' truncate -s 32M "$volume"
expect_equal 67108864 "$(stat -c %s "$volume")" "the size of a volume"
ctl volume snapshot vm1 snap
expect_fail any 'Read-only|Permission denied' dd if=/dev/zero of="$MNT/volumes/snap" count=1 conv=notrunc status=none

# What was synced through FUSE survives a kill, as does what was not.
printf 'not synced' | dd of="$volume" bs=1 seek=5000000 conv=notrunc status=none
kill_daemon
start_daemon
mount_at "$MNT"
expect_equal 'not synced' "$(dd if="$volume" bs=1 skip=5000000 count=10 status=none)" "a write before the kill"
unmount_at "$MNT"
stop_daemon

# An archiver that looks for holes by the count of blocks must not take a volume for zeros: not after a write, not after
# one by another door of which the kernel has not asked yet.
start_daemon
mount_at "$MNT"
ctl volume create tarred --size 4M >/dev/null
(($(stat -c %b "$MNT/volumes/tarred") > 0)) || fail "a volume that may be written to has no blocks"
for round in 1 2 3; do
  make_random "$TEST_DIR/r" 640K
  dd if="$TEST_DIR/r" of="$MNT/volumes/tarred" bs=64k conv=notrunc,fsync status=none
  (($(stat -c %b "$MNT/volumes/tarred") > 0)) || fail "round $round: a volume that was written to has no blocks"
  tar -cSf "$TEST_DIR/t.tar" -C "$MNT/volumes" tarred
  mkdir "$TEST_DIR/x$round"
  tar -xSf "$TEST_DIR/t.tar" -C "$TEST_DIR/x$round"
  cmp -n 655360 "$TEST_DIR/r" "$TEST_DIR/x$round/tarred" || fail "round $round: tar -S lost what was written"
done
unmount_at "$MNT"
stop_daemon
