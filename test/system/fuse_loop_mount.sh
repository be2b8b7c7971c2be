#!/bin/bash
# A file system image in the tree can be loop-mounted straight from its FUSE path, and its files are right.
. "$(dirname "$0")/lib.sh"
need mkfs.ext4
need_fuse
need_loop

# An image with files in it, made without mounting anything.
mkdir -p "$TEST_DIR/root/d"
make_random "$TEST_DIR/root/d/big" 9M
make_random "$TEST_DIR/root/small" 777
truncate -s 32M "$TEST_DIR/image"
mkfs.ext4 -q -d "$TEST_DIR/root" "$TEST_DIR/image"

start_daemon
mount_at "$MNT"
ctl put "$TEST_DIR/image" --name images/ext4.raw >/dev/null
mkdir "$TEST_DIR/inner"
mount -o ro,loop "$MNT/files/images/ext4.raw" "$TEST_DIR/inner" || skip "the kernel cannot loop-mount ext4"
expect_same "$TEST_DIR/root/d/big" "$TEST_DIR/inner/d/big" "a file in the image"
expect_same "$TEST_DIR/root/small" "$TEST_DIR/inner/small" "a small file in the image"

# The loop device holds the file: its name may go, its bytes stay.
ctl rm files/images/ext4.raw
echo 3 >/proc/sys/vm/drop_caches 2>/dev/null || true
expect_same "$TEST_DIR/root/d/big" "$TEST_DIR/inner/d/big" "a file in an image whose name is gone"

umount "$TEST_DIR/inner"
unmount_at "$MNT"
stop_daemon
