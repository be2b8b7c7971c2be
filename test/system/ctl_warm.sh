#!/bin/bash
# What is warmed is on the disk before somebody reads it: a range, a file, several, with the command waiting or not.
# limit: 180 seconds
. "$(dirname "$0")/lib.sh"
need jq nbdkit find

SHARE=$TEST_DIR/share
mkdir -p "$SHARE" "$TEST_DIR/images"
make_random "$SHARE/model" 20M
make_random "$SHARE/other" 3M
make_random "$TEST_DIR/images/base.img" 9M
UPSTREAM=$TEST_DIR/upstream.sock
nbdkit -f -U "$UPSTREAM" file dir="$TEST_DIR/images" &
BACKGROUND_PIDS+=("$!")
wait_until 20 test -S "$UPSTREAM" || fail "nbdkit does not listen"
write_config
cat >>"$CONFIG" <<TOML

[[origin]]
name = "share"
type = "dir"
path = "$SHARE"

[[origin]]
name = "golden"
type = "nbd"
url = "nbd+unix:///?socket=$UPSTREAM"
immutable = true

[[origin]]
name = "fleeting"
type = "nbd"
url = "nbd+unix:///?socket=$UPSTREAM"
TOML
start_daemon
is_old() { [[ -z $(find "$1" -newerct '4 seconds ago') ]]; }
wait_until 20 is_old "$SHARE/other" || fail "a file does not age"
disk_pages() { ctl --json stat "$1" | jq .residency.disk_pages; }
read_of() { ctl --json status | jq ".origins[] | select(.name == \"$1\") | .bytes_read"; }

# A range, then the rest, of which nothing is fetched twice.
expect_equal '[4194304,4194304]' \
  "$(ctl --json warm origins/share/model --range 1MiB:4MiB --wait | jq -c '.warmed[0] | [.length, .fetched]')" "a range"
expect_equal 1024 "$(disk_pages origins/share/model)" "pages of a range on disk"
ctl warm origins/share/model --wait >"$TEST_DIR/said"
expect_equal "origins/share/model: 20.0 MiB on disk, 16.0 MiB of it fetched" "$(cat "$TEST_DIR/said")" "what is said"
expect_equal 5120 "$(disk_pages origins/share/model)" "pages of a file on disk"
expect_equal 20971520 "$(read_of share)" "bytes that came from the origin"

# Several, and one that cannot be; the others are done all the same.
expect_fail 1 'warm origins/share/none: ' ctl warm origins/share/none origins/golden/base.img --wait
expect_equal 2304 "$(disk_pages origins/golden/base.img)" "pages of an export on disk"

# Without --wait it is begun.
expect_equal '["origins/share/other"]' "$(ctl --json warm origins/share/other | jq -c .begun)" "what is begun"
is_warm() { (($(disk_pages origins/share/other) == 768)); }
wait_until 30 is_warm || fail "what was begun does not come to its end"
wait_for_log 'warmed origins/share/other: '

# It serves without the origin being read, after a restart, too.
stop_daemon
start_daemon
ctl get origins/share/model -o "$TEST_DIR/got"
expect_same "$SHARE/model" "$TEST_DIR/got" "a warm file"
ctl get origins/golden/base.img -o "$TEST_DIR/got"
expect_same "$TEST_DIR/images/base.img" "$TEST_DIR/got" "a warm export"
expect_equal 0 "$(read_of share)" "bytes read of a warm file"
expect_equal 0 "$(read_of golden)" "bytes read of a warm export"

# What makes no sense is said.
expect_fail 1 'nothing of it would stay' ctl warm origins/fleeting/base.img
expect_fail 1 'directory' ctl warm origins/share --wait
expect_fail 1 'past the end' ctl warm origins/share/other --range 4MiB:1MiB
expect_fail 2 'OFFSET:LENGTH' ctl warm origins/share/other --range 4MiB
expect_fail 2 'no bytes' ctl warm origins/share/other --range 0:0
echo text | ctl put - --name here >/dev/null
expect_equal 0 "$(ctl --json warm files/here --wait | jq .warmed[0].fetched)" "what is fetched of what is here"
stop_daemon
