#!/bin/bash
# While it is upgraded a daemon asks nothing of its own mount, which waits for it: also when fuse.mountpoint names it,
# and the kernel has forgotten what it knew of it. And a program that ends before it can do anything is told of.
. "$(dirname "$0")/lib.sh"
need jq python3
need_fuse
need_root

PROGRAMS=$TEST_DIR/programs
mkdir "$PROGRAMS" "$MNT"
# program NAME LINE...: a program that passes its trial, and when it is started in earnest does as the lines say.
program() {
  {
    echo '#!/bin/bash'
    # shellcheck disable=SC2016  # for the script
    echo 'for word in "$@"; do [[ $word != --check ]] || exec "'"$BIN/blobcached"'" "$@"; done'
    printf '%s\n' "${@:2}"
  } >"$PROGRAMS/$1"
  chmod 0755 "$PROGRAMS/$1"
}
program slow 'sleep 1' "exec \"$BIN/blobcached\" \"\$@\""
program dies 'kill -SEGV $$'

start_daemon --set "fuse.mountpoint=\"$MNT\"" --set 'fuse.entry_timeout="100ms"'
echo content >"$MNT/files/a"

# Idle: nothing of the mount is in the kernel any more.
sleep 0.5
ctl upgrade >/dev/null
sleep 0.5
ctl upgrade --binary "$PROGRAMS/slow" >/dev/null

# In use until the moment at which it waits.
in_background python3 -c 'import os, sys, time
while os.path.ismount(sys.argv[1]):
    time.sleep(0.005)' "$MNT"
for _ in 1 2 3; do
  timeout 30 "$BIN/blobcachectl" upgrade --binary "$PROGRAMS/slow" >/dev/null || fail "an upgrade of a mount in use"
  expect_equal content "$(cat "$MNT/files/a")" "what the mount has"
done

# What ends before its first lines takes the daemon along. That is told, and soon.
begun=$SECONDS
expect_fail 1 'upgrade: the daemon has ended while it was upgraded' ctl upgrade --binary "$PROGRAMS/dies"
((SECONDS - begun < 15)) || fail "it took $((SECONDS - begun)) seconds to tell that the daemon is gone"
wait_until 10 process_is_gone "$DAEMON_PID" || fail "the daemon is still there"
DAEMON_PID=
start_daemon --set "fuse.mountpoint=\"$MNT\""
expect_equal content "$(cat "$MNT/files/a")" "what the next start shows"
stop_daemon
