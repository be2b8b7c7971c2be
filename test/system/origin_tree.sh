#!/bin/bash
# An origin in the tree, with a real NBD server behind it: names, reads and writes through every door, what is cached
# and for how long, volumes over it, and what is said while it is away.
# limit: 300 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdinfo nbdcopy nbdkit qemu-io cmp getfattr

mkdir "$TEST_DIR/images"
make_random "$TEST_DIR/images/base.img" 8M
make_random "$TEST_DIR/images/desk.img" 1M
UPSTREAM=$TEST_DIR/upstream.sock

start_upstream() {
  rm -f "$UPSTREAM"
  nbdkit -f -U "$UPSTREAM" "$@" &
  UPSTREAM_PID=$!
  BACKGROUND_PIDS+=("$UPSTREAM_PID")
  wait_until 20 test -S "$UPSTREAM" || fail "nbdkit does not listen"
}
stop_upstream() { end_process "$UPSTREAM_PID" TERM 10 || end_process "$UPSTREAM_PID" KILL 5; }

write_config
cat >>"$CONFIG" <<TOML

[[origin]]
name = "golden"
type = "nbd"
url = "nbd+unix:///base.img?socket=$UPSTREAM"
immutable = true
connect_timeout = "2s"
request_timeout = "3s"

[[origin]]
name = "desk"
type = "nbd"
url = "nbd+unix:///desk.img?socket=$UPSTREAM"
read_only = false
connect_timeout = "2s"
request_timeout = "3s"
TOML

# The daemon starts without its origins, and says so when it is asked.
start_daemon
expect_equal '["desk","golden"]' "$(ctl --json ls origins | jq -c '[.entries[].name]')" "the origins"
expect_fail 1 'origins/golden/base\.img' ctl stat origins/golden/base.img
expect_equal '[false]' "$(ctl --json status | jq -c '[.origins[] | select(.name == "golden") | .reachable]')" \
  "an origin that is away"

# With it, its files are there.
start_upstream file dir="$TEST_DIR/images"
expect_equal '["file",8388608,"cached"]' \
  "$(ctl --json stat origins/golden/base.img | jq -c '[.type, .size, .retention]')" "the file's facts"
expect_equal '["image","0600"]' "$(ctl --json stat origins/desk/desk.img | jq -c '[.type, .mode]')" "the image's facts"
ctl get origins/golden/base.img -o "$TEST_DIR/got"
expect_same "$TEST_DIR/images/base.img" "$TEST_DIR/got" "get"
nbdcopy "$(nbd_uri origins/golden/base.img)" "$TEST_DIR/nbd"
expect_same "$TEST_DIR/images/base.img" "$TEST_DIR/nbd" "NBD"
nbdinfo --list "nbd+unix:///?socket=$NBD_SOCKET" >"$TEST_DIR/list"
grep -q 'origins/golden/base\.img' "$TEST_DIR/list" || fail "the export is not listed"
expect_fail 1 'never kept' ctl pin origins/golden/base.img
expect_fail 1 'not ours to remove' ctl rm origins/golden/base.img
expect_fail 1 'image that may change' ctl get origins/desk/desk.img

# What is cached serves without the origin, after a restart, too.
ctl volume create over --base origins/golden/base.img >/dev/null
qemu-io -f raw -c 'write -P 0x11 4096 4096' "$(nbd_uri volumes/over)" >/dev/null
expect_fail 1 'an image that may change' ctl volume create none --base origins/desk/desk.img
stop_daemon
start_daemon
nbdcopy "$(nbd_uri volumes/over)" "$TEST_DIR/over"
qemu-io -f raw -c 'write -P 0x11 4096 4096' "$TEST_DIR/got" >/dev/null
expect_same "$TEST_DIR/got" "$TEST_DIR/over" "a volume over an origin"

# Writes go through.
qemu-io -f raw -c 'write -P 0x22 8192 4096' -c flush "$(nbd_uri origins/desk/desk.img)" >/dev/null
expect_equal "$(head -c 4096 /dev/zero | tr '\0' '\42' | sha256_of -)" \
  "$(dd if="$TEST_DIR/images/desk.img" bs=4096 skip=2 count=1 status=none | sha256_of -)" \
  "what the origin holds"

if [[ -c /dev/fuse ]] && command -v fusermount3 >/dev/null; then
  mount_at "$MNT"
  dd if="$MNT/origins/desk/desk.img" bs=4096 skip=2 count=1 status=none | sha256_of - >"$TEST_DIR/fuse"
  expect_equal "$(head -c 4096 /dev/zero | tr '\0' '\42' | sha256_of -)" "$(cat "$TEST_DIR/fuse")" "FUSE"
  # Where it comes from is a URL that another client can use.
  origin=$(getfattr --absolute-names --only-values -n user.blobcache.origin "$MNT/origins/desk/desk.img")
  expect_equal "desk nbd nbd+unix:///desk.img?socket=$UPSTREAM" "$origin" "where an image comes from"
  expect_equal 1048576 "$(nbdinfo --size "${origin##* }")" "what is found there"
  cmp -n 4096 "$TEST_DIR/nbd" "$MNT/origins/golden/base.img" || fail "FUSE: the file's bytes"
fi

stop_upstream
expect_fail 1 'origins/golden/base\.img' ctl evict origins/golden/base.img
stop_daemon
