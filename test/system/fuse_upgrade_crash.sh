#!/bin/bash
# A daemon that dies, also in the middle of an upgrade, ends its mounts: who uses them gets an error, nobody hangs, and
# the next start mounts again.
. "$(dirname "$0")/lib.sh"
need jq python3
need_fuse
need_root

make_random "$TEST_DIR/a" 5M
mkdir "$MNT"
start_daemon --set "fuse.mountpoint=$MNT" --set 'log.level="info"'
ctl put "$TEST_DIR/a" --name a >/dev/null
# shellcheck disable=SC2016  # the script's own variables
printf '#!/bin/bash\nif [[ " $* " == *" --check "* ]]; then exec %q "$@"; fi\nkill -KILL $$\n' "$BIN/blobcached" \
  >"$TEST_DIR/dies"
chmod +x "$TEST_DIR/dies"

# use_until_it_ends HOW: a program that uses the mount until that fails.
in_a_loop() {
  python3 - "$MNT" "$1" <<'PY'
import errno, os, sys

folder, how = sys.argv[1:]
reader = os.open(f"{folder}/files/a", os.O_RDONLY)
writer = os.open(f"{folder}/files/{how}", os.O_RDWR | os.O_CREAT)
open(f"{folder}/files/{how}.begun", "w").close()
try:
    while True:
        if how == "reads":
            os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
            os.pread(reader, 1 << 20, 0)
        elif how == "writes":
            os.pwrite(writer, b"x" * 5000, 0)
        else:
            os.stat(f"{folder}/files/{os.getpid()}.{how}") if os.path.exists(f"{folder}/files/a") else os.stat(folder)
except OSError as error:
    # ENOENT: what the third does until the mount is gone.
    expected = (errno.ENOTCONN, errno.ECONNABORTED, errno.EIO)
    sys.exit(0 if error.errno in expected else f"{how}: {error}")
PY
}
names_end() {
  while stat "$MNT/files/a" >/dev/null 2>&1; do :; done
}
crash_under_load() {
  local how pids=()
  for how in reads writes; do
    in_background in_a_loop "$how"
    pids+=("$BACKGROUND_PID")
    wait_until 20 test -e "$MNT/files/$how.begun" || fail "$how does not begin"
  done
  in_background names_end
  pids+=("$BACKGROUND_PID")
  "$@"
  for how in "${pids[@]}"; do
    wait_until 20 process_is_gone "$how" || fail "a process hangs"
    wait "$how" || fail "a process ended in another way than by the mount's end"
  done
  expect_fail any "not connected" ls "$MNT"
}
die_in_upgrade() {
  ctl upgrade --binary "$TEST_DIR/dies" >"$TEST_DIR/upgrade.out" 2>&1 &
  BACKGROUND_PIDS+=("$!")
  wait_until 20 process_is_gone "$DAEMON_PID" || fail "the daemon lives"
  kill "$!" 2>/dev/null || true
  wait "$DAEMON_PID" 2>/dev/null || true
  DAEMON_PID=
}
mounted_again() {
  start_daemon --set "fuse.mountpoint=$MNT" --set 'log.level="info"'
  grep -q "took away the mount that an earlier daemon left" "$DAEMON_LOG" || fail "the daemon does not tell of it"
  expect_same "$TEST_DIR/a" "$MNT/files/a" "a file after the daemon came back"
  expect_equal 1 "$(grep -cF " $MNT " /proc/self/mounts)" "mounts there"
  rm -f "$MNT"/files/*.begun
}

crash_under_load kill_daemon
mounted_again
crash_under_load die_in_upgrade
mounted_again
ctl upgrade >/dev/null
expect_same "$TEST_DIR/a" "$MNT/files/a" "a file after an upgrade"
stop_daemon
if mountpoint -q "$MNT"; then fail "still mounted after the daemon ended"; fi
