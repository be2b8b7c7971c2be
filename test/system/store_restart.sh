#!/bin/bash
# After a restart everything is there as it was, and is read from disk, not put again.
. "$(dirname "$0")/lib.sh"
need jq nbdcopy

make_random "$TEST_DIR/image" 32M
make_random "$TEST_DIR/small" 5000
start_daemon
ctl put "$TEST_DIR/image" --name images/image >/dev/null
ctl put "$TEST_DIR/small" --name small >/dev/null
unnamed=$(ctl put - <"$TEST_DIR/small" | sed 's/^sha256://')
before=$(ctl ls files/images -l)
blobs=$(status_of .blobs)
stop_daemon

start_daemon
expect_equal "$before" "$(ctl ls files/images -l)" "the listing after a restart"
expect_equal "$blobs" "$(status_of .blobs)" "blobs after a restart"
expect_equal 0 "$(status_of .disk_hit_pages)" "pages read before the first read"

nbdcopy "$(nbd_uri files/images/image)" "$TEST_DIR/back"
expect_same "$TEST_DIR/image" "$TEST_DIR/back" "the image after a restart"
ctl get "sha256:$unnamed" | cmp - "$TEST_DIR/small" || fail "a blob without a name after a restart"

pages=$((32 * 1024 * 1024 / 4096))
(($(status_of .disk_hit_pages) >= pages)) || fail "the first read did not come from disk: $(ctl --json status)"
expect_equal 0 "$(status_of .disk_written_bytes)" "bytes written by reading"

# The second read comes from memory.
memory=$(status_of .memory_hit_pages)
nbdcopy "$(nbd_uri files/images/image)" "$TEST_DIR/back"
expect_same "$TEST_DIR/image" "$TEST_DIR/back" "the image, read again"
(($(status_of .memory_hit_pages) - memory >= pages)) || fail "the second read did not come from memory"
stop_daemon

# A daemon that was killed while idle comes back the same.
start_daemon
kill_daemon
start_daemon
ctl get files/images/image | cmp - "$TEST_DIR/image" || fail "the image after a kill"
stop_daemon
