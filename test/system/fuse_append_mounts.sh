#!/bin/bash
# What several processes append to one file through two mounts at the very same moment is all there, each record once,
# whole and in its process's order; also while somebody else empties the file.
. "$(dirname "$0")/lib.sh"
need python3
need_fuse
need_root

start_daemon --set store.settle_after=100ms
mount_at "$MNT"
mount_at "$TEST_DIR/second"
records=$SOURCE_DIR/test/system/append_records.py

# append_all PROCESSES COUNT MOST: through both mounts by turns.
append_all() {
  local pids=() i mount
  : >"$MNT/files/log"
  for ((i = 0; i < $1; ++i)); do
    mount=$MNT
    ((i % 2 == 0)) || mount=$TEST_DIR/second
    in_background python3 "$records" write "$mount/files/log" "$i" "$2" "$3"
    pids+=("$BACKGROUND_PID")
  done
  for i in "${pids[@]}"; do wait "$i" || fail "an appender failed"; done
}

for sizes in '4 1500 200' '6 300 9000' '3 40 900000'; do
  # shellcheck disable=SC2086  # words
  append_all $sizes
  read -r processes count most <<<"$sizes"
  # By a door that has no cache, and by each mount within moments.
  ctl get files/log -o "$TEST_DIR/got"
  python3 "$records" check "$TEST_DIR/got" "$processes" "$count" "$most" || fail "records of up to $most bytes"
  for mount in "$MNT" "$TEST_DIR/second"; do
    wait_until 10 cmp -s "$TEST_DIR/got" "$mount/files/log" || fail "$mount shows something else"
  done
done

# Somebody empties it meanwhile: no append is behind a hole.
in_background python3 "$records" write "$MNT/files/log" 1 2000 3000
one=$BACKGROUND_PID
in_background python3 "$records" write "$TEST_DIR/second/files/log" 2 2000 3000
two=$BACKGROUND_PID
for _ in $(seq 30); do : >"$TEST_DIR/second/files/log"; done
for pid in "$one" "$two"; do wait "$pid" || fail "an appender failed"; done
ctl get files/log -o "$TEST_DIR/got"
expect_equal 0 "$(tr -dc '\0' <"$TEST_DIR/got" | wc -c)" "bytes of holes"
expect_equal '<' "$(head -c 1 "$TEST_DIR/got")" "how the file begins"
unmount_at "$TEST_DIR/second"
unmount_at "$MNT"
stop_daemon
