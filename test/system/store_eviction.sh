#!/bin/bash
# With a memory budget far below the data both doors still return the right bytes, and the budget holds.
# limit: 300 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdcopy
need_fuse

make_random "$TEST_DIR/image" 72M
make_random "$TEST_DIR/other" 24M
start_daemon --set store.memory=8MiB
mount_at "$MNT"
ctl put "$TEST_DIR/image" --name image >/dev/null
ctl put "$TEST_DIR/other" --name other >/dev/null
image=$(sha256_of "$TEST_DIR/image")
other=$(sha256_of "$TEST_DIR/other")
budget=$(status_of .memory.budget)
expect_equal $((8 << 20)) "$budget" "the memory budget"

read_through_nbd() { nbdcopy "$(nbd_uri files/image)" - | sha256_of - >"$TEST_DIR/digest.nbd.$1"; }
read_other_through_nbd() { nbdcopy "$(nbd_uri files/other)" - | sha256_of - >"$TEST_DIR/digest.other.$1"; }
read_through_fuse() {
  # Fresh pages from the daemon each time, not from the kernel's cache of the mount.
  dd if="$MNT/files/image" of=/dev/null iflag=nocache count=0 status=none
  sha256_of "$MNT/files/image" >"$TEST_DIR/digest.fuse.$1"
}

for round in 1 2 3; do
  readers=()
  for door in read_through_nbd read_other_through_nbd read_through_fuse; do
    in_background "$door" "$round"
    readers+=("$BACKGROUND_PID")
  done
  while kill -0 "${readers[0]}" 2>/dev/null || kill -0 "${readers[2]}" 2>/dev/null; do
    used=$(status_of .memory.used)
    ((used <= budget)) || fail "memory: $used used of a budget of $budget"
    sleep 0.05
  done
  wait "${readers[@]}"
  expect_equal "$image" "$(cat "$TEST_DIR/digest.nbd.$round")" "through NBD, round $round"
  expect_equal "$image" "$(cat "$TEST_DIR/digest.fuse.$round")" "through FUSE, round $round"
  expect_equal "$other" "$(cat "$TEST_DIR/digest.other.$round")" "the other one through NBD, round $round"
done
(($(status_of .memory.evicted) > 0)) || fail "nothing was evicted: the test measured something else"
unmount_at "$MNT"
stop_daemon
