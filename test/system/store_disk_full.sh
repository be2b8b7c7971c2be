#!/bin/bash
# A put that does not fit, into the budget or onto the disk, fails with one clear line and changes nothing.
. "$(dirname "$0")/lib.sh"
need jq
full='^blobcachectl: .*([Bb]udget|full|[Rr]eserve|No space|RESOURCE_EXHAUSTED)'

make_random "$TEST_DIR/first" 20M
make_random "$TEST_DIR/big" 40M
make_random "$TEST_DIR/last" 2M
no_temporary_files() { [[ -z $(find "$STORE/tmp" -type f 2>/dev/null) ]]; }

# too_full WHY: with first put, big must fail, by size and while it streams, and last must still go.
too_full() {
  ctl put "$TEST_DIR/first" --name first >/dev/null
  local used blobs
  used=$(status_of .disk.used)
  blobs=$(status_of .blobs)
  expect_fail 1 "$full" ctl put "$TEST_DIR/big" --name big
  expect_equal 1 "$(wc -l <"$TEST_DIR/expect.err")" "lines of the error, $1"
  expect_fail 1 "$full" ctl put - --name big < <(cat "$TEST_DIR/big" 2>/dev/null)
  expect_fail 1 'big' ctl get files/big
  wait_until 30 no_temporary_files || fail "left in tmp/, $1: $(find "$STORE/tmp" -type f)"
  expect_equal "$used" "$(status_of .disk.used)" "disk used, $1"
  expect_equal "$blobs" "$(status_of .blobs)" "blobs, $1"
  ctl put "$TEST_DIR/last" --name last >/dev/null
  ctl get files/first | cmp - "$TEST_DIR/first" || fail "the first file, $1"
  ctl get files/last | cmp - "$TEST_DIR/last" || fail "the last file, $1"
}

start_daemon --set store.disk=32MiB
too_full "by budget"
stop_daemon

# Room that is given back can be used again, also after a restart.
start_daemon --set store.disk=32MiB
ctl rm files/first
ctl rm "blobs/$(sha256_of "$TEST_DIR/first")"
make_random "$TEST_DIR/second" 22M
ctl put "$TEST_DIR/second" --name second >/dev/null
ctl get files/second | cmp - "$TEST_DIR/second" || fail "what took the room"
stop_daemon

need_root
rm -rf "$STORE"
mkdir "$STORE"
mount -t tmpfs -o size=48m none "$STORE" 2>/dev/null || skip "the file system's part needs the right to mount tmpfs"
start_daemon
too_full "by file system"
stop_daemon
umount "$STORE"

need_loop
need mke2fs
truncate -s 64M "$TEST_DIR/disk"
mke2fs -q -t ext4 "$TEST_DIR/disk"
mount -o loop "$TEST_DIR/disk" "$STORE"
start_daemon
too_full "by ext4"
stop_daemon
start_daemon
ctl get files/first | cmp - "$TEST_DIR/first" || fail "the first file after a restart on a full disk"
stop_daemon
umount "$STORE"
