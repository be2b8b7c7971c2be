#!/bin/bash
# Two readers who want the same cold pages at the same time cost one read of the disk.
. "$(dirname "$0")/lib.sh"
need jq nbdcopy curl

size=$((48 * 1024 * 1024))
make_random "$TEST_DIR/image" "$size"
start_daemon --set store.memory=128MiB
ctl put "$TEST_DIR/image" --name image >/dev/null
want=$(sha256_of "$TEST_DIR/image")
stop_daemon

read_through_nbd() { nbdcopy "$(nbd_uri files/image)" - | sha256_of - >"$TEST_DIR/digest.$1"; }

# Pages that a reader wanted and found on their way already, for another.
shared_pages() {
  local port
  port=$(sed -n 's/.*metrics listens on tcp:127\.0\.0\.1:\([0-9]*\).*/\1/p' "$DAEMON_LOG")
  curl -sf "http://127.0.0.1:$port/metrics" | awk '$1 == "blobcache_shared_flight_pages_total" { print $2 + 0 }'
}

# A round in which the readers did not want a page at the same time shows nothing, and is repeated.
met=0
for ((round = 1; round <= 20 && met < 3; round++)); do
  start_daemon --set store.memory=128MiB
  readers=()
  # Both are at the door when it opens.
  kill -STOP "$DAEMON_PID"
  for reader in a b; do
    in_background read_through_nbd "$reader"
    readers+=("$BACKGROUND_PID")
  done
  kill -CONT "$DAEMON_PID"
  wait "${readers[@]}"
  for reader in a b; do
    expect_equal "$want" "$(cat "$TEST_DIR/digest.$reader")" "reader $reader of round $round"
  done
  moved=$(status_of .disk_read_bytes)
  ((moved >= size)) || fail "only $moved of $size bytes came from disk: the test measured something else"
  # Page maps and one extent read twice at a border are well within a tenth.
  ((moved <= size + size / 10)) || fail "two readers read $moved bytes of an object of $size"
  shared=$(shared_pages)
  echo "round $round: $shared pages were wanted by both at the same time"
  if ((shared > 0)); then met=$((met + 1)); fi
  stop_daemon
done
((met == 3)) || fail "the readers met in $met of $((round - 1)) rounds only"
