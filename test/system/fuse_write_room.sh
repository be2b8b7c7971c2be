#!/bin/bash
# Room that files in the mount took is there again when they are removed, overwritten or written anew.
. "$(dirname "$0")/lib.sh"
need_fuse
need_root

start_daemon --set store.disk=64MiB --set store.volumes=64MiB --set store.settle_after=100ms
mount_at "$MNT"
all_settled() { [[ -z $(ls -A "$STORE/writing") ]]; }
make_random "$TEST_DIR/a" 10M

# What is removed before it has settled, and another write at once: twenty times what there is room for.
for i in $(seq 20); do
  cp "$TEST_DIR/a" "$MNT/files/a" || fail "writing it for the ${i}th time, after rm"
  rm "$MNT/files/a"
done

# What has settled and is removed, renamed over, or changed.
for i in $(seq 12); do
  cp "$TEST_DIR/a" "$MNT/files/$i"
  printf '%d' "$i" | dd of="$MNT/files/$i" conv=notrunc status=none
  wait_until 20 all_settled || fail "a file did not settle ($i)"
  rm "$MNT/files/$i"
done
cp "$TEST_DIR/a" "$MNT/files/b"
for i in $(seq 12); do
  printf '%d' "$i" | dd of="$MNT/files/b" conv=notrunc status=none
  printf '%d' "$i" | dd of="$TEST_DIR/a" conv=notrunc status=none
  wait_until 20 all_settled || fail "a file that was changed for the ${i}th time did not settle"
done
expect_same "$TEST_DIR/a" "$MNT/files/b" "what was changed over and over"
unmount_at "$MNT"
stop_daemon

# A long rest is no reason to keep what has no name.
start_daemon --set store.disk=64MiB --set store.volumes=32MiB --set store.settle_after=1h
mount_at "$MNT"
for i in $(seq 6); do
  cp "$TEST_DIR/a" "$MNT/files/c$i" || fail "after $i files that were removed before they had settled"
  rm "$MNT/files/c$i"
done
unmount_at "$MNT"
stop_daemon
