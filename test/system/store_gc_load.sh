#!/bin/bash
# gc in a loop beside puts, names and removals never takes what was acknowledged with a name, nor a put under way.
. "$(dirname "$0")/lib.sh"
need jq

cd "$TEST_DIR"
rounds=${ROUNDS:-12}
start_daemon
for i in 1 2 3 4; do make_random "content$i" "$((i * 400))K"; done

# Puts names of its own over and over, with content of its own, and reads each back at once.
putter() {
  local me=$1 round
  for ((round = 0; round < rounds; round++)); do
    # Bytes that no other put has.
    { echo "$me $round"; cat "content$me"; } >"mine$me"
    ctl put "mine$me" --name "load/$me/$round" >/dev/null || return 1
    ctl get "files/load/$me/$round" | cmp - "mine$me" || return 1
    # A second name, then the first goes: the blob is never without one.
    ctl name "load/$me/other$round" "sha256:$(sha256_of "mine$me")" || return 1
    ctl rm "files/load/$me/$round" || return 1
    ctl get "files/load/$me/other$round" | cmp - "mine$me" || return 1
    # One that loses its only name is anybody's.
    echo "gone $me $round" | ctl put - --name "load/$me/gone" >/dev/null || return 1
    ctl rm "files/load/$me/gone" || return 1
  done
}

collector() {
  while [[ ! -e stop ]]; do
    ctl gc --expire-now >/dev/null || return 1
    ctl gc --dry-run --expire-now >/dev/null || return 1
  done
}

in_background collector
collector_pid=$BACKGROUND_PID
# A put that takes as long as the whole test.
mkfifo slow
in_background ctl put slow --name load/slow >/dev/null
slow_pid=$BACKGROUND_PID
exec 9>slow
head -c 2M /dev/zero | tr '\0' s >&9

pids=()
for me in 1 2 3; do
  in_background putter "$me"
  pids+=("$BACKGROUND_PID")
done
for pid in "${pids[@]}"; do wait "$pid" || fail "a client of the load failed"; done
exec 9>&-
wait "$slow_pid" || fail "the put that was under way"
touch stop
wait "$collector_pid" || fail "gc failed"

verify() {
  local me round
  for me in 1 2 3; do
    for ((round = 0; round < rounds; round++)); do
      ctl get "files/load/$me/other$round" | cmp - <(echo "$me $round" && cat "content$me") || fail "$me $round"
    done
  done
  ctl get files/load/slow | cmp - <(head -c 2M /dev/zero | tr '\0' s) || fail "the slow put"
}
verify
# The last blobs that lost their names, if the loop ended before it saw them.
ctl gc --expire-now >/dev/null
ctl scrub --rate unlimited | grep -q "^$((3 * rounds + 1)) objects, .*: no damage\$" || fail "a scrub after it"
expect_equal $((3 * rounds + 1)) "$(status_of .blobs)" "blobs"
stop_daemon
start_daemon
verify
stop_daemon
