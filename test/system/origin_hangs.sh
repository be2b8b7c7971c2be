#!/bin/bash
# An upstream that hangs, as stopped servers do, is in nobody's way: lists go without it and say so, what others have is
# served, and the daemon ends in time, whatever waits for it.
# limit: 180 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdkit nbdinfo nbdcopy

mkdir "$TEST_DIR/images"
make_random "$TEST_DIR/images/a.img" 4M
for name in hung well; do
  nbdkit -f -U "$TEST_DIR/$name.sock" file dir="$TEST_DIR/images" &
  BACKGROUND_PIDS+=("$!")
  [[ $name == well ]] || HUNG_PID=$!
  wait_until 20 test -S "$TEST_DIR/$name.sock" || fail "nbdkit does not listen"
done

write_config
for name in hung well; do
  cat >>"$CONFIG" <<TOML

[[origin]]
name = "$name"
type = "nbd"
url = "nbd+unix:///?socket=$TEST_DIR/$name.sock"
TOML
done
start_daemon

expect_equal '["origins/hung/a.img","origins/well/a.img"]' \
  "$(ctl --json exports | jq -c '[.exports[].name]')" "exports while all is well"
nbdinfo --json "$(nbd_uri origins/well/a.img)" >/dev/null

# A read of it is under way, and more, when it hangs.
in_background nbdcopy "$(nbd_uri origins/hung/a.img)" "$TEST_DIR/copy"
kill -STOP "$HUNG_PID"
in_background ctl stat origins/hung/none
expect_equal '["origins/well/a.img"]' "$(ctl --json exports | jq -c '[.exports[].name]')" "exports without it"
ctl exports | grep -q '^\.\.\. but for origins/hung: ' || fail "exports does not say what is missing"
nbdinfo --list "$(nbd_uri '')" >"$TEST_DIR/list" || fail "nbdinfo --list fails"
grep -q 'origins/well/a\.img' "$TEST_DIR/list" || fail "nbdinfo lists nothing of the other origin"
nbdcopy "$(nbd_uri origins/well/a.img)" "$TEST_DIR/well"
expect_same "$TEST_DIR/images/a.img" "$TEST_DIR/well" "the other origin"

in_background ctl ls origins/hung
in_background ctl get origins/hung/a.img -o "$TEST_DIR/got"
# Far less than the requests' own 30 s.
end_process "$DAEMON_PID" TERM 15 || fail "the daemon waits for a server that hangs"
stop_daemon
kill -CONT "$HUNG_PID"

# One that does not open is no export that is not there.
end_process "$HUNG_PID" KILL 10
start_daemon
nbdinfo "$(nbd_uri origins/hung/a.img)" >"$TEST_DIR/refused" 2>&1 && fail "an export of a dead server is opened"
grep -q 'nbd: origins/hung/a.img cannot be opened: ' "$DAEMON_LOG" || fail "the log does not say why"
stop_daemon
