#!/bin/bash
# blobcached starts, says ready, reloads on SIGHUP, and stops on SIGTERM and SIGINT with nothing left behind.
. "$(dirname "$0")/lib.sh"
need curl

# Ready is the last line of the start, at every log level.
start_daemon --set log.level=error
expect_equal 1 "$(wc -l <"$DAEMON_LOG")" "lines of a quiet start"
stop_daemon
[[ ! -e $GRPC_SOCKET && ! -e $NBD_SOCKET ]] || fail "a socket is left"

# The service manager hears of it. (A datagram socket that writes what it receives to a file.)
if command -v socat >/dev/null; then
  in_background socat -u "UNIX-RECV:$TEST_DIR/notify" "CREATE:$TEST_DIR/notified"
  wait_until 10 test -S "$TEST_DIR/notify" || fail "socat does not listen"
  DAEMON_PREFIX=(env "NOTIFY_SOCKET=$TEST_DIR/notify")
  start_daemon
  wait_until 10 grep -q READY=1 "$TEST_DIR/notified" || fail "no READY=1"
  stop_daemon
  wait_until 10 grep -q STOPPING=1 "$TEST_DIR/notified" || fail "no STOPPING=1"
  DAEMON_PREFIX=(env)
fi

# The store is made for the daemon alone, and a socket in a directory that is there.
rm -rf "$STORE"
mkdir -m 0750 "$TEST_DIR/run"
start_daemon --set "store.path=$TEST_DIR/made" --set "grpc.listen=unix:$TEST_DIR/run/s"
expect_equal 700 "$(stat -c %a "$TEST_DIR/made")" "mode of the store"
expect_equal 750 "$(stat -c %a "$TEST_DIR/run")" "mode of the socket's directory"
expect_equal 660 "$(stat -c %a "$TEST_DIR/run/s")" "mode of the socket"
stop_daemon

# SIGINT stops as SIGTERM does. (A shell's background jobs ignore it, hence env's help.)
DAEMON_PREFIX=(env --default-signal=INT)
start_daemon
pid=$DAEMON_PID
kill -INT "$pid"
DAEMON_PID=
wait "$pid" || fail "status $? after SIGINT"
log_says 'stopped' || fail "SIGINT did not stop cleanly"
DAEMON_PREFIX=(env)

# SIGHUP takes over what can change, names what waits, and refuses a bad file whole.
start_daemon
port=$(sed -n 's/.*metrics listens on tcp:127\.0\.0\.1:\([0-9]*\).*/\1/p' "$DAEMON_LOG")
# Into files: a grep that has seen enough would break curl's pipe.
curl -sf "http://127.0.0.1:$port/metrics" >"$TEST_DIR/metrics"
grep -q '^blobcache_read_pages_total{tier="L0"} ' "$TEST_DIR/metrics" || fail "/metrics"
curl -sf "http://127.0.0.1:$port/" >"$TEST_DIR/page"
grep -q '<h1>blobcached' "$TEST_DIR/page" || fail "the status page"
cp "$CONFIG" "$TEST_DIR/good.toml"
sed -i 's/memory = .*/memory = "128MiB"/; s/^listen = "127.*/listen = ""/' "$CONFIG"
printf '[log]\nlevel = "debug"\n' >>"$CONFIG"
kill -HUP "$DAEMON_PID"
wait_for_log 'reload: log\.level is now "debug"'
wait_for_log 'reload: metrics\.listen is now ""'
wait_for_log 'reload: store\.memory has changed; it takes effect at the next start'
wait_for_log 'reload: done'
if curl -sf "http://127.0.0.1:$port/" >/dev/null; then fail "the metrics still listen"; fi
ctl config show | grep -q '^memory = "64MiB"$' || fail "config show does not show what is in force"
ctl config show | grep -q '^level = "debug"$' || fail "config show does not show what was reloaded"
echo 'nonsense = 1' >>"$CONFIG"
kill -HUP "$DAEMON_PID"
wait_for_log 'reload: .*log\.nonsense: unknown key'
wait_for_log 'reload: the configuration stays as it was'
ctl status >/dev/null || fail "the daemon suffered from a bad file"
stop_daemon
cp "$TEST_DIR/good.toml" "$CONFIG"

# A killed daemon's sockets and lock are no obstacle.
start_daemon
kill_daemon
[[ -S $GRPC_SOCKET && -S $NBD_SOCKET ]] || fail "SIGKILL left no sockets; this test is out of date"
start_daemon
ctl status >/dev/null
stop_daemon

# A mount that is asked for is there at ready and gone after the stop, open files or not.
if [[ -c /dev/fuse && -w /dev/fuse ]]; then
  mkdir -p "$MNT"
  start_daemon --set "fuse.mountpoint=$MNT"
  mountpoint -q "$MNT" || fail "not mounted at ready"
  exec 9<"$MNT/files/."
  stop_daemon
  exec 9<&-
  if mountpoint -q "$MNT"; then fail "still mounted after the stop"; fi

  # After a kill the dead mount is in the way of nothing.
  start_daemon --set "fuse.mountpoint=$MNT"
  kill_daemon
  start_daemon --set "fuse.mountpoint=$MNT"
  ls "$MNT/files" >/dev/null || fail "the mount after a kill does not work"

  # Somebody else's umount is noticed, and mounting again works.
  umount "$MNT"
  wait_for_log 'somebody unmounted it'
  ctl mount "$MNT"
  ls "$MNT/files" >/dev/null || fail "the second mount does not work"
  expect_fail 1 'mounted already' ctl mount "$MNT"
  stop_daemon
fi
