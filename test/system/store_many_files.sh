#!/bin/bash
# Far more files than descriptors: all are read, through every door, and the doors stay open.
. "$(dirname "$0")/lib.sh"
need jq prlimit nbdcopy
need_fuse

# shellcheck disable=SC2034  # for start_daemon
DAEMON_PREFIX=(prlimit --nofile=300:300)
start_daemon
mkdir "$TEST_DIR/in"
for ((i = 0; i < 400; i++)); do echo "file $i" >"$TEST_DIR/in/$i"; done
for ((i = 0; i < 400; i++)); do ctl put "$TEST_DIR/in/$i" --name "many/$i" >/dev/null; done
mount_at "$MNT"
diff -r "$TEST_DIR/in" "$MNT/files/many" || fail "the mount differs"
for ((i = 0; i < 400; i += 20)); do
  ctl get "files/many/$i" | cmp - "$TEST_DIR/in/$i" || fail "get of $i"
  nbdcopy "$(nbd_uri "files/many/$i")" "$TEST_DIR/copy"
  expect_same "$TEST_DIR/in/$i" "$TEST_DIR/copy" "the export of $i"
done
descriptors=$(find "/proc/$DAEMON_PID/fd" -mindepth 1 | wc -l)
((descriptors < 250)) || fail "$descriptors of 300 descriptors are in use"
ctl status >/dev/null
ctl rm files/many/7
ctl put "$TEST_DIR/in/7" --name many/again >/dev/null
unmount_at "$MNT"
stop_daemon
