#!/bin/bash
# kill -9 in the middle of a put leaves nothing half-visible and no file, and what was put before is intact.
# Environment: SEED, of the moments of chance (made up and printed otherwise).
# limit: 300 seconds
. "$(dirname "$0")/lib.sh"
need jq

SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
echo "SEED=$SEED"
RANDOM=$((SEED % 32768))

make_random "$TEST_DIR/before" 9M
make_random "$TEST_DIR/victim" 40M
victim=$(sha256_of "$TEST_DIR/victim")

mkfifo "$TEST_DIR/pipe"
# put_part BYTES: starts a put that stays unfinished after so many bytes of the victim.
put_part() {
  # Both ends are held open, so that the client never sees an end.
  exec 9<>"$TEST_DIR/pipe"
  in_background "$BIN/blobcachectl" put - --name demo/victim <"$TEST_DIR/pipe" >"$TEST_DIR/put.out" 2>&1 9>&-
  put=$BACKGROUND_PID
  in_background head -c "$1" "$TEST_DIR/victim" >&9
}
put_has_begun() { [[ -n $(find "$STORE/tmp" -type f) ]]; }
received() { put_has_begun && (($(ctl --json status | jq .grpc.bytes_in) >= $1)); }
no_temporary_files() { [[ -z $(find "$STORE/tmp" -type f 2>/dev/null) ]]; }

# The store holds one kept blob, and its objects/ folder nothing beside it.
files_of_objects() { find "$STORE/objects" -type f | wc -l; }
objects_are() { [[ $(files_of_objects) == "$1" ]]; }

start_daemon
ctl put "$TEST_DIR/before" --name demo/before >/dev/null
objects=$(files_of_objects)

check_nothing_left() {
  expect_fail 1 'demo/victim' ctl get files/demo/victim
  expect_fail 1 'blobcachectl: ' ctl stat "sha256:$victim"
  ctl get files/demo/before | cmp - "$TEST_DIR/before" || fail "what was put before, $1"
  wait_until 30 no_temporary_files || fail "left in tmp/, $1: $(find "$STORE/tmp" -type f)"
  wait_until 30 objects_are "$objects" || fail "left in objects/, $1: $(find "$STORE/objects" -type f)"
  expect_equal 1 "$(status_of .blobs)" "blobs, $1"
}

for point in 2000000 5000000 20000000 33333333; do
  base=$(status_of .grpc.bytes_in)
  put_part "$point"
  # What client and wire hold back is bounded; the rest is surely there.
  wanted=$((point > 8388608 ? point - 8388608 : 1))
  wait_until 60 received $((base + wanted)) || fail "the put of $point bytes did not arrive"
  kill_daemon
  # The client, which waits for its input, has not noticed yet.
  end_process "$put" TERM 10
  exec 9>&-
  start_daemon
  check_nothing_left "killed after $point bytes"
done

# Killed at a moment of chance around the commit: the whole blob or nothing, and the whole if put said so.
for _ in 1 2 3 4 5 6; do
  ctl put "$TEST_DIR/victim" --name demo/victim >"$TEST_DIR/put.out" 2>/dev/null &
  put=$!
  sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
  kill_daemon
  answered=no
  if wait "$put"; then answered=yes; fi
  start_daemon
  if ctl get files/demo/victim -o "$TEST_DIR/back" 2>/dev/null; then
    expect_same "$TEST_DIR/victim" "$TEST_DIR/back" "the victim after a kill"
    ctl rm files/demo/victim
    ctl rm "blobs/$victim"
  elif [[ $answered == yes ]]; then
    fail "a put was answered, and is gone after a kill"
  elif ctl stat "sha256:$victim" >/dev/null 2>&1; then
    fail "a put with a name left the blob without it"
  fi
  check_nothing_left "killed at a moment of chance"
done
stop_daemon
