#!/bin/bash
# When the file system has no byte left, names and blobs can still be removed, and the room that this gives
# is there for puts; nothing else is harmed.
. "$(dirname "$0")/lib.sh"
need_root
need jq
mkdir "$STORE"
mount -t tmpfs -o size=24m none "$STORE" 2>/dev/null || skip "needs the right to mount tmpfs"

free_bytes() { echo $(($(stat -f -c '%a * %S' "$STORE"))); }
fill_up() {
  dd if=/dev/zero of="$STORE/filler" bs=4K status=none oflag=append conv=notrunc 2>/dev/null || true
  expect_equal 0 "$(free_bytes)" "free bytes, $1"
}

make_random "$TEST_DIR/first" 4M
make_random "$TEST_DIR/second" 3M
make_random "$TEST_DIR/small" 5K
make_random "$TEST_DIR/next" 2M
first=$(sha256_of "$TEST_DIR/first")

start_daemon
[[ -s $STORE/ballast ]] || fail "there is no ballast"
for file in first second small; do ctl put "$TEST_DIR/$file" --name "$file" >/dev/null; done
fill_up "beside the daemon"
expect_fail 1 'full|No space' ctl put "$TEST_DIR/next" --name next

# Nothing is free before the blob goes, too.
ctl rm files/first
ctl rm "blobs/$first"
expect_fail 1 'first' ctl get files/first
(($(free_bytes) >= 2 * 1024 * 1024)) || fail "only $(free_bytes) bytes are free after the removal"
[[ -s $STORE/ballast ]] || fail "the ballast did not come back"
ctl put "$TEST_DIR/next" --name next >/dev/null
for file in second small next; do
  ctl get "files/$file" | cmp - "$TEST_DIR/$file" || fail "$file after the removal"
done

# A daemon that is started on a full disk can be told what to remove.
fill_up "before the restart"
stop_daemon
fill_up "after the stop"
start_daemon
ctl rm files/second
ctl rm "blobs/$(sha256_of "$TEST_DIR/second")"
ctl put "$TEST_DIR/small" --name again >/dev/null
for file in small again next; do
  ctl get "files/$file" | cmp - "$TEST_DIR/${file/again/small}" || fail "$file after the restart"
done
stop_daemon
