#!/bin/bash
# A program that cannot take over is refused, or gives way to the old one; a request that does not come to its end has
# the upgrade aborted within ten seconds. Whatever happens, mounts and what is open on them go on.
# limit: 240 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdkit python3
need_fuse
need_root

make_random "$TEST_DIR/a" 3M
mkdir "$TEST_DIR/images"
make_random "$TEST_DIR/images/disk" 4M
nbdkit -f -U "$TEST_DIR/nbd.sock" file dir="$TEST_DIR/images" &
BACKGROUND_PIDS+=("$!")
NBDKIT=$!
wait_until 20 test -S "$TEST_DIR/nbd.sock" || fail "nbdkit does not listen"
write_config
cat >>"$CONFIG" <<TOML

[[origin]]
name = "far"
type = "nbd"
url = "nbd+unix:///?socket=$TEST_DIR/nbd.sock"
TOML
start_daemon --set 'log.level="info"'
mount_at "$MNT"
ctl put "$TEST_DIR/a" --name a >/dev/null
exec {open}<"$MNT/files/a" {far}<"$MNT/origins/far/disk"
echo "written" >"$MNT/files/b"
exec {nameless}<>"$MNT/files/b"
rm "$MNT/files/b"

# goes_on WHAT: everything is as it was.
goes_on() {
  expect_equal "$DAEMON_PID" "$(status_of .pid)" "$1: the process"
  expect_equal "$(sha256_of "$TEST_DIR/a")" "$(sha256_of - <"/proc/self/fd/$open")" "$1: an open file"
  expect_equal "written" "$(cat "/proc/$$/fd/$nameless")" "$1: an open file without a name"
  expect_same "$TEST_DIR/a" "$MNT/files/a" "$1: a file"
}
program() { printf '%s\n' '#!/bin/bash' "$2" >"$TEST_DIR/$1" && chmod +x "$TEST_DIR/$1"; }
upgrade_to() { ctl upgrade --binary "$1"; }

# Refused, before anybody has to wait.
program hangs 'sleep 1000'
program lies 'exit 0'
printf 'no program' >"$TEST_DIR/plain"
cp "$BIN/blobcached" "$MNT/files/inside" && chmod +x "$MNT/files/inside"
expect_fail 1 'upgrade: /bin/false --check: ended with status 1' upgrade_to /bin/false
expect_fail 1 'upgrade: .*/hangs --check: did not end within 5s' upgrade_to "$TEST_DIR/hangs"
expect_fail 1 'does not say that it can take over' upgrade_to "$TEST_DIR/lies"
expect_fail 1 'plain: Permission denied' upgrade_to "$TEST_DIR/plain"
expect_fail 1 'none: No such file or directory' upgrade_to "$TEST_DIR/none"
expect_fail 1 'is no program file' upgrade_to "$TEST_DIR"
expect_fail 1 'lies on a mount of this daemon' upgrade_to "$MNT/files/inside"
if grep -q 'upgrade: to' "$DAEMON_LOG"; then fail "an upgrade was begun"; fi
sed -i 's/^memory = .*/memory = "nonsense"/' "$CONFIG"
expect_fail 1 'store.memory' upgrade_to "$BIN/blobcached"
sed -i 's/^memory = .*/memory = "64MiB"/' "$CONFIG"
goes_on "refused"

# They pass the check, and then fail, hang or crash while they start: the old program comes back.
mkfifo "$TEST_DIR/fifo"
# shellcheck disable=SC2016  # the scripts' own variables
in_start() {
  printf 'if [[ " $* " == *" --check "* ]]; then exec %q "$@"; fi\nexec %q %s' "$BIN/blobcached" "$BIN/blobcached" "$1"
}
program fails "$(in_start "--config $CONFIG --set store.path=$TEST_DIR/no/where")"
program stuck "$(in_start "--config $TEST_DIR/fifo")"
expect_fail 1 'aborted, and the former program serves: .*no/where' upgrade_to "$TEST_DIR/fails"
goes_on "failed"
expect_fail 1 'aborted, and the former program serves: the new program was not ready in time' \
  upgrade_to "$TEST_DIR/stuck"
goes_on "stuck"
is_stuck() { grep -qz "$TEST_DIR/fifo" "/proc/$DAEMON_PID/cmdline"; }
crash_when_stuck() { wait_until 20 is_stuck && kill -SEGV "$DAEMON_PID"; }
in_background crash_when_stuck
expect_fail 1 'aborted, and the former program serves: the new program crashed' upgrade_to "$TEST_DIR/stuck"
goes_on "crashed"

# A read of an origin that does not answer: aborted in time, and all else goes on meanwhile.
kill -STOP "$NBDKIT"
(head -c 100000 <&"$far" | sha256_of - >"$TEST_DIR/far") &
BACKGROUND_PIDS+=("$!")
reads_far() { [[ $(status_of '.origins[0].connections') -gt 0 ]] && grep -q . "/proc/$1/syscall"; }
wait_until 20 reads_far "$!" || fail "the origin is not read"
begin=$SECONDS
expect_fail 1 'aborted, and the former program serves: .*not answered in time' upgrade_to "$BIN/blobcached"
((SECONDS - begin <= 10)) || fail "the abort took $((SECONDS - begin)) s"
goes_on "aborted"
kill -CONT "$NBDKIT"
wait_until 40 test -s "$TEST_DIR/far" || fail "the read does not come to its end"
expect_equal "$(head -c 100000 "$TEST_DIR/images/disk" | sha256_of -)" "$(cat "$TEST_DIR/far")" "the read that waited"

# And one that is all right, by a signal: to the program that the daemon is from.
kill -USR2 "$DAEMON_PID"
wait_for_log 'upgrade: done'
goes_on "done"
expect_equal "$(tail -c +100001 "$TEST_DIR/images/disk" | sha256_of -)" "$(sha256_of - <&"$far")" \
  "the origin's open file"
exec {open}<&- {far}<&- {nameless}<&-
stop_daemon
