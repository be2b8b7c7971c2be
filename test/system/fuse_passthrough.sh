#!/bin/bash
# Files that the kernel reads by itself (fuse.passthrough): which, that their bytes are right whatever happens to names
# and to the store meanwhile, and that none is passed through whose bytes were not verified.
# limit: 240 seconds
. "$(dirname "$0")/lib.sh"
need jq python3 cmp nbdkit
need_fuse
need_root
write_config
"$BIN/blobcached" --config "$CONFIG" --set fuse.passthrough=on --check >/dev/null 2>&1 ||
  skip "needs a build with libfuse 3.17"

passed() { ctl --json status | jq .fuse.passed_through; }
# opens FILE: opened and read from, and whether the kernel does that by itself.
is_passed() {
  local before
  before=$(passed)
  head -c 1 "$1" >/dev/null
  (($(passed) > before))
}
not_passed_for_a_while() {
  local i
  for i in 1 2 3 4 5 6; do
    if is_passed "$1"; then fail "$1 is passed through: $2"; fi
    sleep 0.05
  done
}
# Memory alone vouches for what was just put; the disk's copy is read back when somebody has read it.
read_until_passed() {
  dd if="$1" of=/dev/null bs=1M iflag=direct status=none # past the kernel's cache
  wait_until 20 is_passed "$1" || fail "$1 is not passed through"
}
sent() { ctl --json status | jq .fuse.bytes_out; }

mkdir "$TEST_DIR/images"
make_random "$TEST_DIR/images/o.img" 3M
UPSTREAM=$TEST_DIR/upstream.sock
in_background nbdkit -f -U "$UPSTREAM" file dir="$TEST_DIR/images"
wait_until 20 test -S "$UPSTREAM" || fail "nbdkit does not listen"
cat >>"$CONFIG" <<TOML

[[origin]]
name = "o"
type = "nbd"
url = "nbd+unix:///o.img?socket=$UPSTREAM"
immutable = true
TOML
start_daemon
mount_at "$MNT"
# The kernel may be older than 6.9, or not let us: the daemon says so and goes on without.
make_random "$TEST_DIR/a" 6M
ctl put "$TEST_DIR/a" --name files/a >/dev/null
chmod 0444 "$MNT/files/a"
cat "$MNT/files/a" >/dev/null
if ! wait_until 10 is_passed "$MNT/files/a"; then
  if log_says 'not passed through'; then skip "the kernel takes no file: $(grep 'not passed through' "$DAEMON_LOG")"; fi
  fail "a file that nobody may write to is not passed through"
fi

# The bytes are right, by every way of reading, and none of them comes by us.
before=$(sent)
cmp "$TEST_DIR/a" "$MNT/files/a" || fail "cmp"
cp "$MNT/files/a" "$TEST_DIR/copy"
cmp "$TEST_DIR/a" "$TEST_DIR/copy" || fail "cp"
python3 - "$MNT/files/a" "$TEST_DIR/a" <<'PY' || fail "a mapping"
import mmap, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
shared = mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)
private = mmap.mmap(fd, 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
want = open(sys.argv[2], "rb").read()
sys.exit(0 if shared[:] == want and private[:] == want else 1)
PY
expect_equal "$before" "$(sent)" "bytes that the daemon sent meanwhile"
# Direct I/O goes by us, and is not asked to be aligned.
python3 - "$MNT/files/a" "$TEST_DIR/a" <<'PY' || fail "an O_DIRECT read that is not aligned"
import mmap, os, sys
held = os.open(sys.argv[1], os.O_RDONLY)
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
into = mmap.mmap(-1, 8192)
n = os.preadv(fd, [memoryview(into)[7:5007]], 12345)
want = open(sys.argv[2], "rb").read()[12345:12345 + 5000]
sys.exit(0 if n == 5000 and into[7:5007] == want else 1)
PY
expect_equal 6291456 "$(stat -c %s "$MNT/files/a")" "its size"
digest=$(getfattr --absolute-names --only-values -n user.blobcache.digest "$MNT/files/a" | cut -d: -f2)
read_until_passed "$MNT/blobs/$digest"
cmp "$TEST_DIR/a" "$MNT/blobs/$digest" || fail "the blob"
cmp "$TEST_DIR/images/o.img" "$MNT/origins/o/o.img" || fail "the origin's file"
read_until_passed "$MNT/origins/o/o.img"
cmp "$TEST_DIR/images/o.img" "$MNT/origins/o/o.img" || fail "the origin's file, passed through"

# A program runs from it.
cp "$(readlink -f /bin/bash)" "$TEST_DIR/bash"
ctl put "$TEST_DIR/bash" --name files/bash >/dev/null
chmod 0555 "$MNT/files/bash"
read_until_passed "$MNT/files/bash"
# shellcheck disable=SC2016  # the other shell's
expect_equal 42 "$("$MNT/files/bash" -c 'echo $((6 * 7))')" "a program in the mount"

# Who has it open keeps its bytes: when the name is bound anew, removed, the blob forgotten, the mount crowded.
make_random "$TEST_DIR/b" 6M
exec 5<"$MNT/files/a"
ctl put "$TEST_DIR/b" --name files/a >/dev/null
cmp "$TEST_DIR/a" /proc/self/fd/5 || fail "bytes of an open file after its name was bound anew"
cmp "$TEST_DIR/b" "$MNT/files/a" || fail "the new bytes"
ctl rm files/a
ctl gc --expire-now >/dev/null
cmp "$TEST_DIR/a" /proc/self/fd/5 || fail "bytes of an open file after gc"
exec 5<&-

# A file that may be written to is with us, and is seen to change at once.
make_random "$TEST_DIR/w" 2M
ctl put "$TEST_DIR/w" --name files/w >/dev/null
chmod 0644 "$MNT/files/w"
cat "$MNT/files/w" >/dev/null
not_passed_for_a_while "$MNT/files/w" "it may be written to"
exec 5<"$MNT/files/w"
printf 'X' | dd of="$MNT/files/w" bs=1 seek=4096 conv=notrunc status=none
expect_equal X "$(dd bs=1 skip=4096 count=1 status=none <&5)" "what was written meanwhile"
exec 5<&-
# Root may write to one that nobody may, but not beneath who reads it so.
chmod 0444 "$MNT/files/w"
settled() { [[ $(getfattr --absolute-names --only-values -n user.blobcache.settled "$MNT/files/w") == 1 ]]; }
wait_until 30 settled || fail "it does not settle"
read_until_passed "$MNT/files/w"
exec 5<"$MNT/files/w"
if err=$( (echo more >>"$MNT/files/w") 2>&1); then fail "a file that is passed through was opened for writing"; fi
grep -q 'Text file busy' <<<"$err" || fail "the wrong error: $err"
if err=$(truncate -s 0 "$MNT/files/w" 2>&1); then fail "a file that is passed through was cut short"; fi
grep -q 'Text file busy' <<<"$err" || fail "the wrong error: $err"
exec 5<&-
writable_again() { (echo more >>"$MNT/files/w") 2>/dev/null; }
wait_until 5 writable_again || fail "it cannot be written to after it was closed"
expect_equal more "$(tail -c 5 "$MNT/files/w")" "what was written then"

# A second mount goes its own way, with the same bytes.
mkdir "$TEST_DIR/second"
ctl mount --read-only "$TEST_DIR/second"
exec 5<"$MNT/blobs/$(sha256sum "$TEST_DIR/bash" | cut -d' ' -f1)"
cmp "$TEST_DIR/bash" "$TEST_DIR/second/files/bash" || fail "through another mount"
exec 5<&-
unmount_at "$TEST_DIR/second"

# Many opens and closes at once, of the same files: they agree, or some would fail.
# shellcheck disable=SC2016
in_background bash -c 'for i in $(seq 300); do head -c 1 "$1" >/dev/null || echo bad; done' _ "$MNT/files/bash" \
  >"$TEST_DIR/one"
one=$BACKGROUND_PID
for i in $(seq 300); do head -c 1 "$MNT/files/bash" >/dev/null || fail "open $i"; done
wait "$one"
[[ ! -s $TEST_DIR/one ]] || fail "an open failed beside others"
# An upgrade leaves what the kernel reads by itself as it is, and keeps its word about it.
read_until_passed "$MNT/origins/o/o.img"
exec 5<"$MNT/files/bash" 6<"$MNT/origins/o/o.img"
for round in 1 2; do
  ctl upgrade --binary "$BIN/blobcached" >/dev/null || fail "upgrade $round"
  cmp "$TEST_DIR/bash" /proc/self/fd/5 || fail "an open file after upgrade $round"
  ctl evict --tier all origins/o/o.img
  cmp "$TEST_DIR/images/o.img" /proc/self/fd/6 || fail "an origin's open file after upgrade $round"
  cmp "$TEST_DIR/bash" "$MNT/files/bash" || fail "an open beside one from before upgrade $round"
  if (echo more >>"$MNT/files/bash") 2>/dev/null; then fail "opened for writing beside one from before the upgrade"; fi
done
expect_equal 2 "$(ctl --json status | jq .fuse.open)" "open files after two upgrades"
exec 5<&- 6<&-
closed() { [[ $(ctl --json status | jq .fuse.open) == 0 ]]; }
wait_until 5 closed || fail "files that were closed are open"
(: >>"$MNT/files/bash") || fail "it cannot be opened for writing after it was closed"

unmount_at "$MNT"
stop_daemon

# "on": all that has settled. Who would write meanwhile is told so.
start_daemon --set fuse.passthrough=on
mount_at "$MNT"
make_random "$TEST_DIR/x" 2M
ctl put "$TEST_DIR/x" --name files/x >/dev/null
chmod 0644 "$MNT/files/x"
read_until_passed "$MNT/files/x"
exec 5<"$MNT/files/x"
if (echo more >>"$MNT/files/x") 2>/dev/null; then fail "opened for writing while it is passed through"; fi
exec 5<&-
more() { (echo more >>"$MNT/files/x") 2>/dev/null; }
wait_until 5 more || fail "it cannot be written to after it was closed"
exec 6>>"$MNT/files/x"
not_passed_for_a_while "$MNT/files/x" "somebody has it open for writing"
exec 6>&-
unmount_at "$MNT"
stop_daemon

# What the disk damaged is never passed through, and read as an error.
digest=$(sha256sum "$TEST_DIR/bash" | cut -d' ' -f1)
victim=$(find "$STORE/objects" -name "$digest.*" -size +200k ! -name '*.map' | head -n 1)
printf '\xff\x00\xff' | dd of="$victim" bs=1 seek=300000 conv=notrunc status=none
start_daemon
mount_at "$MNT"
if cat "$MNT/files/bash" >/dev/null 2>&1; then fail "a damaged file was read"; fi
not_passed_for_a_while "$MNT/files/bash" "it is damaged"
unmount_at "$MNT"
stop_daemon

# And "off" is off.
start_daemon --set fuse.passthrough=off
mount_at "$MNT"
cat "$MNT/blobs/$digest" >/dev/null 2>&1 || true
for i in 1 2 3; do cmp "$TEST_DIR/images/o.img" "$MNT/origins/o/o.img" || fail "the origin's file, off"; done
expect_equal 0 "$(passed)" "opens that were passed through"
