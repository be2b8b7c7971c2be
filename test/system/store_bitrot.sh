#!/bin/bash
# A byte that changed on disk is an error to the reader of its page, never wrong bytes; other pages are read.
. "$(dirname "$0")/lib.sh"
need jq nbdcopy qemu-io
need_fuse

size=$((8 * 1024 * 1024))
make_random "$TEST_DIR/image" "$size"
start_daemon
ctl put "$TEST_DIR/image" --name image >/dev/null
stop_daemon

# L1 is page-aligned at the object's own offsets: the object's file is the one that holds the image's bytes.
object=
while read -r file; do
  if cmp -s -n "$size" "$file" "$TEST_DIR/image"; then object=$file; fi
done < <(find "$STORE/objects" -type f -size "+$((size / 1024 - 1))k")
[[ -n $object ]] || fail "no file under objects/ holds the image's bytes at their own offsets"

bad=$((1234 * 4096))
printf 'X' | dd of="$object" bs=1 seek=$((bad + 17)) conv=notrunc status=none
if cmp -s -n "$size" "$object" "$TEST_DIR/image"; then
  printf 'Y' | dd of="$object" bs=1 seek=$((bad + 17)) conv=notrunc status=none
fi

start_daemon
mount_at "$MNT"
for _ in 1 2; do
  expect_fail any 'Input/output error' dd if="$MNT/files/image" of=/dev/null bs=4096 skip=1234 count=1
  expect_fail 1 '^blobcachectl: ' ctl get files/image --offset "$bad" --length 4096 -o "$TEST_DIR/part"
  expect_fail 1 '^blobcachectl: ' ctl get files/image -o "$TEST_DIR/part"
  expect_fail any 'Input/output error' nbdcopy "$(nbd_uri files/image)" "$TEST_DIR/part"
done
(($(status_of .checksum_errors) >= 1)) || fail "no checksum error was counted"
(($(status_of .read_errors) >= 1)) || fail "no read error was counted"

# All other pages, up to the bad one's neighbours, through every door.
ctl get files/image --length "$bad" | cmp - <(head -c "$bad" "$TEST_DIR/image") || fail "get of what is before"
ctl get files/image --offset $((bad + 4096)) | cmp - <(tail -c +$((bad + 4097)) "$TEST_DIR/image") ||
  fail "get of what is behind"
dd if="$MNT/files/image" of="$TEST_DIR/part" bs=4096 count=1234 status=none
cmp "$TEST_DIR/part" <(head -c "$bad" "$TEST_DIR/image") || fail "FUSE of what is before"
qemu-io -r -f raw -c "read $((bad + 4096)) $((size - bad - 4096))" "$(nbd_uri files/image)" >/dev/null
# qemu-io tells of it on standard output.
qemu_read() { qemu-io -r -f raw -c "read $1 $2" "$(nbd_uri files/image)" >&2; }
expect_fail any 'Input/output error' qemu_read "$bad" 4096

# Putting the same content again makes it whole, under its old name too.
heal() {
  ctl put "$TEST_DIR/image" --name again >/dev/null
  for name in image again; do
    ctl get files/$name -o "$TEST_DIR/part"
    expect_same "$TEST_DIR/image" "$TEST_DIR/part" "files/$name after a second put"
    expect_same "$TEST_DIR/image" "$MNT/files/$name" "files/$name through the mount after a second put"
    nbdcopy "$(nbd_uri files/$name)" "$TEST_DIR/part"
    expect_same "$TEST_DIR/image" "$TEST_DIR/part" "the export files/$name after a second put"
  done
}
heal
unmount_at "$MNT"

# A file that is gone altogether: the same error through every door, stat counts nothing on disk, a put heals.
stop_daemon
find "$STORE/objects" -type f -delete
start_daemon
mount_at "$MNT"
expect_fail any 'Input/output error' cat "$MNT/files/image"
expect_fail 1 '^blobcachectl: .*gone' ctl get files/image -o "$TEST_DIR/part"
expect_fail any 'Input/output error' nbdcopy "$(nbd_uri files/image)" "$TEST_DIR/part"
expect_equal 0 "$(ctl --json stat files/image | jq .residency.disk_pages)" "pages on disk of a file that is gone"
heal
unmount_at "$MNT"
stop_daemon
