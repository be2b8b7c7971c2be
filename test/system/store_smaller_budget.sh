#!/bin/bash
# A store that holds more than its disk budget allows starts with one warning: all can be read, and puts are
# refused until enough is removed. A budget beyond the file system's size is a warning, too.
. "$(dirname "$0")/lib.sh"
warnings() { grep -c " warning store\.disk: $1" "$DAEMON_LOG" || true; }

make_random "$TEST_DIR/a" 6M
make_random "$TEST_DIR/b" 6M
make_random "$TEST_DIR/c" 1M
start_daemon --set store.disk=1MiB
expect_equal 0 "$(warnings '')" "warnings about a budget that fits"
stop_daemon

start_daemon --set store.disk=100PiB
expect_equal 1 "$(warnings '100\.0 PiB is more than the whole file system')" "warnings about a large budget"
ctl put "$TEST_DIR/a" --name a >/dev/null
ctl put "$TEST_DIR/b" --name b >/dev/null
stop_daemon

start_daemon --set store.disk=8MiB
expect_equal 1 "$(warnings '12\.0 MiB are kept, and the budget is 8\.0 MiB: puts are refused until')" "warnings"
for file in a b; do ctl get "files/$file" | cmp - "$TEST_DIR/$file" || fail "$file with a smaller budget"; done
expect_fail 1 'budget of 8\.0 MiB is full: 12\.0 MiB kept' ctl put "$TEST_DIR/c" --name c
ctl rm files/a
ctl rm "blobs/$(sha256_of "$TEST_DIR/a")"
ctl put "$TEST_DIR/c" --name c >/dev/null
ctl get files/c | cmp - "$TEST_DIR/c" || fail "what was put once there was room"
stop_daemon

start_daemon --set store.disk=8MiB
expect_equal 0 "$(warnings '')" "warnings once it fits"
stop_daemon
