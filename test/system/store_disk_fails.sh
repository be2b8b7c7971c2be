#!/bin/bash
# A store that turns read-only refuses puts and says so, is read as ever, and takes puts again once it can be written.
. "$(dirname "$0")/lib.sh"
need jq curl mount umount
need_root

# A mount that is written through cannot be made read-only, and the catalog always is. So the store's folder for
# puts gets a mount of its own, which nobody has a file open on.
make_read_only() {
  mount --bind "$STORE/tmp" "$STORE/tmp" && mount -o remount,bind,ro "$STORE/tmp"
}
metric() { curl -fsS "http://127.0.0.1:$port/metrics" | sed -n "s/^$1 //p"; }
is_out() { ctl --json status | jq -e '.disk_out' >/dev/null; }
put_last() { ctl put "$TEST_DIR/last" --name last >/dev/null 2>&1; }

make_random "$TEST_DIR/large" 3M
make_random "$TEST_DIR/small" 40K
make_random "$TEST_DIR/last" 3M
start_daemon
ctl put "$TEST_DIR/large" --name large >/dev/null
ctl put "$TEST_DIR/small" --name small >/dev/null
stop_daemon
start_daemon
port=$(sed -n 's/.*metrics listens on tcp:127\.0\.0\.1:\([0-9]*\).*/\1/p' "$DAEMON_LOG")
ctl get files/small -o "$TEST_DIR/in_memory"
if is_out; then fail "out of use before anything happened"; fi
expect_equal 0 "$(metric blobcache_disk_out)" "the metric, before"
used=$(status_of .disk.used)

make_read_only 2>/dev/null || skip "needs the right to mount"
expect_fail 1 '^blobcachectl: .*Read-only file system' ctl put "$TEST_DIR/last" --name last
expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines of the error"
is_out || fail "status does not say that the disk tier is out of use"
ctl status >"$TEST_DIR/status"
grep -q 'disk .*out of use' "$TEST_DIR/status" || fail "status for people: $(cat "$TEST_DIR/status")"
expect_equal 1 "$(metric blobcache_disk_out)" "the metric"
expect_fail 1 '^blobcachectl: .*Read-only file system' ctl put - --name last <"$TEST_DIR/last"
(($(status_of .disk_errors) >= 1)) || fail "no disk error is counted"

# What is in memory and what is on disk is read, and says nothing of writes.
ctl get files/small | cmp - "$TEST_DIR/small" || fail "what memory has"
ctl get files/large | cmp - "$TEST_DIR/large" || fail "what the disk has"
is_out || fail "a read made the disk tier fit for puts"
expect_fail 1 'last' ctl get files/last
expect_equal "$used" "$(status_of .disk.used)" "disk used"
expect_equal 1 "$(grep -c 'out of use' "$DAEMON_LOG")" "lines of the log about it"

umount "$STORE/tmp"
wait_until 90 put_last || fail "no put goes, though the store can be written again"
if is_out; then fail "still out of use after a put"; fi
expect_equal 0 "$(metric blobcache_disk_out)" "the metric, after"
for name in small large last; do
  ctl get "files/$name" | cmp - "$TEST_DIR/$name" || fail "$name, after"
done
stop_daemon
