#!/bin/bash
# What a program needs to be started must not lie on a mount of the daemon, which waits during an upgrade: its
# interpreter, a script's, a library. Such a program is refused, and everybody goes on.
. "$(dirname "$0")/lib.sh"
need jq ldd python3 readelf
need_fuse
need_root

start_daemon --set 'log.level="info"'
mount_at "$MNT"
ours=$MNT/files/ours
mkdir "$ours" "$ours/lib" "$TEST_DIR/programs"
echo "content" >"$MNT/files/a"
exec {open}<"$MNT/files/a"

# with_interpreter FROM TO INTERPRETER: the same program, which the kernel starts by another interpreter.
with_interpreter() {
  python3 - "$@" <<'PY'
import struct, sys

source, target, interpreter = sys.argv[1:]
with open(source, "rb") as file:
    image = bytearray(file.read())
PT_INTERP = 3
table, size, count = struct.unpack_from("<Q", image, 32)[0], *struct.unpack_from("<HH", image, 54)
for at in range(table, table + size * count, size):
    if struct.unpack_from("<I", image, at)[0] == PT_INTERP:
        name = interpreter.encode() + b"\0"
        struct.pack_into("<Q", image, at + 8, len(image))
        struct.pack_into("<QQ", image, at + 32, len(name), len(name))
        image += name
        break
else:
    sys.exit(f"{source} has no interpreter")
with open(target, "wb") as file:
    file.write(image)
PY
  chmod 0755 "$2"
}
interpreter_of() { readelf -l "$1" | sed -n 's/.*interpreter: \(.*\)\]/\1/p'; }
# script NAME INTERPRETER LINE...
script() {
  printf '%s\n' "#!$2" "${@:3}" >"$TEST_DIR/programs/$1"
  chmod 0755 "$TEST_DIR/programs/$1"
}
goes_on() {
  expect_equal "$DAEMON_PID" "$(status_of .pid)" "$1: the process"
  expect_equal "content" "$(cat "/proc/self/fd/$open")" "$1: an open file"
}
refused() {
  expect_fail 1 "$1: needs a file that lies on a mount of this daemon" ctl upgrade --binary "$TEST_DIR/programs/$1"
  goes_on "$1"
}

loader=$(interpreter_of "$BIN/blobcached")
cp "$loader" "$ours/loader"
cp "$(command -v bash)" "$ours/bash"
library=$(ldd "$BIN/blobcached" | awk '$3 ~ "^/" && !/asan|tsan/ { all[++n] = $3 } END { print all[1] }')
cp "$library" "$ours/lib"

with_interpreter "$BIN/blobcached" "$TEST_DIR/programs/elf" "$ours/loader"
refused elf
# The same program, but for where its interpreter is.
with_interpreter "$BIN/blobcached" "$TEST_DIR/programs/same" "$loader"

# shellcheck disable=SC2016  # the scripts' own variables
{
  script script "$ours/bash" "exec \"$BIN/blobcached\" \"\$@\""
  script library /bin/bash "LD_LIBRARY_PATH=\"$ours/lib\" exec \"$BIN/blobcached\" \"\$@\""
  script calls /bin/bash "\"$ours/bash\" -c true" "exec \"$BIN/blobcached\" \"\$@\""
  script reads /bin/bash "cat \"$MNT/files/a\" >/dev/null" "exec \"$BIN/blobcached\" \"\$@\""
}
refused script
refused library
refused calls
refused reads
# So is one that is well, and would read a file of the configuration there.
tcp="unix:$GRPC_SOCKET\", \"tcp:127.0.0.1:0"
sed -i "s#^listen = \[\"unix:$GRPC_SOCKET\"\]#listen = [\"$tcp\"]\ntoken_file = \"$ours/token\"#" "$CONFIG"
(umask 077 && echo "a-token-that-is-long-enough" >"$ours/token")
cp "$TEST_DIR/programs/same" "$TEST_DIR/programs/token"
refused token
sed -i '/^token_file/d; s#, "tcp:127.0.0.1:0"##' "$CONFIG"
if grep -q 'upgrade: to' "$DAEMON_LOG"; then fail "an upgrade was begun"; fi

# Who else uses the mount meanwhile is nobody's business.
uses_it() { while :; do cat "$ours/bash" "$MNT/files/a" >/dev/null; done; }
in_background uses_it
ctl upgrade --binary "$TEST_DIR/programs/same" >/dev/null || fail "a program whose files are elsewhere"
goes_on "done"
end_process "$BACKGROUND_PID" TERM 10 || fail "a user of the mount does not end"
exec {open}<&-
unmount_at "$MNT"
stop_daemon
