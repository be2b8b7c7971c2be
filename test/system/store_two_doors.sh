#!/bin/bash
# A file, an NBD export and get return the same bytes for one path: those that were put.
. "$(dirname "$0")/lib.sh"
need jq nbdcopy nbdinfo qemu-img qemu-io
need_fuse

make_random "$TEST_DIR/demo.img" 24M
make_random "$TEST_DIR/odd" 1234567
start_daemon
mount_at "$MNT"

for name in demo.img odd; do
  want=$(sha256_of "$TEST_DIR/$name")
  expect_equal "sha256:$want" "$(ctl put "$TEST_DIR/$name" --name "$name")" "the digest that put prints"
  expect_equal "$want" "$(sha256_of "$MNT/files/$name")" "$name through FUSE"
  expect_equal "$want" "$(sha256_of "$MNT/blobs/$want")" "$name through FUSE, as a blob"
  expect_equal "$want" "$(nbdcopy "$(nbd_uri "files/$name")" - | sha256_of -)" "$name through NBD"
  expect_equal "$want" "$(nbdcopy "$(nbd_uri "blobs/$want")" - | sha256_of -)" "$name through NBD, as a blob"
  expect_equal "$want" "$(ctl get "files/$name" | sha256_of -)" "$name through get"
  expect_equal "$(stat -c %s "$TEST_DIR/$name")" "$(stat -c %s "$MNT/files/$name")" "the size through FUSE"
  expect_equal "$(stat -c %s "$TEST_DIR/$name")" "$(nbdinfo --size "$(nbd_uri "files/$name")")" "the size through NBD"
done

# The same image for those who know images.
qemu-img compare -f raw -F raw "$(nbd_uri files/demo.img)" "$TEST_DIR/demo.img"
qemu-img compare -f raw -F raw "$MNT/files/demo.img" "$TEST_DIR/demo.img"
qemu-img convert -f raw -O raw "$(nbd_uri files/demo.img)" "$TEST_DIR/copy"
expect_same "$TEST_DIR/demo.img" "$TEST_DIR/copy" "qemu-img convert"

# What was put through one door is at once behind the other; a name bound anew changes both.
ctl put "$TEST_DIR/odd" --name demo.img >/dev/null
want=$(sha256_of "$TEST_DIR/odd")
expect_equal "$want" "$(nbdcopy "$(nbd_uri files/demo.img)" - | sha256_of -)" "a new binding through NBD"
expect_equal "$want" "$(sha256_of "$MNT/files/demo.img")" "a new binding through FUSE"

unmount_at "$MNT"
stop_daemon
