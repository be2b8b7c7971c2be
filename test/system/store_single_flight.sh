#!/bin/bash
# Two readers who want the same cold pages at the same time cost one read of the disk.
. "$(dirname "$0")/lib.sh"
need jq nbdcopy

size=$((48 * 1024 * 1024))
make_random "$TEST_DIR/image" "$size"
start_daemon --set store.memory=128MiB
ctl put "$TEST_DIR/image" --name image >/dev/null
want=$(sha256_of "$TEST_DIR/image")
stop_daemon

read_through_nbd() { nbdcopy "$(nbd_uri files/image)" - | sha256_of - >"$TEST_DIR/digest.$1"; }
for round in 1 2 3; do
  start_daemon --set store.memory=128MiB
  readers=()
  for reader in a b; do
    in_background read_through_nbd "$reader"
    readers+=("$BACKGROUND_PID")
  done
  wait "${readers[@]}"
  for reader in a b; do
    expect_equal "$want" "$(cat "$TEST_DIR/digest.$reader")" "reader $reader of round $round"
  done
  moved=$(status_of .disk_read_bytes)
  ((moved >= size)) || fail "only $moved of $size bytes came from disk: the test measured something else"
  # Page maps and one extent read twice at a border are well within a tenth.
  ((moved <= size + size / 10)) || fail "two readers read $moved bytes of an object of $size"
  stop_daemon
done
