#!/bin/bash
# An NBD server that lists names as no good server has them: those that can be names are files with the right bytes, the
# others are not there, and the rest goes on.
. "$(dirname "$0")/lib.sh"
need jq python3
need_fuse

UPSTREAM=$TEST_DIR/odd.sock
# of BYTE COUNT: that many bytes.
of() { printf "%$2s" '' | tr ' ' "$1"; }

good=(plain Plain dir/inner "blank and 'quote'" $'line\nfeed' $'\x1b[2J' back\\slash ... "$(of n 255)" dir/-x)
bad=('' . .. ../up dir/../plain dir//twice /absolute trailing/ "$(of n 256)" "dir/$(of m 300)")
# names NAME...: as a JSON list, a character for each byte.
names() {
  python3 -c 'import json, os, sys
print(json.dumps([os.fsencode(name).decode("latin-1") for name in sys.argv[1:]]))' "$@"
}
listed=$(jq -nc --argjson a "$(names "${good[@]}")" --argjson b "$(names "${bad[@]}")" \
  '$b + $a + $a + ["bytes\u00ff\u0080", "nul\u0000byte"]')
served=$(jq -nc --argjson a "$(names "${good[@]}")" --argjson b "$(names "${bad[@]:1}")" \
  '$a + $b + ["bytes\u00ff\u0080", "nul\u0000byte"]')
in_background python3 "$SOURCE_DIR/test/system/odd_nbd_server.py" "$UPSTREAM" "$listed" "$served"
wait_until 20 test -S "$UPSTREAM" || fail "the server does not listen"

write_config
cat >>"$CONFIG" <<TOML
[[origin]]
name = "odd"
type = "nbd"
url = "nbd+unix:///?socket=$UPSTREAM"
connect_timeout = "5s"
request_timeout = "5s"
TOML
start_daemon
mount_at "$MNT"
odd=$MNT/origins/odd

# Each good one is there once, with its own bytes; case clashes are two.
(cd "$odd" && find . -type f -printf '%P\0') | sort -z >"$TEST_DIR/found"
printf '%s\0' "${good[@]}" $'bytes\xff\x80' | sort -z >"$TEST_DIR/expected"
expect_same "$TEST_DIR/expected" "$TEST_DIR/found" "what is listed"
for name in "${good[@]}" $'bytes\xff\x80'; do
  for _ in $(seq 100); do printf '%s' "$name"; done >"$TEST_DIR/content"
  expect_same "$TEST_DIR/content" "$odd/$name" "the bytes of $name"
done

# The others are not, by any door, and the daemon says so once.
for name in "$(of n 256)" "dir/$(of m 300)"; do
  expect_fail 1 'File name too long' cat "$odd/$name"
done
expect_fail 1 'No such file' cat "$odd/nul"
for name in ../up dir/../plain dir//twice trailing/; do
  expect_fail any 'bad path|no such file|".." has|have no meaning' ctl stat "origins/odd/$name"
done
expect_equal 1 "$(grep -c 'names that cannot be paths' "$DAEMON_LOG")" "how often the log tells of them"
# One line each for people, and all bytes for programs.
expect_equal 1 "$(ctl ls origins/odd | grep -c 'line\\nfeed')" "a name of two lines"
ctl --json ls origins/odd | jq -e '[.entries[].name] | index("line\nfeed") != null' >/dev/null || fail "JSON"
if ctl ls origins/odd | grep -q $'\x1b'; then fail "ls lets a name speak to the terminal"; fi
unmount_at "$MNT"
stop_daemon
