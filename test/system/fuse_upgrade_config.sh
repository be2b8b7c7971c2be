#!/bin/bash
# An upgrade reads the configuration anew. What it cannot do by that leads back to the former program, which goes on by
# what it ran by; and a store stays the store that it was.
. "$(dirname "$0")/lib.sh"
need jq python3
need_fuse
need_root

write_config
mkdir "$TEST_DIR/other"
start_daemon --set 'log.level="info"'
mount_at "$MNT"
echo hello >"$MNT/files/a"
mkdir "$TEST_DIR/back"
ctl mount --writeback-cache --subtree files "$TEST_DIR/back"
exec 5<"$MNT/files/a"
cp "$CONFIG" "$TEST_DIR/good.toml"

# goes_on WHAT: the former program serves, with the same mounts and what is open.
goes_on() {
  kill -0 "$DAEMON_PID" 2>/dev/null || fail "$1: the daemon is gone"
  expect_equal hello "$(cat <&5)" "$1: an open file"
  exec 5<"$MNT/files/a"
  expect_equal hello "$(cat "$MNT/files/a")" "$1: a file"
  expect_equal '[false,true]' "$(ctl --json status | jq -c '[.mounts | sort_by(.subtree)[] | .writeback_cache]')" \
    "$1: the mounts"
  cp "$TEST_DIR/good.toml" "$CONFIG"
}
in_the_way() { exec python3 -c '
import socket, time
taken = socket.socket()
taken.bind(("127.0.0.1", 0))
taken.listen()
print(taken.getsockname()[1], flush=True)
time.sleep(1000)'; }

# Another store, which some other daemon may have.
sed -i "s#^path = .*#path = \"$TEST_DIR/other\"#" "$CONFIG"
expect_fail 1 'aborted, and the former program serves: store\.path: is .*other now' ctl upgrade
goes_on "another store"
[[ -z $(ls -A "$TEST_DIR/other") ]] || fail "something was written to the other store"
sed -i 's#^path = .*#path = "/proc/nowhere/store"#' "$CONFIG"
expect_fail 1 'aborted, and the former program serves' ctl upgrade
goes_on "no store"

# A port that is taken.
in_background in_the_way >"$TEST_DIR/port"
wait_until 10 test -s "$TEST_DIR/port" || fail "no port is taken"
sed -i "s#^listen = \[\"unix:$NBD_SOCKET\"\]#listen = [\"tcp:127.0.0.1:$(cat "$TEST_DIR/port")\"]#" "$CONFIG"
expect_fail 1 'aborted, and the former program serves: .*(in use|already)' ctl upgrade
goes_on "a port for NBD that is taken"
sed -i "s#127.0.0.1:0#127.0.0.1:$(cat "$TEST_DIR/port")#" "$CONFIG"
expect_fail 1 'aborted, and the former program serves' ctl upgrade
goes_on "a port for metrics that is taken"

# A configuration that is all right is taken, and the mounts tell of themselves as before.
sed -i 's#^memory = .*#memory = "65MiB"#' "$CONFIG"
ctl upgrade >/dev/null || fail "an upgrade to another configuration"
expect_equal 68157440 "$(ctl --json status | jq .memory.budget)" "the budget after it"
cp "$CONFIG" "$TEST_DIR/good.toml"
goes_on "done"
exec 5<&-
unmount_at "$TEST_DIR/back"
unmount_at "$MNT"
stop_daemon
