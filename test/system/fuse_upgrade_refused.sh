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
nbdkit -f -U "$TEST_DIR/far.sock" file dir="$TEST_DIR/images" &
BACKGROUND_PIDS+=("$!")
NBDKIT=$!
wait_until 20 test -S "$TEST_DIR/far.sock" || fail "nbdkit does not listen"
write_config
cat >>"$CONFIG" <<TOML

[[origin]]
name = "far"
type = "nbd"
url = "nbd+unix:///?socket=$TEST_DIR/far.sock"
TOML
start_daemon --set 'log.level="info"'
mount_at "$MNT"
ctl put "$TEST_DIR/a" --name a >/dev/null
exec {open}<"$MNT/files/a"
echo "written" >"$MNT/files/b"
exec {nameless}<>"$MNT/files/b"
rm "$MNT/files/b"

# Reads what the kernel has not cached of the origin's file, when it is told to, and once more.
in_background python3 - "$MNT/origins/far/disk" "$TEST_DIR/images/disk" "$TEST_DIR/far" <<'PY'
import mmap, os, sys, time

there, here, told = sys.argv[1:]
fd = os.open(there, os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 65536)
with open(here, "rb") as file:
    content = file.read()
for turn in range(3):
    while not os.path.exists(f"{told}.go{turn}"):
        time.sleep(0.02)
    at = turn * (1 << 20)
    got = os.preadv(fd, [buffer], at)
    same = got == len(buffer) and buffer[:] == content[at:at + got]
    with open(f"{told}.done{turn}", "w") as file:
        file.write("same" if same else "other bytes")
PY
FAR=$BACKGROUND_PID
far_says() { expect_equal same "$(cat "$TEST_DIR/far.done$1")" "what the origin's open file has"; }
touch "$TEST_DIR/far.go0"
wait_until 20 test -s "$TEST_DIR/far.done0" || fail "the origin's file is not read"
far_says 0

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
cp "$BIN/blobcached" "$TEST_DIR/shared" && chmod 0777 "$TEST_DIR/shared"
expect_fail 1 'shared can be changed by others than root and the daemon.s user' upgrade_to "$TEST_DIR/shared"
mkdir "$TEST_DIR/theirs" && cp "$BIN/blobcached" "$TEST_DIR/theirs" && chown 1234 "$TEST_DIR/theirs"
expect_fail 1 'theirs can be changed by others' upgrade_to "$TEST_DIR/theirs/blobcached"
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
# It is the new program, and has come as far as to catch SIGALRM, the last that it does.
is_stuck() {
  grep -qz "$TEST_DIR/fifo" "/proc/$DAEMON_PID/cmdline" &&
    ((0x$(awk '/^SigCgt/ { print $2 }' "/proc/$DAEMON_PID/status") & 0x2000))
}
crash_when_stuck() { wait_until 20 is_stuck && kill -SEGV "$DAEMON_PID"; }
in_background crash_when_stuck
expect_fail 1 'aborted, and the former program serves: the new program crashed' upgrade_to "$TEST_DIR/stuck"
goes_on "crashed"

# A read of an origin that does not answer: aborted in time, and all else goes on meanwhile.
kill -STOP "$NBDKIT"
touch "$TEST_DIR/far.go1"
waits_for_far() { grep -q fuse "/proc/$FAR/stack"; }
wait_until 20 waits_for_far || fail "the origin is not read"
begin=$SECONDS
expect_fail 1 'aborted, and the former program serves: .*not answered in time' upgrade_to "$BIN/blobcached"
((SECONDS - begin <= 10)) || fail "the abort took $((SECONDS - begin)) s"
goes_on "aborted"
[[ ! -e $TEST_DIR/far.done1 ]] || fail "the read of the origin has come to its end"
kill -CONT "$NBDKIT"
wait_until 40 test -s "$TEST_DIR/far.done1" || fail "the read does not come to its end"
far_says 1

# And one that is all right, by a signal: to the program that the daemon is from.
kill -USR2 "$DAEMON_PID"
wait_for_log 'upgrade: done'
goes_on "done"
touch "$TEST_DIR/far.go2"
wait_until 20 test -s "$TEST_DIR/far.done2" || fail "the origin's file is not read"
far_says 2
wait "$FAR" || fail "the reader of the origin failed"
exec {open}<&- {nameless}<&-
stop_daemon
